"""What scores answers: a reward by name, a function of the user's file, or a reward model from a folder or the Hub."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError, DataError
from preflab.data.examples import Example
from preflab.data.render import Template
from preflab.evals.reward_models import check_reward_model, load_reward_model
from preflab.evals.rewards import Reward
from preflab.models.load import resolve
from preflab.studies.bench import Bench
from preflab.studies.names import REWARDS, reward, reward_digest

Scores = Mapping[str, float]
_ROWS = 16
"""Rows of a forward of a reward model in a study."""


@dataclass(frozen=True)
class Scorer:
    """A reward that scores many responses at once.

    Args:
        name: as the user gave it.
        where: the option, or key of the study, that names it.
        device: where a reward model computes.
        source: of the rows, for errors.
        batch_size: rows of a forward of a reward model.
        template: how a reward model sees prompts.
        allow_remote_code: whether a reward model's own Python code may run.

    Raises:
        ConfigError: there is no such reward, or what is there is no reward model.
    """

    name: str
    where: str
    device: str
    source: str = ""
    batch_size: int = _ROWS
    template: Template = "auto"
    allow_remote_code: bool = False

    def __post_init__(self) -> None:
        assert self.digest and (self._folder is not None or self._function)

    @functools.cached_property
    def digest(self) -> str:
        """What identifies the reward: the code of a function, the weights of a model."""
        if self._folder is not None:
            try:
                return check_reward_model(self._folder, allow_remote_code=self.allow_remote_code)
            except ConfigError as error:
                raise ConfigError(f"{self.where}: {error}") from error
        assert self._function
        return reward_digest(self.name)

    @property
    def is_model(self) -> bool:
        """Whether it is a reward model."""
        return self._folder is not None

    def scores(self, asked: Sequence[tuple[Example, str]]) -> list[Scores]:
        """Return the scores of each response, the total under `reward`.

        Raises:
            DataError: the reward fails on a response; the message names its row.
        """
        if self._folder is not None:
            values = self._model.scores([(e.prompt, text) for e, text in asked], batch_size=self.batch_size)
            return [{"reward": value} for value in values]
        found = []
        for example, text in asked:
            try:
                found.append(self._function(example.prompt, text, example.meta))
            except DataError as error:
                raise DataError(f"{self.source}: row {example.row}: {error}" if self.source else str(error)) from error
        return found

    @functools.cached_property
    def _folder(self) -> Path | None:
        """The folder of a reward model, or None for the name of a function."""
        return resolve(self.name, allow_remote_code=self.allow_remote_code) if names_model(self.name) else None

    @functools.cached_property
    def _function(self) -> Reward:
        function = reward(self.name, where=self.where)
        assert function is not None
        return function

    @functools.cached_property
    def _model(self) -> Any:
        assert self._folder is not None
        return load_reward_model(
            self._folder, device=self.device, template=self.template, allow_remote_code=self.allow_remote_code
        )


def names_model(name: str) -> bool:
    """Return whether a reward's name is that of a model, a folder or a Hub id, and not of a function."""
    return name not in REWARDS and ".py" not in name and ("/" in name or Path(name).expanduser().is_dir())


def scorer_of(name: str | None, bench: Bench) -> Scorer | None:
    """Return what scores answers in a stage of a study, loaded once per process; None for no name."""
    if name is None:
        return None
    return _kept(name, bench.device, names_model(name) and bench.allows_code(resolve(name)))


@functools.lru_cache(maxsize=2)
def _kept(name: str, device: str, allow_remote_code: bool) -> Scorer:
    return Scorer(name, "evaluate.reward", device, allow_remote_code=allow_remote_code)

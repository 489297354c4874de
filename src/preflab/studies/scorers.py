"""What scores candidate answers: a reward by name, a function of the user's file, or a reward model."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preflab.core.errors import DataError
from preflab.data.examples import Example
from preflab.data.render import Template
from preflab.evals.reward_models import check_reward_model, load_reward_model
from preflab.models.devices import default_device
from preflab.models.load import resolve
from preflab.studies.names import REWARDS, reward, reward_digest

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Scorer:
    """A reward that scores many responses at once.

    Args:
        name: as the user gave it.
        source: of the rows, for errors.
        batch_size: rows of a forward of a reward model.
        template: how it sees prompts.
    """

    name: str
    source: str
    batch_size: int
    template: Template
    _folder: Path | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folder", _reward_model(self.name))
        if self._folder is None:
            reward(self.name, where="--reward")
        else:
            check_reward_model(self._folder)

    @functools.cached_property
    def digest(self) -> str:
        """What identifies the reward."""
        return reward_digest(self.name) if self._folder is None else check_reward_model(self._folder)

    def scores(self, asked: Sequence[tuple[Example, str]]) -> list[Scores]:
        """Return the scores of each response, the total under `reward`.

        Raises:
            DataError: the reward fails on a response; the message names its row.
        """
        if self._folder is not None:
            values = self._model.scores([(e.prompt, text) for e, text in asked], batch_size=self.batch_size)
            return [{"reward": value} for value in values]
        function = reward(self.name, where="--reward")
        assert function is not None
        found = []
        for example, text in asked:
            try:
                found.append(function(example.prompt, text, example.meta))
            except DataError as error:
                raise DataError(f"{self.source}: row {example.row}: {error}") from error
        return found

    @functools.cached_property
    def _model(self) -> Any:
        assert self._folder is not None
        return load_reward_model(self._folder, device=default_device(), template=self.template)


def _reward_model(name: str) -> Path | None:
    """Return the folder of a reward model, or None for the name of a function."""
    if name in REWARDS or ".py" in name or not ("/" in name or Path(name).expanduser().is_dir()):
        return None
    return resolve(name)

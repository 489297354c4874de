"""What must hold between a study's data and its methods, checked before any work."""

from collections.abc import Mapping, Sequence
from typing import Any

from preflab.core.errors import ConfigError, DataError
from preflab.data.examples import TokenRow
from preflab.methods import compares_pairs
from preflab.methods.needs import reads_pair_scores, roles_of
from preflab.store.artefacts import Artefact
from preflab.studies.cells import MethodGrid
from preflab.studies.config import StudyConfig
from preflab.studies.prepare import has_split, read_split
from preflab.studies.scorers import Scorer


def check_kind(kind: str, grids: Mapping[str, MethodGrid], config: StudyConfig) -> None:
    """Refuse methods that the kind of data cannot feed, and a selection that it cannot decide.

    Raises:
        ConfigError: with the methods that can be used.
    """
    for name, grid in grids.items():
        if grid.method.is_online:
            if config.online_reward == "model" and kind != "paired":
                raise ConfigError(
                    f"methods.{name}: its answers are judged by a reward model, which needs pairs to learn from, but "
                    f"data.train is {kind}; name another online.reward."
                )
            continue
        roles = roles_of(grid.method)
        suits = {
            "paired": True,
            "unpaired": "rejected" in roles and not compares_pairs(grid.method.inputs),
            "sft": roles == ("chosen",),
        }[kind]
        if not suits:
            remedy = "unpaired data suits kto and bco_unpaired" if kind == "unpaired" else "demonstrations suit sft"
            raise ConfigError(f"methods.{name}: needs pairs of responses, but data.train is {kind}; {remedy}.")
        if kind == "sft" and len(grid.settings) > 1 and config.evaluate.reward is None:
            raise ConfigError(
                f"methods.{name}: its settings cannot be compared on demonstrations, which have no worse response; "
                "name one value each, or evaluate.reward."
            )


def check_given(data: Mapping[str, Any], grids: Mapping[str, MethodGrid]) -> None:
    """Refuse methods that ask for a response or a score that some training rows do not have.

    Raises:
        ConfigError: with the column that gives it.
    """
    n, given = data["splits"]["train"], data["given"]["train"]
    for name, grid in grids.items():
        if "gold" in roles_of(grid.method) and given.get("gold", 0) < n:
            raise ConfigError(
                f"methods.{name}: needs a third response for every row, in a column gold; "
                f"{n - given.get('gold', 0)} of {n} training rows have none."
            )
        if reads_pair_scores(grid.method) and given["score"] < n:
            raise ConfigError(
                f"methods.{name}: needs columns score_chosen and score_rejected, with the higher score on the chosen "
                f"response; {n - given['score']} of {n} training rows have not. Take those rows out of the file."
            )


def check_reward(scorer: Scorer | None, data: Artefact, *, where: str, splits: Sequence[str]) -> None:
    """Try a reward on the first row of every split that it will score: rather now than after the training.

    Args:
        scorer: the reward; None is never wrong, and a reward model, which loads slowly, is not tried.
        data: the data artefact.
        where: the key of the study that names it.
        splits: those that it will score; a study need not have them all.

    Raises:
        DataError: it cannot score that row, such as one without what it needs in `meta`.
    """
    if scorer is None or scorer.is_model:
        return
    for name in splits:
        if has_split(data, name):
            example = read_split(data, name, 1).examples[0]
            try:
                scorer.scores([(example, example.chosen or example.rejected or "")])
            except DataError as error:
                raise DataError(f"{where}: on row {example.row} of data.{name}: {error}") from error


def check_stopping(followed: Sequence[TokenRow]) -> None:
    """Refuse to stop on the likelihood of held-out chosen responses where none is followed.

    Raises:
        ConfigError: no validation row that is followed during training has a chosen response.
    """
    if not any("chosen" in row.responses for row in followed):
        raise ConfigError(
            f"methods.NAME.stop: none of the {len(followed)} validation rows that are followed has a chosen response; "
            "raise train.monitor_rows, or train without stop."
        )

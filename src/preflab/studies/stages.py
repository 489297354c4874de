"""The stages of a study as data: what each is made from, what it needs, and how much work it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from preflab.store.artefacts import StageSpec
from preflab.studies.cells import Cell

VERSIONS: Mapping[str, int] = {"sft": 1, "reference": 1, "train": 2, "validate": 1, "evaluate": 1}
"""Raised when the code of a stage changes its results, so that old artefacts are not taken for new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much a stage computes, in flat tokens; the plan turns it into seconds."""

    train_tokens: float = 0.0
    """Tokens through forward and backward."""
    score_tokens: float = 0.0
    """Tokens through a forward."""
    generate_tokens: float = 0.0
    """New tokens to sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One node of the study's graph.

    Args:
        label: for people.
        spec: what it is made from; its id names the artefact.
        needs: ids of the stages whose artefacts it reads.
        work: how much it computes.
        start: the start point it belongs to.
        cell: the cell it belongs to, if it belongs to one.
        sft_seed: seed of the SFT behind the start point `sft`.
        sft: spec of that SFT.
        method: what a worker finds the cell's method by.
        train: spec of the training stage whose cell is validated or evaluated.
    """

    label: str
    spec: StageSpec
    needs: tuple[str, ...]
    work: Work
    start: str
    cell: Cell | None = None
    sft_seed: int | None = None
    sft: StageSpec | None = None
    train: StageSpec | None = None
    method: str = ""

    @property
    def kind(self) -> str:
        """What it does: `sft`, `reference`, `train`, `validate` or `evaluate`."""
        return self.spec.stage

    @property
    def id(self) -> str:
        """Id of the artefact."""
        return self.spec.id

"""The stages of a study as data: what each is made from, what it needs, and how much work it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from preflab.store.artefacts import StageSpec
from preflab.studies.cells import Cell

VERSIONS: Mapping[str, int] = {
    "sft": 3, "reference": 1, "reward_model": 2, "leg": 2, "train": 4, "validate": 1, "evaluate": 2, "diagnose": 1,
    "gradients": 1, "benchmark": 1,
}  # fmt: skip
"""Raised when the code of a stage changes its results, so that old artefacts are not taken for new ones."""


SMALLEST_BUDGET = 64
"""Flat tokens below which halving a token budget frees nothing: single rows are longer."""


_HALVINGS_FIRST = 2
"""Times that a token budget is halved before layers are computed again too: rows may be longer than any budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much a stage computes, in flat tokens; the plan turns it into seconds."""

    train_tokens: float = 0.0
    """Tokens through forward and backward."""
    train_passes: float = 0.0
    """Optimizer steps."""
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
        together: what cells must have in common to train in one forward; empty for a stage that runs alone.
        train: spec of the training stage whose cell is validated, evaluated or diagnosed.
        reads: specs of the other stages whose artefacts it opens, by what they are to it.
        after: spec of the leg that training continues from.
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
    together: str = ""
    after: StageSpec | None = None
    reads: Mapping[str, StageSpec] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What it does: `sft`, `reference`, `reward_model`, `leg`, `train`, `validate`, `evaluate`, `diagnose`,
        `gradients` or `benchmark`.

        A leg trains a cell up to a step, where others continue: cells of larger sizes, or the settings that are ahead.
        """
        return self.spec.stage

    @property
    def id(self) -> str:
        """Id of the artefact."""
        return self.spec.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one worker does at a time: a stage, or cells that train in one forward.

    Args:
        stages: what is left to do.
        size: cells that were grouped, of which some may be done; it decides on the budget of each.
        halvings: how often it ran out of memory.
        recompute: whether the plan says that the longest row does not fit with all of its activations.
    """

    stages: tuple[Stage, ...]
    size: int = 1
    halvings: int = 0
    recompute: bool = False

    @property
    def recomputes(self) -> bool:
        """Whether layers are computed again in the backward pass: where nothing smaller is left to try."""
        return self.recompute or self.halvings >= _HALVINGS_FIRST

    @property
    def budget(self) -> int:
        """Flat tokens of one stage per forward and backward."""
        return self.smaller(int(self.stages[0].spec.numeric["token_budget"]) // self.size)

    def smaller(self, value: int) -> int:
        """Return a size that memory depends on, halved as often as this job ran out of it."""
        return max(1, value >> self.halvings)

    @property
    def mark(self) -> dict[str, int]:
        """What its artefacts say about how they were computed, where that can change the last digits."""
        fused = {"fused": self.size} if self.size > 1 else {}
        halved = {"halvings": self.halvings} if self.halvings else {}
        recomputed = {"recomputed": 1} if self.recomputes else {}
        return {**fused, "token_budget": self.budget, **halved, **recomputed}

    @property
    def label(self) -> str:
        """For people."""
        more = f" and {len(self.stages) - 1} more cells" if len(self.stages) > 1 else ""
        return self.stages[0].label + more


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage ended: `done`, `interrupted`, `failed` or `out of memory` with an error text."""

    status: str
    info: dict[str, Any]
    error: str = ""

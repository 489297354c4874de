"""What a study knows of itself: its stages, as validation selects settings and stops those that are behind."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from preflab.store.artefacts import Artefact, StageSpec, Store
from preflab.studies.cells import Cell, Setting
from preflab.studies.layout import Layout
from preflab.studies.select import Candidate, best_settings
from preflab.studies.stages import Stage

Group = tuple[str, str, int]
_ORDER = (
    "sft",
    "reference",
    "reward_model",
    "leg",
    "train",
    "validate",
    "evaluate",
    "diagnose",
    "gradients",
    "benchmark",
)


class Stopped(NamedTuple):
    """Where successive halving stopped a cell."""

    leg: Stage
    needed: float | None
    """Mean validation of the last setting that went on; None where every setting had diverged with some seed."""


@dataclass(slots=True)
class Known:
    """What is known of a study now.

    Args:
        stages: all stages that can be named, kind by kind; none that would score a diverged cell.
        selected: group to its selected setting, once validation is complete; None where every setting diverged.
        stopped: id of a cell to where its setting was stopped.
    """

    stages: list[Stage] = field(default_factory=list)
    selected: dict[Group, Setting | None] = field(default_factory=dict)
    stopped: dict[str, Stopped] = field(default_factory=dict)


class Explorer:
    """Finds what is known of a study from its artefacts.

    Args:
        layout: builds its stages.
        cells: its training runs.
        store: its artefacts.
    """

    def __init__(self, layout: Layout, cells: Sequence[Cell], store: Store) -> None:
        self._layout, self._cells, self._store = layout, cells, store
        self._found: dict[str, Artefact] = {}

    def known(self, *, failed: Collection[str] = (), guess: bool = False) -> Known:
        """Return what is known now.

        Args:
            failed: ids of stages that failed; their groups wait, and hold up no others.
            guess: go on where validation has not decided, as if the first settings of a grid were the best.
        """
        layout, known = self._layout, Known()
        starts = layout.starts()
        known.stages += [layout.sft(seed) for start, seed in starts if start == "sft" and seed is not None]
        for start, seed in starts:
            known.stages += [layout.reference(start, seed), *layout.judge_start(start, seed)]
        searches: dict[tuple[str, int], dict[Group, list[Cell]]] = {}
        for cell in self._cells:
            known.stages += layout.reward_models(cell)
            if layout.is_searched(cell):
                searches.setdefault((cell.start, cell.size), {}).setdefault(cell.group, []).append(cell)
            else:
                known.stages += [*layout.legs(cell), layout.train(cell), *layout.judge(layout.train(cell))]
        for groups in searches.values():
            _Search(self, layout, known, failed, guess).follow(groups)
        needed = {stage.id: stage for stage in known.stages if stage.train is None or not self.diverged(stage.train)}
        known.stages = sorted(needed.values(), key=lambda stage: _ORDER.index(stage.kind))
        return known

    def find(self, spec: StageSpec) -> Artefact | None:
        """Return a committed artefact; what was found once is not looked for again."""
        if spec.id not in self._found:
            artefact = self._store.find(spec, verified=False)
            if artefact is None:
                return None
            self._found[spec.id] = artefact
        return self._found[spec.id]

    def diverged(self, spec: StageSpec) -> bool:
        """Return whether a stage that trains is done, and its numbers left the floats."""
        artefact = self.find(spec)
        return artefact is not None and artefact.info["status"] == "diverged"


@dataclass(frozen=True, slots=True)
class _Search:
    """The search for the best setting of each group of one start point and size.

    Groups go from rung to rung together, because which cells train side by side must not depend on who was faster.
    """

    explorer: Explorer
    layout: Layout
    known: Known
    failed: Collection[str]
    guess: bool

    def follow(self, groups: Mapping[Group, Sequence[Cell]]) -> None:
        """Add what is known of these groups, up to the selected settings and their evaluations."""
        layout, running = self.layout, dict(groups)
        for rung in range(len(layout.rungs(next(iter(groups))[2]))):
            legs = {group: [layout.legs(cell)[rung] for cell in cells] for group, cells in running.items()}
            judged = {group: self._judge(stages) for group, stages in legs.items()}
            running = {group: self._go_on(legs[group], found) for group, found in judged.items() if found is not None}
            if any(found is None and not self._failed(legs[group]) for group, found in judged.items()):
                return
        for group, cells in running.items():
            trains = [layout.train(cell) for cell in cells]
            self.known.stages += [leg for cell in cells for leg in layout.legs(cell)]
            self.known.stages += [stage for train in trains for stage in layout.judge_unselected(train)]
            found = self._judge(trains)
            if found is not None:
                best = next(iter(best_settings(found, 1)), None)
                self.known.selected[group] = best
                final = [train for train in trains if train.cell and train.cell.setting == best]
                self.known.stages += [stage for train in final for stage in layout.judge(train)]

    def _judge(self, stages: Sequence[Stage]) -> list[Candidate] | None:
        """Return what validation says of the legs or the finished cells of a group; None before it said everything.

        Where one setting is left, there is nothing to validate.
        """
        validations = [self.layout.validate(stage) for stage in stages]
        alone = len({_cell(stage).setting.label for stage in stages}) == 1
        self.known.stages += stages if alone else [*stages, *validations]
        candidates = []
        for stage, validation in zip(stages, validations, strict=True):
            artefact = self.explorer.find(validation.spec)
            value: float | None = float(artefact.info["value"]) if artefact else 0.0
            if self.explorer.diverged(stage.spec):
                value = None
            elif artefact is None and not (alone or self.guess):
                return None
            candidates.append(Candidate(_cell(stage).setting, _cell(stage).seed, value))
        return candidates

    def _go_on(self, legs: Sequence[Stage], candidates: Sequence[Candidate]) -> list[Cell]:
        """Return the cells of the settings that are ahead, and note which others stopped."""
        assert self.layout.config.tune is not None
        n_settings = len({candidate.setting.label for candidate in candidates})
        ahead = best_settings(candidates, -(-n_settings // self.layout.config.tune.factor))
        last = [c.value for c in candidates if c.setting in ahead[-1:] and c.value is not None]
        needed = sum(last) / len(last) if last else None
        self.known.stopped |= {
            _cell(leg).id: Stopped(leg, needed)
            for leg in legs
            if _cell(leg).setting not in ahead and not self.explorer.diverged(leg.spec)
        }
        return [_cell(leg) for leg in legs if _cell(leg).setting in ahead]

    def _failed(self, stages: Sequence[Stage]) -> bool:
        """Return whether a group waits for a stage that failed."""
        return any(s.id in self.failed or self.layout.validate(s).id in self.failed for s in stages)


def _cell(stage: Stage) -> Cell:
    assert stage.cell is not None
    return stage.cell

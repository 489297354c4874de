"""What the methods did to the models: the diagnosis of every final cell, brought together over seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from preflab.diagnose.checkpoints import (
    MEANING,
    REMEDIES,
    SYMPTOMS,
    Change,
    Code,
    Diagnosis,
    agreement,
    changes,
    commonest,
    diagnose,
    moved,
)
from preflab.report.ranking import group_intervals
from preflab.report.tables import Group, StudyTables, measure
from preflab.report.wording import count, number, signed
from preflab.stats.intervals import Interval, mean_interval, seed_interval

SHOWN = ("entropy", "distinct")
"""What `Effect.answers` holds: entropy in nats per token, share of distinct token pairs in an answer. What the
evaluation measures on more answers (KL, length, share cut) is in `Behaviour`."""
_PAIRED = {"chosen": "chosen_change", "rejected": "rejected_change", "margin": "margin"}
GRADIENTS = ("grad_chosen", "grad_rejected", "cosine")


@dataclass(frozen=True, slots=True)
class Effect:
    """What training did to one group.

    Args:
        group: start point, method and size.
        seeds: seeds that were diagnosed.
        diagnoses: the verdict on each.
        n_diverged: seeds whose training diverged; they have no verdict.
        changes: role to the change of its log-prob since the start point: of chosen, rejected and margin over all test
            pairs and seeds, as in `Behaviour`; of unseen answers over seeds, with one seed over prompts. Empty where
            nothing finite was measured.
        n_pairs: test pairs behind these three; 0 where those of the probes stand in.
        parts: chosen and rejected to the change of the first token and of the rest, nats.
        answers: of the sampled answers, by the names in `SHOWN`; intervals likewise.
        before: the same of the start point's answers and gradients.
        gradients: medians over pairs by the names in `GRADIENTS`; empty where none were taken.
        alike: change of each chosen response, averaged over seeds, beside the CHES scores before training.
    """

    group: Group
    seeds: tuple[int, ...]
    diagnoses: tuple[Diagnosis, ...]
    n_diverged: int
    changes: Mapping[str, Change]
    n_pairs: int
    parts: Mapping[str, tuple[Interval, Interval]]
    answers: Mapping[str, Interval]
    before: Mapping[str, float]
    gradients: Mapping[str, Interval]
    alike: pd.DataFrame

    @property
    def codes(self) -> tuple[Code, ...]:
        """The verdict on each seed."""
        return tuple(diagnosis.code for diagnosis in self.diagnoses)

    @property
    def code(self) -> Code | Literal["divergence"]:
        """The verdict over seeds and test pairs; a symptom that most seeds show; `divergence` where none finished."""
        if not self.codes:
            return "divergence"
        most = commonest(self.codes)
        return most if most in SYMPTOMS or not self.n_pairs else moved(self.changes)

    @property
    def agreement(self) -> str:
        """The verdict, and how far seeds agree on it when each is judged alone."""
        each = agreement(self.codes, self.n_diverged)
        if not self.codes or self.code == commonest(self.codes):
            return each
        return f"{self.code} over all seeds; each alone, {each}"

    @property
    def numbers(self) -> str:
        """Return what changed by how much, in a line."""
        said = [f"{role} {_change(self.changes[role].total)}" for role in _PAIRED if role in self.changes]
        if not said:
            return "nothing finite was measured"
        pairs = f"{self.n_pairs:,} test pairs, " if self.n_pairs else ""
        return f"{', '.join(said)} per response ({pairs}{count(len(self.seeds), 'seed')})"

    @property
    def headline(self) -> str:
        """The verdict in a sentence, with its numbers."""
        code = self.code
        if code == "divergence":
            return "Training diverged with every seed."
        # What the verdict means stands in its own sentence: `Collapse: answers repeat themselves. Chosen ...`
        said = self.diagnosis.headline.partition(". ")[0] if self.diagnosis.code == code else MEANING[code]
        why = said.partition(": ")[2] or said.lower()
        return f"{self.agreement[0].upper()}{self.agreement[1:]}: {why}. {self.numbers[0].upper()}{self.numbers[1:]}."

    @property
    def diagnosis(self) -> Diagnosis:
        """The first seed's diagnosis that says what the verdict does, else one that says what most seeds do."""
        most = commonest(self.codes)
        return min(self.diagnoses, key=lambda each: (each.code != self.code, each.code != most))

    @property
    def remedies(self) -> tuple[str, ...]:
        """What is known to help."""
        code = self.code
        return REMEDIES["broken" if code == "divergence" else code]


def _change(total: Interval) -> str:
    """Return a change as the tables show it."""
    spread = f" ± {number(total.half_width, 2)}" if total.n > 1 else ""
    return f"{signed(total.estimate, 2)}{spread} nats"


@dataclass(frozen=True, slots=True)
class _Cell:
    """One diagnosed cell beside its start point; `moved` are the changes of all test pairs, of its seed alone."""

    seed: int
    probes: pd.DataFrame
    samples: pd.DataFrame
    gradients: pd.DataFrame
    pairs: pd.DataFrame
    moved: Mapping[str, Change]

    def of(self, frame: pd.DataFrame, what: str = "checkpoint") -> pd.DataFrame:
        return frame[frame["of"] == what]

    @property
    def drawn(self) -> pd.DataFrame:
        return self.of(self.samples)


def effects(tables: StudyTables) -> dict[Group, Effect]:
    """Return what training did to every group that was diagnosed, in the order of the cells.

    Empty for a study without a diagnosis. A group of which every seed diverged is there too, without numbers.
    """
    if tables.probes.empty:
        return {}
    cells = tables.cells
    parts = {name: dict(list(getattr(tables, name).groupby("cell"))) for name in ("probes", "samples", "gradients",
                                                                                  "alike")}  # fmt: skip
    paired = _paired(tables)
    starts = {(c.start, c.seed): c.cell for c in cells[cells["method"] == ""].itertuples()}
    final = cells[(cells["method"] != "") & cells["selected"] & cells["status"].isin(["done", "diverged"])]
    result = {}
    for (start, method, size), mine in final.groupby(["start", "method", "size"], sort=False):
        group, found = Group(str(start), str(method), int(size)), []
        seeds = paired.seeds.get(group, {})
        for cell in mine[mine["status"] == "done"].itertuples():
            first = starts.get((start, cell.seed), starts.get((start, -1)))
            if cell.cell in parts["probes"] and first in parts["samples"]:
                found.append(_cell(int(cell.seed), str(cell.cell), str(first), parts, seeds.get(int(cell.seed), {})))
        n_diverged = int((mine["status"] == "diverged").sum())
        if found or n_diverged == len(mine):
            result[group] = _effect(group, found, n_diverged, paired)
    return result


@dataclass(frozen=True, slots=True)
class _Paired:
    """Changes of the test pairs: how many pairs, over seeds and pairs by group, over pairs by group and seed."""

    n: int
    groups: Mapping[Group, Mapping[str, Change]]
    seeds: Mapping[Group, Mapping[int, Mapping[str, Change]]]


def _paired(tables: StudyTables) -> _Paired:
    pairs = tables.pairs[tables.pairs["split"] == "test"]
    tokens = {side: float(pairs[f"{side}_length"].mean()) for side in ("chosen", "rejected")}
    tokens["margin"] = (tokens["chosen"] + tokens["rejected"]) / 2
    groups: dict[Group, dict[str, Change]] = {}
    seeds: dict[Group, dict[int, dict[str, Change]]] = {}
    n = 0
    for role, column in _PAIRED.items():
        scores = measure(tables, "test", column)
        n = len(scores.rows)
        for group, total in group_intervals(scores).items():
            groups.setdefault(group, {})[role] = Change(total, total.estimate / tokens[role])
            for seed, row in zip(scores.seeds[group], scores.values[group], strict=True):
                alone = mean_interval(row, clusters=scores.clusters)
                change = Change(alone, alone.estimate / tokens[role])
                seeds.setdefault(group, {}).setdefault(seed, {})[role] = change
    return _Paired(n, groups, seeds)


def _cell(
    seed: int,
    cell: str,
    start: str,
    parts: Mapping[str, Mapping[str, pd.DataFrame]],
    moved: Mapping[str, Change],
) -> _Cell:
    def beside(name: str) -> pd.DataFrame:
        places = (("start", start), ("checkpoint", cell))
        frames = [parts[name][place].assign(of=of) for of, place in places if place in parts[name]]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["of"])

    pairs = parts["alike"].get(start, pd.DataFrame(columns=["row", "ches", "ches_mean"]))
    return _Cell(seed, parts["probes"][cell], beside("samples"), beside("gradients"), pairs, moved)


def _effect(group: Group, cells: Sequence[_Cell], n_diverged: int, paired: _Paired) -> Effect:
    diagnoses = tuple(diagnose(f"seed {c.seed}", c.probes, c.samples, c.gradients, c.moved) for c in cells)
    sound = [cell for cell, each in zip(cells, diagnoses, strict=True) if each.code != "broken"]
    taken = [cell for cell in sound if len(cell.of(cell.gradients))]
    moved_by = paired.groups.get(group, {}) if sound else {}
    return Effect(
        group=group,
        seeds=tuple(cell.seed for cell in cells),
        diagnoses=diagnoses,
        n_diverged=n_diverged,
        changes=_changes(sound) | dict(moved_by),
        n_pairs=paired.n if moved_by else 0,
        parts={role: _first_and_rest(sound, role) for role in ("chosen", "rejected")} if sound else {},
        answers=_over_seeds([cell.drawn for cell in sound], _ANSWERS),
        before=_before(sound[0]) if sound else {},
        gradients=_over_seeds([cell.of(cell.gradients) for cell in taken], _GRADIENTS),
        alike=_alike(sound),
    )


_ANSWERS: Mapping[str, Callable[[pd.DataFrame], float]] = {
    name: (lambda drawn, name=name: drawn[name].mean())  # type: ignore[misc]
    for name in SHOWN
}
_GRADIENTS: Mapping[str, Callable[[pd.DataFrame], float]] = {
    name: (lambda taken, name=name: taken[name].median())  # type: ignore[misc]
    for name in GRADIENTS
}


def _before(cell: _Cell) -> dict[str, float]:
    """Return what the start point's answers and gradients are like."""
    drawn, taken = cell.of(cell.samples, "start"), cell.of(cell.gradients, "start")
    found = {name: float(measure(drawn)) for name, measure in _ANSWERS.items()}
    return found | ({name: float(measure(taken)) for name, measure in _GRADIENTS.items()} if len(taken) else {})


def _over_seeds(
    frames: Sequence[pd.DataFrame], measures: Mapping[str, Callable[[pd.DataFrame], float]]
) -> dict[str, Interval]:
    if not frames:
        return {}
    return {name: seed_interval([float(measure(frame)) for frame in frames]) for name, measure in measures.items()}


def _changes(cells: Sequence[_Cell]) -> dict[str, Change]:
    """Return changes with intervals over seeds; of one seed those over prompts."""
    found = [changes(cell.probes) for cell in cells]
    if len(found) < 2:
        return found[0] if found else {}
    return {
        role: Change(
            seed_interval([each[role].total.estimate for each in found]),
            sum(each[role].per_token for each in found) / len(found),
        )
        for role in found[0]
    }


def _first_and_rest(cells: Sequence[_Cell], role: str) -> tuple[Interval, Interval]:
    parts = [cell.probes[cell.probes["role"] == role] for cell in cells]
    first, rest = ([part[f"{where}_change"] for part in parts] for where in ("first", "tail"))
    return _mean(first), _mean(rest)


def _mean(values: Sequence["pd.Series[float]"]) -> Interval:
    if len(values) == 1:
        return mean_interval(values[0].to_numpy(dtype=float))
    return seed_interval([float(each.mean()) for each in values])


def _alike(cells: Sequence[_Cell]) -> pd.DataFrame:
    """Return the change of each chosen response beside how alike its pair was before training."""
    if not cells:
        return pd.DataFrame(columns=["change", "ches", "ches_mean"])
    probes = pd.concat([cell.probes for cell in cells])
    chosen = probes[probes["role"] == "chosen"]
    change = (chosen["total"] - chosen["start_total"]).groupby(chosen["row"]).mean().rename("change").reset_index()
    return change.merge(cells[0].pairs, on="row")[["change", "ches", "ches_mean"]]

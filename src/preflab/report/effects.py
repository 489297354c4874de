"""What the methods did to the models: the diagnosis of every final cell, brought together over seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from preflab.diagnose.checkpoints import (
    NAMES,
    REMEDIES,
    Change,
    Code,
    Diagnosis,
    agreement,
    changes,
    commonest,
    diagnose,
    kl_per_token,
)
from preflab.report.tables import Group, StudyTables
from preflab.stats.intervals import Interval, mean_interval, seed_interval

SHOWN = ("kl", "kl_token", "entropy", "n_tokens", "truncated", "distinct")
"""What `Effect.answers` holds: KL(cell || start) in nats per sampled answer and per token, entropy in nats per token,
length in tokens, share that hit the limit, share of distinct token pairs in an answer."""
GRADIENTS = ("grad_chosen", "grad_rejected", "cosine")


@dataclass(frozen=True, slots=True)
class Effect:
    """What training did to one group.

    Args:
        group: start point, method and size.
        seeds: seeds that were diagnosed.
        diagnoses: the verdict on each.
        n_diverged: seeds whose training diverged; they have no verdict.
        changes: role to the change of its log-prob since the start point; intervals are over seeds, with one seed over
            prompts. Empty where nothing finite was measured.
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
    def code(self) -> str:
        """The verdict on most seeds, or `divergence` where none finished."""
        return commonest(self.codes) if self.codes else "divergence"

    @property
    def agreement(self) -> str:
        """How far seeds agree on it."""
        return agreement(self.codes, self.n_diverged)

    @property
    def numbers(self) -> str:
        """Return what changed by how much, in a line."""
        shown = ("chosen", "rejected", "margin", "mismatched")
        said = [f"{NAMES.get(role, role)} {self.changes[role]}" for role in shown if role in self.changes]
        return f"{', '.join(said)} per response" if said else "nothing finite was measured"

    @property
    def headline(self) -> str:
        """The verdict in a sentence, with its numbers."""
        if not self.diagnoses:
            return "Training diverged with every seed."
        # What the verdict means stands in its own sentence: `Collapse: answers repeat themselves. Chosen ...`
        said = self.diagnosis.headline.partition(". ")[0]
        why = said.partition(": ")[2] or said.lower()
        verdict, numbers = f"{self.agreement[0].upper()}{self.agreement[1:]}: {why}", self.numbers
        if len(self.diagnoses) > 1:
            return f"{verdict}, within a seed. Over the seeds: {numbers}."
        return f"{verdict}. {numbers[0].upper()}{numbers[1:]}."

    @property
    def diagnosis(self) -> Diagnosis:
        """The first seed's diagnosis that says what most say."""
        return next(each for each in self.diagnoses if each.code == self.code)

    @property
    def remedies(self) -> tuple[str, ...]:
        """What is known to help."""
        return REMEDIES[self.diagnosis.code] if self.diagnoses else REMEDIES["broken"]


@dataclass(frozen=True, slots=True)
class _Cell:
    """One diagnosed cell beside its start point."""

    seed: int
    probes: pd.DataFrame
    samples: pd.DataFrame
    gradients: pd.DataFrame
    pairs: pd.DataFrame

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
    starts = {(c.start, c.seed): c.cell for c in cells[cells["method"] == ""].itertuples()}
    final = cells[(cells["method"] != "") & cells["selected"] & cells["status"].isin(["done", "diverged"])]
    result = {}
    for (start, method, size), mine in final.groupby(["start", "method", "size"], sort=False):
        found = []
        for cell in mine[mine["status"] == "done"].itertuples():
            first = starts.get((start, cell.seed), starts.get((start, -1)))
            if cell.cell in parts["probes"] and first in parts["samples"]:
                found.append(_cell(int(cell.seed), str(cell.cell), str(first), parts))
        n_diverged = int((mine["status"] == "diverged").sum())
        if found or n_diverged == len(mine):
            group = Group(str(start), str(method), int(size))
            result[group] = _effect(group, found, n_diverged)
    return result


def _cell(seed: int, cell: str, start: str, parts: Mapping[str, Mapping[str, pd.DataFrame]]) -> _Cell:
    def beside(name: str) -> pd.DataFrame:
        places = (("start", start), ("checkpoint", cell))
        frames = [parts[name][place].assign(of=of) for of, place in places if place in parts[name]]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["of"])

    pairs = parts["alike"].get(start, pd.DataFrame(columns=["row", "ches", "ches_mean"]))
    return _Cell(seed, parts["probes"][cell], beside("samples"), beside("gradients"), pairs)


def _effect(group: Group, cells: Sequence[_Cell], n_diverged: int) -> Effect:
    diagnoses = tuple(diagnose(f"seed {c.seed}", c.probes, c.samples, c.gradients) for c in cells)
    sound = [cell for cell, each in zip(cells, diagnoses, strict=True) if each.code != "broken"]
    taken = [cell for cell in sound if len(cell.of(cell.gradients))]
    return Effect(
        group=group,
        seeds=tuple(cell.seed for cell in cells),
        diagnoses=diagnoses,
        n_diverged=n_diverged,
        changes=_changes(sound),
        parts={role: _first_and_rest(sound, role) for role in ("chosen", "rejected")} if sound else {},
        answers=_over_seeds([cell.drawn for cell in sound], _ANSWERS),
        before=_before(sound[0]) if sound else {},
        gradients=_over_seeds([cell.of(cell.gradients) for cell in taken], _GRADIENTS),
        alike=_alike(sound),
    )


_ANSWERS: Mapping[str, Callable[[pd.DataFrame], float]] = {
    "kl": lambda drawn: drawn["kl_exact"].mean(),
    "kl_token": kl_per_token,
    **{name: (lambda drawn, name=name: drawn[name].mean()) for name in SHOWN[2:]},  # type: ignore[misc]
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

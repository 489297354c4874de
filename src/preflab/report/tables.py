"""The tables a report is made from, and the measurements they hold as [seed, item] arrays.

Nothing here knows how a study stores its artefacts. Tables of a half-finished study may be empty or lack columns;
`completed` fills them so that every later step can rely on names and types.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preflab.report.columns import COLUMNS as COLUMNS
from preflab.report.index import Damage

FloatArray = NDArray[np.float64]

REWARD_PARTS = ("right", "concise", "polite", "safe")


@dataclass(frozen=True, slots=True)
class StudyTables:
    """What a study measured, one pandas table per kind of record; see `COLUMNS` for names.

    Args:
        cells: one row per cell; a start point itself is a cell with method "", size 0 and seed -1.
        pairs: log-probs of the held-out pairs, one row per (cell, split, row).
        responses: generated responses, one row per (cell, split, row).
        dynamics: likelihoods of a fixed validation subset during training, one row per (cell, step).
        log: loss and gradient norm, one row per (cell, step).
        study: name, command, config_yaml, created, wall_s, versions, commit, machine, data, models, numeric_policy,
            cards of the methods, notes, and the reward model that scored responses, if one did; any may be missing.
        probes: log-probs of test rows and their probes, one row per (cell, row, role); empty without a diagnosis, as
            the next three.
        samples: sampled answers that were looked into, one row per (cell, row); of start points too.
        gradients: gradient sizes, one row per (cell, row); of start points too.
        alike: how alike the responses of a pair are to a start point, one row per (cell, row).
        answers: own answers that a cell learned from, one row each.
        judges: accuracy of the reward model behind a cell during its training, one row per (cell, step).
        verdicts: its scores of the validation pairs at the end, one row per (cell, pair).
        benchmarks: main metric of every item of every benchmark, one row per (cell, benchmark, item).
        snapshots: answers on the way through a training, one row per (cell, split, row, step); often none.
        judged: results of judges as `preflab judge --study` writes them, each with `current`: whether the study still
            has the answers that were judged.
        damages: files that are not as they were written, and what is missing because of them.
        sealed: whether any change of the index would have been found.
    """

    cells: pd.DataFrame = field(default_factory=pd.DataFrame)
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    responses: pd.DataFrame = field(default_factory=pd.DataFrame)
    dynamics: pd.DataFrame = field(default_factory=pd.DataFrame)
    log: pd.DataFrame = field(default_factory=pd.DataFrame)
    study: Mapping[str, Any] = field(default_factory=dict)
    probes: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    gradients: pd.DataFrame = field(default_factory=pd.DataFrame)
    alike: pd.DataFrame = field(default_factory=pd.DataFrame)
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)
    judges: pd.DataFrame = field(default_factory=pd.DataFrame)
    verdicts: pd.DataFrame = field(default_factory=pd.DataFrame)
    benchmarks: pd.DataFrame = field(default_factory=pd.DataFrame)
    snapshots: pd.DataFrame = field(default_factory=pd.DataFrame)
    judged: Sequence[Mapping[str, Any]] = ()
    damages: Sequence[Damage] = ()
    sealed: bool = True


class Group(NamedTuple):
    """Cells that differ in their seed only; `method` is empty for a start point itself."""

    start: str
    method: str
    size: int


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity for every group, on the items that all groups answered.

    Args:
        split: `test` or `ood`.
        values: `[seed, item]` for every group; a start point has one row.
        seeds: the seeds behind the rows.
        clusters: label of the prompt of each item, `[item]`.
        families: task family of each item, `[item]`.
        rows: row of each item in its split, `[item]`.
        incomplete: cells left out because they answered too few items, with the reason.
        is_rate: whether the values are shares between 0 and 1.
        is_amount: whether the values are amounts of 0 or more, whose spread grows with them.
    """

    split: str
    values: Mapping[Group, FloatArray]
    seeds: Mapping[Group, tuple[int, ...]]
    clusters: tuple[Hashable, ...]
    families: tuple[str, ...]
    rows: tuple[int, ...]
    incomplete: Mapping[str, str] = field(default_factory=dict)
    is_rate: bool = False
    is_amount: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """The headline number of a report.

    Args:
        name: `reward` or `accuracy`.
        label: name for people, at the start of a sentence.
        is_rate: whether values are shares, shown as percent.
        meaning: one sentence for readers who do not know it.
    """

    name: str
    label: str
    is_rate: bool
    meaning: str


REWARD = Metric(
    "reward", "Gold reward", False, "The reward a program computes for a generated response; higher is better."
)
ACCURACY = Metric(
    "accuracy",
    "Preference accuracy",
    True,
    "Share of held-out pairs whose chosen response gained more log-probability over the start point than the rejected "
    "one; 50 % is no change. It says how well a model tells the two apart, not how good its own responses are.",
)


def completed(tables: StudyTables) -> StudyTables:
    """Return the tables with every column of `COLUMNS`, missing ones filled with "not measured"."""
    frames = {name: _with_columns(getattr(tables, name), columns) for name, columns in COLUMNS.items()}
    cells, responses = frames["cells"], frames["responses"]
    if "selected" not in cells:
        cells["selected"] = cells["status"] == "done"
    cells["selected"] = cells["selected"].fillna(False).astype(bool)
    parts = {part: f"reward_{part}" for part in REWARD_PARTS if part in responses}
    frames["responses"] = responses.rename(columns=parts)
    return replace(tables, **frames)


def _with_columns(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    result = frame.copy()
    for name, default in columns.items():
        if name not in result:
            kind = object if isinstance(default, str) else type(default)
            result[name] = pd.Series([default] * len(result), index=result.index, dtype=kind)
        elif isinstance(default, bool):
            result[name] = result[name].fillna(default).astype(bool)
        elif isinstance(default, float):
            result[name] = pd.to_numeric(result[name], errors="coerce").astype(float)
    return result


def final_cells(tables: StudyTables) -> pd.DataFrame:
    """Return the cells a report compares: selected on validation and finished, and the start points."""
    cells = tables.cells
    return cells[(cells["status"] == "done") & (cells["selected"] | (cells["method"] == ""))]


def headline_metric(tables: StudyTables) -> Metric:
    """Return the reward where responses have one, else preference accuracy."""
    if not tables.responses["reward"].notna().any():
        return ACCURACY
    model = tables.study.get("reward_model")
    if not model:
        return REWARD
    meaning = f"The score that the reward model {model} gives to a generated response; it may be wrong, and fooled."
    return replace(REWARD, label="Reward", meaning=meaning)


def measure(tables: StudyTables, split: str, column: str) -> Measure:
    """Return one column of responses or pairs for every group as `[seed, item]`.

    Args:
        tables: completed tables.
        split: `test` or `ood`.
        column: a numeric column of responses, or `kl_token`, their k3 over their length; or one of pairs: `accuracy`,
            `accuracy_per_token`, `margin`, `chosen_change`, `rejected_change`.
    """
    cells = final_cells(tables)
    wide, facts, incomplete = item_table(tables, split, column, cells["cell"])
    values, seeds = by_group(wide, cells)
    if column in _BY_DEFINITION:
        for start in dict.fromkeys(group.start for group in values):
            values[Group(start, "", 0)] = np.full((1, len(wide)), _BY_DEFINITION[column])
            seeds[Group(start, "", 0)] = (-1,)
    return Measure(
        split=split,
        values=values,
        seeds=seeds,
        clusters=clusters_of(facts),
        families=tuple(facts["family"].fillna("").astype(str)),
        rows=tuple(int(row) for row in wide.index),
        incomplete=incomplete,
        is_rate=column in _RATES,
        is_amount=column in _AMOUNTS,
    )


_PAIR_COLUMNS = ("accuracy", "margin", "accuracy_per_token", "chosen_change", "rejected_change")
_RATES = ("accuracy", "accuracy_per_token", "truncated", "reward_right")
_AMOUNTS = ("kl_k3", "kl_token", "n_tokens")
_BY_DEFINITION = {"accuracy": 0.5, "margin": 0.0, "chosen_change": 0.0, "rejected_change": 0.0}
"""What a start point scores against itself, free of rounding."""


def item_table(
    tables: StudyTables, split: str, column: str, cells: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Return a column as `[row, cell]` over the items that all cells answered, what is known of those items, and cells
    that are left out because they answered too few, with the reason.

    Args:
        tables: completed tables.
        split: `test` or `ood`.
        column: as in `measure`.
        cells: ids of the cells.
    """
    source = tables.pairs if column in _PAIR_COLUMNS else tables.responses
    frame = source[(source["split"] == split) & source["cell"].isin(cells)]
    values = _pair_values(frame, column) if column in _PAIR_COLUMNS else _text_values(frame, column)
    frame = frame.assign(value=values).dropna(subset=["value"]).astype({"value": float})
    wide, incomplete = _balanced(frame.groupby(["row", "cell"])["value"].mean().unstack("cell"))
    return wide, frame.drop_duplicates("row").set_index("row").reindex(wide.index), incomplete


def clusters_of(facts: pd.DataFrame) -> tuple[Hashable, ...]:
    """Return the prompt of each item, or its row where the prompt is not known."""
    if "prompt" not in facts:
        return tuple(facts.index)
    return tuple(prompt or row for row, prompt in facts["prompt"].items())


def _pair_values(pairs: pd.DataFrame, column: str) -> pd.Series:
    if column == "accuracy_per_token":
        chosen, rejected = pairs["chosen_total"], pairs["rejected_total"]
        return _wins(chosen / pairs["chosen_length"] - rejected / pairs["rejected_length"])
    chosen = pairs["chosen_total"] - pairs["reference_chosen_total"]
    rejected = pairs["rejected_total"] - pairs["reference_rejected_total"]
    if column in ("chosen_change", "rejected_change"):
        return chosen if column == "chosen_change" else rejected
    return _wins(chosen - rejected) if column == "accuracy" else chosen - rejected


def _text_values(responses: pd.DataFrame, column: str) -> Any:
    if column == "kl_token":
        return responses["kl_k3"] / responses["n_tokens"].where(responses["n_tokens"] > 0)
    return responses.get(column, float("nan"))


def _wins(margin: pd.Series) -> pd.Series:
    """Return 1 for a positive margin, 0.5 for none, 0 for a negative one; NaN stays."""
    return (np.sign(margin) + 1) / 2


def _balanced(wide: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Keep cells with at least half of the items, and the items that all of those have."""
    counts = wide.notna().sum()
    most = int(counts.max()) if len(counts) else 0
    few = counts[counts < most / 2]
    reasons = {str(cell): f"answered {int(n)} of {most} items" for cell, n in few.items()}
    return wide.drop(columns=list(few.index)).dropna(), reasons


def by_group(wide: pd.DataFrame, cells: pd.DataFrame) -> tuple[dict[Group, FloatArray], dict[Group, tuple[int, ...]]]:
    """Return `[seed, item]` values and the seeds of every group from `[item, cell]` values."""
    if wide.empty:
        return {}, {}
    columns = {cell: k for k, cell in enumerate(wide.columns)}
    members: dict[Group, dict[int, list[int]]] = {}
    names = zip(*(cells[name].tolist() for name in ("cell", "start", "method", "size", "seed")), strict=True)
    for cell, start, method, size, seed in names:
        if cell in columns:
            seeds_of_group = members.setdefault(Group(str(start), str(method), int(size)), {})
            seeds_of_group.setdefault(int(seed), []).append(columns[cell])
    table = wide.to_numpy()
    values = {
        group: np.stack([table[:, by_seed[seed]].mean(axis=1) for seed in sorted(by_seed)])
        for group, by_seed in members.items()
    }
    return values, {group: tuple(sorted(by_seed)) for group, by_seed in members.items()}

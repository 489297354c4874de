"""The table of what each method did to chosen, rejected and unseen responses, in the terms of "3D-Properties"."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from preflab.diagnose.findings import NOISE
from preflab.diagnose.properties import Properties
from preflab.report.analysis import Analysis
from preflab.report.behaviour import Behaviour
from preflab.report.cells import Cell, Table, measured
from preflab.report.ranking import gain_over_start
from preflab.report.tables import Group
from preflab.report.wording import MISSING, count, names, number, percent, score, score_range, signed
from preflab.stats.intervals import Interval

HOW = (
    "Chosen and rejected: change of log-prob from the start point to the weights that were kept, test pairs as in the "
    "other tables, 95 % intervals over pairs and seeds.",
    "Drastic drop (P1): rejected minus chosen; training asks for some of it, and it equals the margin with its sign "
    "turned.",
    "Degradation (P2) is judged in each run alone, on the validation pairs followed during training: chosen responses "
    f"ended below their likeliest evaluation by more than {NOISE:g} standard errors (paired, over pairs); below it, "
    "after which share of the run that evaluation was. All runs together may show a fall that none shows alone.",
    "Dispersion (P3): the change of unseen responses, which answer other prompts, minus the mean of the pair's two "
    "changes, on the same validation pairs, t intervals over seeds; above zero they gained on the pair, though all "
    "three may have fallen.",
)
"""How each column is computed, for the foot of the table."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What a column reads: a group, its properties, and the report."""

    analysis: Analysis
    group: Group
    facts: Properties


def properties_tables(analysis: Analysis, size: int, best_start: str = "") -> list[Table]:
    """Return one table per start point for a size, the best one first; none where no likelihood was followed."""
    starts = sorted(analysis.starts, key=lambda start: start != best_start)
    return [table for start in starts if (table := _table(analysis, start, size)) is not None]


def _table(analysis: Analysis, start: str, size: int) -> Table | None:
    groups = [Group(start, method, size) for method in analysis.methods]
    found = {group: analysis.properties[group] for group in groups if group in analysis.properties}
    if not found:
        return None
    metric = analysis.metric
    tested = count(max((f.margin.n for g in found if (f := _tested(analysis, g)) and f.margin), default=0), "test pair")
    followed = analysis.tables.dynamics["n"].max()
    watched = count(int(followed), "validation pair") if followed > 0 else "validation pairs"
    columns: list[tuple[tuple[str, str], Callable[[_Row], Cell]]] = [
        (("Chosen", f"nats per response; {tested}"), lambda row: _moved(row, "chosen_change")),
        (("Rejected", f"nats per response; {tested}"), lambda row: _moved(row, "rejected_change")),
        (("Drastic drop (P1)", f"rejected − chosen; {tested}"), lambda row: _moved(row, "margin", -1)),
        (
            ("Degradation (P2)", f"runs that alone show chosen fall from its peak; {watched}"),
            lambda row: _fell(row.facts),
        ),
        (("Dispersion (P3)", f"unseen − the pair's mean; {watched}"), lambda row: _nats(row.facts.dispersion)),
        ((f"{metric.label} gained", "test prompts, 95 % over prompts and seeds"), _gained),
    ]
    rows = [_Row(analysis, group, facts) for group, facts in found.items()]
    columns = [(title, cell) for title, cell in columns if any(cell(row).text != MISSING for row in rows)]
    lines = [[_named(row), *(cell(row) for _, cell in columns)] for row in rows]
    for group in groups:
        if group not in found and (why := _why_missing(analysis, group)):
            lines.append(
                [Cell(analysis.title(group.method), why, "text"), *[Cell(MISSING, kind="muted")] * len(columns)]
            )
    caption = f"From {start}, {count(size, 'training pair')}; below each number its 95 % interval."
    kept = "; weights kept early" if any(_kept(row.facts) for row in rows) else ""
    head = [("Method", f"setting; runs{kept}"), *(title for title, _ in columns)]
    return Table(caption, head, lines, f"properties-{start}-{size}")


def _tested(analysis: Analysis, group: Group) -> Behaviour | None:
    return analysis.behaviour.get("test", {}).get(group)


def _moved(row: _Row, change: Literal["chosen_change", "rejected_change", "margin"], sign: int = 1) -> Cell:
    """Return a change of the test pairs, or with `sign` -1 its opposite."""
    tested = _tested(row.analysis, row.group)
    found: Interval | None = getattr(tested, change, None)
    if found is None or sign == 1:
        return _nats(found)
    return _nats(replace(found, estimate=-found.estimate, low=-found.high, high=-found.low))


def _nats(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(MISSING)
    bounds = "one seed" if math.isnan(interval.low) else f"{signed(interval.low, 2)} to {signed(interval.high, 2)}"
    return measured(signed(interval.estimate, 2), interval, bounds)


def _fell(facts: Properties) -> Cell:
    if facts.n_fall is None:
        return Cell(MISSING)
    text, fall = f"{facts.n_fall} of {len(facts.seeds)}", facts.fall
    if fall is None:
        return Cell(text, value=facts.n_fall)
    since = f"after {_span(fall.since)}, " if _known(fall.since) else ""
    return Cell(text, f"{since}by {number(fall.by, 1)}", value=facts.n_fall)


def _gained(row: _Row) -> Cell:
    scores, rate = row.analysis.scores.get("test"), row.analysis.metric.is_rate
    gain = gain_over_start(scores, row.group) if scores is not None and scores.rows else None
    if gain is None:
        return Cell(MISSING)
    change = gain.difference
    return measured(score(change.estimate, rate=rate, sign=True), change, score_range(change, rate=rate, sign=True))


def _named(row: _Row) -> Cell:
    cells = row.analysis.tables.cells
    setting = row.analysis.settings(row.group)
    mine = cells[_of(cells, row.group) & cells["setting"].isin(setting)]
    lost = [f"{n} {state}" for state, n in mine["status"].value_counts().items() if state != "done"]
    notes = [count(len(row.facts.seeds), "run"), *([names(lost)] if lost else []), *_kept(row.facts)]
    return Cell(row.analysis.title(row.group.method), "; ".join(["; ".join(setting) or "selected", *notes]), "text")


def _kept(facts: Properties) -> list[str]:
    """Return which weights runs that stop early kept; a first evaluation may hide a peak before it."""
    if not facts.kept or not _known(facts.kept):
        return []
    first = f" (the first evaluation in {facts.n_first})" if facts.n_first else ""
    return [f"kept after {_span(facts.kept)} of the steps{first}"]


def _why_missing(analysis: Analysis, group: Group) -> str:
    cells = analysis.tables.cells
    states = cells.loc[_of(cells, group), "status"].value_counts()
    if not len(states):
        return ""
    if states.index.tolist() == ["done"]:
        return "not followed, or no setting selected yet"
    return f"no setting to show: {names([f'{n} of {states.sum()} cells {state}' for state, n in states.items()])}"


def _of(cells: pd.DataFrame, group: Group) -> "pd.Series[bool]":
    """Return which rows are cells of a group."""
    return (cells["start"] == group.start) & (cells["method"] == group.method) & (cells["size"] == group.size)


def _known(shares: Sequence[float]) -> bool:
    return all(math.isfinite(share) for share in shares)


def _span(shares: Sequence[float]) -> str:
    """Return `25 %`, or `6 to 12 %` where runs differ."""
    low, high = (percent(bound(shares)) for bound in (min, max))
    return low if low == high else f"{low.split()[0]} to {high}"

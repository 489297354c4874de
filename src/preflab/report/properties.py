"""The table of what each method did to chosen, rejected and unseen responses, in the terms of "3D-Properties"."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from preflab.diagnose.findings import NOISE
from preflab.diagnose.properties import Properties
from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, measured
from preflab.report.ranking import gain_over_start
from preflab.report.tables import Group
from preflab.report.wording import MISSING, count, names, number, percent, score, score_range, signed
from preflab.stats.intervals import Interval

HOW = (
    "The first three columns are changes of log-prob from the start point to the weights that were kept, means over "
    "the validation pairs that are followed during training, with t intervals over seeds; “What it did” looks at test "
    "rows after it.",
    "Drastic drop (P1): the change of rejected minus that of chosen; training asks for some of it, and it equals the "
    "margin with its sign turned.",
    "Degradation (P2): a run counts when its chosen responses ended below their likeliest evaluation by more than "
    f"{NOISE:g} standard errors (paired, over responses); below it, after which share of the run that evaluation was.",
    "Dispersion (P3): the change of unseen responses, which answer other prompts, minus the mean of the pair's two "
    "changes; above zero they gained on the pair, though all three may have fallen.",
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
    columns: list[tuple[tuple[str, str], Callable[[_Row], Cell]]] = [
        (("Chosen", "nats per response"), lambda row: _nats(row.facts.chosen)),
        (("Rejected", "nats per response"), lambda row: _nats(row.facts.rejected)),
        (("Unseen", "answers to other prompts"), lambda row: _nats(row.facts.unseen)),
        (("Drastic drop (P1)", "rejected − chosen"), lambda row: _nats(row.facts.drop)),
        (("Degradation (P2)", "runs in which chosen clearly fell from their peak"), lambda row: _fell(row.facts)),
        (("Dispersion (P3)", "unseen − the pair's mean"), lambda row: _nats(row.facts.dispersion)),
        ((f"{metric.label} gained", "test prompts, 95 % over prompts and seeds"), _gained),
        (("KL to the start", "nats per response"), _kl),
    ]
    rows = [_Row(analysis, group, facts) for group, facts in found.items()]
    columns = [(title, cell) for title, cell in columns if any(cell(row).text != MISSING for row in rows)]
    lines = [[_named(row), *(cell(row) for _, cell in columns)] for row in rows]
    for group in groups:
        if group not in found and (why := _why_missing(analysis, group)):
            lines.append(
                [Cell(analysis.title(group.method), why, "text"), *[Cell(MISSING, kind="muted")] * len(columns)]
            )
    followed = analysis.tables.dynamics.merge(analysis.tables.cells[_any_of(analysis, found)][["cell"]], on="cell")["n"]
    pairs = f", {count(int(followed.max()), 'validation pair')}" if followed.notna().any() else ""
    caption = f"From {start}, {count(size, 'training pair')}{pairs}; below each number its 95 % interval."
    kept = "; weights kept early" if any(_kept(row.facts) for row in rows) else ""
    head = [("Method", f"setting; runs{kept}"), *(title for title, _ in columns)]
    return Table(caption, head, lines, f"properties-{start}-{size}")


def _nats(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(MISSING)
    bounds = "one seed" if math.isnan(interval.low) else f"{signed(interval.low, 1)} to {signed(interval.high, 1)}"
    return measured(signed(interval.estimate, 1), interval, bounds)


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


def _kl(row: _Row) -> Cell:
    facts = row.analysis.behaviour.get("test", {}).get(row.group)
    if facts is None or facts.kl is None:
        return Cell(MISSING)
    bounds = "" if math.isnan(facts.kl.low) else f"{number(facts.kl.low, 1)} to {number(facts.kl.high, 1)}"
    return measured(number(facts.kl.estimate, 1), facts.kl, bounds)


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


def _any_of(analysis: Analysis, groups: Iterable[Group]) -> "pd.Series[bool]":
    """Return which rows are cells of any of some groups."""
    return functools.reduce(operator.or_, (_of(analysis.tables.cells, group) for group in groups))


def _of(cells: pd.DataFrame, group: Group) -> "pd.Series[bool]":
    """Return which rows are cells of a group."""
    return (cells["start"] == group.start) & (cells["method"] == group.method) & (cells["size"] == group.size)


def _known(shares: Sequence[float]) -> bool:
    return all(math.isfinite(share) for share in shares)


def _span(shares: Sequence[float]) -> str:
    """Return `25 %`, or `6 to 12 %` where runs differ."""
    low, high = (percent(bound(shares)) for bound in (min, max))
    return low if low == high else f"{low.split()[0]} to {high}"

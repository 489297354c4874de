"""What judges said of a study's answers: rates against the start point, and whether the judge can be believed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, measured
from preflab.report.wording import MISSING, count, number, percent, score_range
from preflab.stats.intervals import Interval

_SPLITS = {"test": "test", "ood": "out-of-distribution"}
_HEAD = [
    ("Method", "seeds together"),
    ("Win rate", "95 % interval over prompts, and seeds where there are several"),
    ("By seed", "lowest to highest"),
    ("Length-adjusted", "the rate at equal lengths, 95 % over prompts"),
    ("First shown", "preference for what stands first; 50 % is no bias"),
    ("Characters", "here / start point"),
    ("Judged", "comparisons with a verdict in both orders"),
    ("No verdict", "calls, by kind of failure"),
]


def context(analysis: Analysis) -> list[dict[str, Any]]:
    """Return a part for every result of a judge, the first one unfolded; none where nothing was judged."""
    order = {start: place for place, start in enumerate(analysis.starts)}
    of = sorted(
        analysis.tables.judged, key=lambda d: (d["study"]["split"] != "test", order.get(d["study"]["start"], 0))
    )
    parts = []
    for place, document in enumerate(of):
        split, judge = _SPLITS[document["study"]["split"]], document["judge"]["model"]
        title = f"From {document['study']['start']}, {count(document['items'], f'{split} prompt')}, by {judge}"
        parts.append(
            {"title": f"{title} ({document['protocol']})", "open": place == 0, "lines": _lines(document),
             "table": _table(analysis, document) if document["current"] else None}
        )  # fmt: skip
    return parts


def _lines(document: Mapping[str, Any]) -> list[str]:
    if not document["current"]:
        return ["The study has other answers since these were judged; judge it again to see rates."]
    named = document["judge"]["answered_as"]
    other = [name for name in named if name != document["judge"]["model"]]
    return [*document["warnings"], *([f"The server answered as {', '.join(other)}."] if other else [])]


def _table(analysis: Analysis, document: Mapping[str, Any]) -> Table:
    by_name = {each["contender"]: each for each in document["models"]}
    rows = []
    for each in document["pooled"]:
        seeds = [name for name, of in document["study"]["contenders"].items() if of["pool"] == each["contender"]]
        of = document["study"]["contenders"][seeds[0]]
        method = analysis.title(of["method"]) + each["contender"].removeprefix(of["method"])
        rows.append(_row(Cell(method, kind="text"), each, [by_name[name] for name in seeds]))
    bound = document["control_bounds"]["win_rate"]
    for each in document["controls"]:
        rate = _interval(each["win_rate"])
        note = f"above {percent(bound)}: can be gamed" if rate is not None and rate.estimate > bound else "a control"
        rows.append(_row(Cell(each["contender"], note, "text"), each, []))
    caption = f"Win rates against the answers of {document['study']['start']} itself, both orders judged."
    return Table(caption, _HEAD, rows, f"judged-{document['study']['split']}-{document['study']['start']}")


def _row(name: Cell, each: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> list[Cell]:
    adjusted = each["length_adjusted"]
    failures = ", ".join(f"{n:,} {kind}" for kind, n in sorted(each["failures"].items()))
    lengths = [number(each[key], 0) for key in ("mean_length", "baseline_length")]
    return [
        name,
        _rate(each["win_rate"]),
        Cell(_spread([_interval(seed["win_rate"]) for seed in seeds])),
        _rate(adjusted and adjusted["rate"]),
        _rate(each["first_rate"]),
        Cell(" / ".join(lengths)),
        Cell(f"{each['n_judged']:,} of {each['n']:,}"),
        Cell(failures or "none"),
    ]


def _spread(rates: Sequence[Interval | None]) -> str:
    known = [rate.estimate for rate in rates if rate is not None]
    if len(known) < 2:
        return MISSING
    return f"{number(100 * min(known), 1)} to {percent(max(known), 1)}"


def _rate(found: Mapping[str, Any] | None) -> Cell:
    interval = _interval(found)
    if interval is None:
        return Cell(MISSING, kind="muted")
    return measured(percent(interval.estimate, 1), interval, score_range(interval, rate=True))


def _interval(found: Mapping[str, Any] | None) -> Interval | None:
    """Return an interval as it was written, its unknown bounds as NaN."""
    if found is None or found["estimate"] is None:
        return None
    values: dict[str, Any] = {key: math.nan if value is None else value for key, value in found.items()}
    return Interval(**values)

"""Everything the page says, as data: computed once, then written as HTML and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from preflab.diagnose.findings import Contest, Finding, Judged, diagnose
from preflab.diagnose.properties import Properties, properties
from preflab.report.behaviour import Behaviour, behaviours
from preflab.report.edges import steep
from preflab.report.effects import Effect, effects
from preflab.report.ranking import POOLED, Ranking, rank_methods, rank_pooled
from preflab.report.tables import Group, Measure, Metric, StudyTables, completed, headline_metric, measure
from preflab.report.wording import count, size_of

SPLITS = ("test", "ood")


@dataclass(frozen=True, slots=True)
class Analysis:
    """The numbers of a report.

    Args:
        tables: the completed tables.
        metric: the headline quantity.
        scores: the headline quantity of every group, for each split that has it.
        starts: start points in the study's order.
        methods: methods in the study's order.
        sizes: numbers of training pairs, ascending.
        rankings: by (split, start point or `POOLED`), at the largest size.
        behaviour: by split.
        properties: what training did to held-out responses, by (start point, method, size).
        effects: what training did to each group; empty without a diagnosis.
        findings: what a reader should know before trusting a number.
        missing: what a half-finished study still lacks, as sentences.
    """

    tables: StudyTables
    metric: Metric
    scores: Mapping[str, Measure]
    starts: tuple[str, ...]
    methods: tuple[str, ...]
    sizes: tuple[int, ...]
    rankings: Mapping[tuple[str, str], Ranking]
    behaviour: Mapping[str, Mapping[Group, Behaviour]]
    properties: Mapping[tuple[str, str, int], Properties]
    effects: Mapping[Group, Effect]
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]

    @property
    def size(self) -> int:
        """The largest size, at which methods are ranked; 0 without cells."""
        return self.sizes[-1] if self.sizes else 0

    def ranking(self, split: str, start: str) -> Ranking | None:
        """Return a ranking that has at least one method, or None."""
        found = self.rankings.get((split, start))
        return found if found is not None and found.rows else None

    @property
    def leading(self) -> Ranking | None:
        """The ranking that the answer speaks of: of the start point whose best method scores highest."""
        split = next(iter(self.scores), "")
        ranked = [found for start in self.starts if (found := self.ranking(split, start))]
        return max(ranked, key=lambda ranking: ranking.rows[0].overall.estimate, default=None)

    @property
    def best_first(self) -> tuple[str, ...]:
        """The start points, that of the answer first."""
        first = self.leading.start if self.leading else ""
        return tuple(sorted(self.starts, key=lambda start: start != first))

    @property
    def scopes(self) -> tuple[str, ...]:
        """What methods are ranked from: the start point of the answer, the other ones, and all together."""
        return tuple(s for s in (*self.best_first, POOLED) if any(self.ranking(split, s) for split in SPLITS))

    def title(self, method: str) -> str:
        """Return a method's name for people."""
        if not method:
            return "start point"
        return _title(self.tables, method)

    def settings(self, group: Group) -> tuple[str, ...]:
        """Return the selected settings of a group; more than one when validation chose differently for each seed."""
        cells = self.tables.cells
        mine = cells[(cells["start"] == group.start) & (cells["method"] == group.method) & cells["selected"]]
        return tuple(dict.fromkeys(mine.loc[mine["size"] == group.size, "setting"].astype(str)))


def analyse(tables: StudyTables) -> Analysis:
    """Compute everything a report needs from the tables of a study, finished or not."""
    full = completed(tables)
    metric = headline_metric(full)
    scores = {split: measure(full, split, metric.name) for split in SPLITS}
    scores = {split: found for split, found in scores.items() if found.values and found.rows}
    trained = full.cells[full.cells["method"] != ""]
    sizes = tuple(sorted({int(size) for size in trained["size"]}))
    starts = tuple(dict.fromkeys(full.cells["start"].astype(str)))
    rankings = _rankings(scores, starts, sizes[-1] if sizes else 0)
    found = effects(full)
    return Analysis(
        tables=full,
        metric=metric,
        scores=scores,
        starts=starts,
        methods=tuple(dict.fromkeys(trained["method"].astype(str))),
        sizes=sizes,
        rankings=rankings,
        behaviour={split: behaviours(full, split) for split in SPLITS},
        properties=properties(full.cells, full.dynamics),
        effects=found,
        findings=diagnose(_for_findings(full), full.responses, _contests(full, rankings, metric), _judged(full, found)),
        missing=_missing(full, scores),
    )


def _contests(tables: StudyTables, rankings: Mapping[tuple[str, str], Ranking], metric: Metric) -> tuple[Contest, ...]:
    found = []
    for (split, start), ranking in rankings.items():
        if split != "test" or len(ranking.rows) < 2 or ranking.rows[1].behind is None:
            continue
        names = [_title(tables, row.method) for row in ranking.contenders]
        detectable = size_of(ranking.rows[1].behind.minimum_detectable, rate=metric.is_rate)
        found.append(Contest(start, names[0], tuple(names[1:]), detectable))
    return tuple(found)


def _judged(tables: StudyTables, found: Mapping[Group, Effect]) -> tuple[Judged, ...]:
    return tuple(
        Judged(
            f"{_title(tables, group.method)} from {group.start}, {count(group.size, 'pair')}",
            effect.code,
            effect.codes,
            effect.agreement,
            effect.changes["chosen"].total.estimate if "chosen" in effect.changes else float("nan"),
            effect.numbers,
        )
        for group, effect in found.items()
        if effect.codes
    )


def _title(tables: StudyTables, method: str) -> str:
    return str(tables.study.get("cards", {}).get(method, {}).get("title") or method)


def _for_findings(tables: StudyTables) -> pd.DataFrame:
    """Return the cells with methods named for people, and without edges where the next value is as good."""
    titles = {name: str(card.get("title") or name) for name, card in tables.study.get("cards", {}).items()}
    cells = tables.cells
    return cells.assign(method=cells["method"].replace(titles), edge=cells["edge"] & steep(cells))


def _rankings(scores: Mapping[str, Measure], starts: tuple[str, ...], size: int) -> dict[tuple[str, str], Ranking]:
    result: dict[tuple[str, str], Ranking] = {}
    for split, found in scores.items():
        for start in starts:
            result[split, start] = rank_methods(found, start, size)
        if sum(bool(result[split, start].rows) for start in starts) > 1:
            result[split, POOLED] = rank_pooled(found, size)
    return result


def _missing(tables: StudyTables, scores: Mapping[str, Measure]) -> tuple[str, ...]:
    """Say what a reader of a half-finished study does not see."""
    lines = []
    states = tables.cells["status"].value_counts()
    for state, text in (("pending", "not trained yet"), ("failed", "failed with an error")):
        if states.get(state, 0):
            lines.append(f"{_cells(int(states[state]))} {text}.")
    if tables.damages:
        lines.append(f"{_files(len(tables.damages))} damaged; what they held is left out.")
    if tables.cells.empty:
        lines.append("No cell is planned or finished.")
    if "test" not in scores:
        lines.append("No finished cell has been evaluated on the test prompts, so nothing can be ranked.")
    elif "ood" not in scores and "ood" in (tables.study.get("data") or {}).get("splits", {"ood": 0}):
        lines.append("There are no results on out-of-distribution prompts.")
    for name, text in (("dynamics", "likelihoods during training"), ("responses", "generated responses")):
        if getattr(tables, name).empty:
            lines.append(f"There are no {text}.")
    done = tables.cells[(tables.cells["method"] != "") & tables.cells["evaluate_s"].notna()]
    if 0 < (left := int(done["diagnose_s"].isna().sum())) < len(done):
        lines.append(f"{_cells(left)} not diagnosed.")
    for split, found in scores.items():
        lines += [
            f"Cell {cell} {reason} of the {split} split and is left out." for cell, reason in found.incomplete.items()
        ]
    return tuple(lines)


def _cells(n: int) -> str:
    return f"{n} cell is" if n == 1 else f"{n} cells are"


def _files(n: int) -> str:
    return f"{n} file of the study is" if n == 1 else f"{n} files of the study are"


def seeds_of(cells: pd.DataFrame) -> int:
    """Return the number of different seeds the study's cells have."""
    return int(cells.loc[cells["method"] != "", "seed"].nunique())

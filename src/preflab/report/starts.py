"""Whether SFT is needed first, how much data is enough, and which task families are won and lost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, counted, measured
from preflab.report.ranking import SIGNIFICANT, compare_groups, score_interval, seed_variances
from preflab.report.tables import FloatArray, Group, Measure
from preflab.report.wording import difference_unit, names, p_phrase, p_value, score, score_range, size_of
from preflab.stats.comparisons import Comparison, holm, paired_comparison
from preflab.stats.intervals import Interval

_NAMED = 4
"""Combinations that a sentence names rather than counts."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """A paired difference, corrected together with those it is shown with.

    Args:
        group: the cells that differ in their seed only.
        against: what the difference is taken from: a start point, a size or a family, in words.
        score: mean of the group with its interval.
        found: group minus the other, paired over items and seeds.
        p_adjusted: after Holm's correction over all that is shown together.
    """

    group: Group
    against: str
    score: Interval
    found: Comparison
    p_adjusted: float = math.nan

    @property
    def sign(self) -> int:
        """1 where clearly higher, -1 where clearly lower, 0 where not told apart."""
        return int(np.sign(self.found.difference.estimate)) if self.p_adjusted < SIGNIFICANT else 0


def context(analysis: Analysis, best_start: str) -> dict[str, Any]:
    """Return what the section says beyond its tables of scores."""
    split = next(iter(analysis.scores), None)
    if split is None:
        return {"survival": [], "survival_each": [], "enough": None, "enough_said": [], "won": []}
    scores = analysis.scores[split]
    alone = without_sft(analysis, scores)
    order = sorted(analysis.starts, key=lambda start: start != best_start)
    enough = _enough(analysis, scores)
    return {
        "survival": _survival(analysis, scores, alone),
        "survival_each": [_survives(analysis, each) for each in alone],
        "enough": enough,
        "enough_said": [] if enough is None else _enough_said(enough, analysis.sizes[0]),
        "won": _won(analysis, scores, order),
    }


def facts(analysis: Analysis) -> dict[str, Any]:
    """Return the comparisons behind the section: `without_sft`, `sizes` and `families`, each a list of objects."""
    split = next(iter(analysis.scores), None)
    if split is None:
        return {"without_sft": [], "sizes": [], "families": []}
    scores = analysis.scores[split]
    pairs = [(start, method) for start in analysis.starts for method in analysis.methods]
    return {
        "without_sft": [_plain(each) for each in without_sft(analysis, scores)],
        "sizes": [_plain(each) for pair in pairs for each in enough_data(scores, *pair, analysis.sizes)],
        "families": [_plain(each) for start in analysis.starts for each in family_changes(analysis, scores, start)],
    }


def _plain(each: Contrast) -> dict[str, Any]:
    verdict = {1: "higher", -1: "lower", 0: "not told apart"}[each.sign]
    return {**each.group._asdict(), "against": each.against, "score": each.score, "difference": each.found.difference,
            "minimum_detectable": each.found.minimum_detectable, "p_adjusted": each.p_adjusted,
            "verdict": verdict}  # fmt: skip


def without_sft(analysis: Analysis, scores: Measure) -> list[Contrast]:
    """Compare every method from `base` with itself from `sft`, at the largest size.

    Accuracy is measured against each start point itself, so it cannot compare them: then there is nothing to return.
    """
    if analysis.metric.name == "accuracy":
        return []
    found = []
    for method in analysis.methods:
        base, sft = (Group(start, method, analysis.size) for start in ("base", "sft"))
        if base in scores.values and sft in scores.values:
            compared = compare_groups(scores, base, sft)
            found.append(Contrast(base, "sft", score_interval(scores.values[base], scores), compared))
    return _corrected(found)


def mean_without_sft(analysis: Analysis, scores: Measure) -> Comparison | None:
    """Compare the mean of all methods from `base` with their mean from `sft`: one comparison with more behind it.

    None where fewer than two methods have both, or where start points cannot be compared.
    """
    pairs = [(each.group, each.group._replace(start="sft")) for each in without_sft(analysis, scores)]
    seeds = sorted(set.intersection(*(set(scores.seeds[g]) for pair in pairs for g in pair))) if pairs else []
    if len(pairs) < 2 or not seeds:
        return None

    def mean(groups: Iterable[Group]) -> FloatArray:
        rows = [scores.values[g][[scores.seeds[g].index(seed) for seed in seeds]] for g in groups]
        return np.mean(rows, axis=0, dtype=np.float64)

    base, sft = (Group(start, "mean", analysis.size) for start in ("base", "sft"))
    values = {base: mean(b for b, _ in pairs), sft: mean(s for _, s in pairs)}
    return compare_groups(replace(scores, values=values, seeds=dict.fromkeys(values, tuple(seeds))), base, sft)


def enough_data(scores: Measure, start: str, method: str, sizes: Sequence[int]) -> list[Contrast]:
    """Compare every size below the best one with the best one; the best is the size with the highest mean."""
    mine = replace(scores, values={group: table for group, table in scores.values.items() if group.start == start})
    groups = [group for size in sizes if (group := Group(start, method, size)) in mine.values]
    if len(groups) < 2:
        return []
    best = max(groups, key=lambda group: float(mine.values[group].mean()))
    smaller = [group for group in groups if group.size < best.size]
    return _corrected([
        Contrast(group, str(best.size), score_interval(mine.values[group], mine), compare_groups(mine, group, best))
        for group in smaller
    ])  # fmt: skip


def family_changes(analysis: Analysis, scores: Measure, start: str) -> list[Contrast]:
    """Return each method's change from a start point by task family, at the largest size."""
    base, families = Group(start, "", 0), np.array(scores.families)
    if base not in scores.values or len(set(scores.families)) < 2:
        return []
    found = []
    for family in dict.fromkeys(scores.families):
        part = _only(scores, start, families == family)
        variances = seed_variances(part, analysis.size)
        before = part.values[base].mean(axis=0)
        for group in variances:
            if group.method:
                table, variance = part.values[group], variances[group]
                change = paired_comparison(
                    table, np.broadcast_to(before, table.shape), clusters=part.clusters, seed_variance=variance
                )
                found.append(Contrast(group, family, score_interval(table, part, variance), change))
    return _corrected(found)


def _only(scores: Measure, start: str, mask: Any) -> Measure:
    kept = np.flatnonzero(mask)
    return replace(
        scores,
        values={group: table[:, kept] for group, table in scores.values.items() if group.start == start},
        clusters=tuple(scores.clusters[k] for k in kept),
        families=tuple(scores.families[k] for k in kept),
        rows=tuple(scores.rows[k] for k in kept),
    )


def _corrected(found: Sequence[Contrast]) -> list[Contrast]:
    # Where no spread can be estimated nothing is told apart, and the comparison still counts in the correction.
    adjusted = holm([1.0 if math.isnan(each.found.p) else each.found.p for each in found])
    return [replace(each, p_adjusted=float(p)) for each, p in zip(found, adjusted, strict=True)]


def _survives(analysis: Analysis, each: Contrast) -> str:
    rate, gap = analysis.metric.is_rate, each.found.difference
    title = analysis.title(each.group.method)
    size = size_of(gap.estimate, rate=rate)
    bounds = (
        f"95 % interval {score_range(gap, rate=rate, sign=True)}; {p_phrase(each.p_adjusted)} after Holm’s correction"
    )
    if each.sign < 0:
        return f"{title} needs SFT first: from base it ends {size} lower than from sft ({bounds})."
    if each.sign > 0:
        return f"{title} is better without SFT: from base it ends {size} higher than from sft ({bounds})."
    detectable = each.found.minimum_detectable
    tail = f" A true difference of {size_of(detectable, rate=rate)} is found four times in five."
    return (
        f"{title} from base is not told apart from itself from sft: {score(gap.estimate, rate=rate, sign=True)}"
        f"{difference_unit(rate=rate)} ({bounds}).{tail if math.isfinite(detectable) else ''}"
    )


def _survival(analysis: Analysis, scores: Measure, alone: Sequence[Contrast]) -> list[str]:
    """Return the answer over all methods, the methods that differ from it, and what of the others is known."""
    if len(alone) < 2:
        return [_survives(analysis, each) for each in alone]
    mean = mean_without_sft(analysis, scores)
    said = [] if mean is None else [_mean_survives(analysis, mean)]
    said += [_survives(analysis, each) for each in alone if each.sign]
    level = [each for each in alone if not each.sign]
    if level:
        gaps = _range([each.found.difference.estimate for each in level], analysis, sign=True)
        found = _range([each.found.minimum_detectable for each in level], analysis)
        tail = f"; each comparison alone, before correction, finds {found} four times in five" if found else ""
        who = names([analysis.title(each.group.method) for each in level])
        who = (
            "no method is told apart"
            if len(level) == len(alone)
            else f"{who} {'is' if len(level) == 1 else 'are'} not told apart"
        )
        said.append(f"From base and from sft {who} (differences of {gaps}{tail}).")
    return said


def _mean_survives(analysis: Analysis, found: Comparison) -> str:
    rate, gap = analysis.metric.is_rate, found.difference
    amount = f"{score(gap.estimate, rate=rate, sign=True)}{difference_unit(rate=rate)}"
    verdict = "not told apart"
    if found.p < SIGNIFICANT:
        verdict = "SFT first is worth it" if gap.estimate < 0 else "better without SFT"
    bounds = f"{score_range(gap, rate=rate, sign=True)}; {p_phrase(found.p)}"
    return f"Mean of all methods: from base {amount} against from sft ({bounds}): {verdict}."


def _enough_said(table: Table, smallest: int) -> list[str]:
    """Return the table in sentences: where the best size has no rival, and where a smaller one does as well."""
    found: dict[str, list[str]] = {}
    for start, method, best, least, *_ in table.rows:
        if best.value == smallest:
            line = f"The smallest size, {best.text} pairs, has the highest mean"
        elif best.value == least.value:
            line = f"{best.text} pairs are clearly better than every smaller size"
        else:
            line = f"{least.text} pairs are not told apart from the best size, {best.text},"
        found.setdefault(line, []).append(f"{method.text} from {start.text}")
    most = max(found, key=lambda line: len(found[line]))
    lines = [most, *(line for line in found if line != most)]
    return [f"{line} {_where(found[line], len(table.rows), first=line == most)}." for line in lines]


def _where(groups: list[str], n: int, *, first: bool) -> str:
    """Return where something holds; the first sentence counts, the others name the exceptions."""
    if len(groups) == n:
        return "for every method from every start point"
    if first and len(groups) > _NAMED:
        return f"in {len(groups)} of {n} combinations of method and start point"
    return f"for {names(groups)}"


def _enough(analysis: Analysis, scores: Measure) -> Table | None:
    """Return the smallest size not told apart from the best one, by start point and method."""
    rate, rows = analysis.metric.is_rate, []
    for start in analysis.starts:
        for method in analysis.methods:
            groups = [g for size in analysis.sizes if (g := Group(start, method, size)) in scores.values]
            if len(groups) < 2:
                continue
            best = max(groups, key=lambda group: float(scores.values[group].mean()))
            least = next((each for each in enough_data(scores, start, method, analysis.sizes) if not each.sign), None)
            row = [Cell(start, kind="text"), Cell(analysis.title(method), kind="text"), counted(best.size)]
            if least is None:
                rows.append([*row, counted(best.size), Cell("the best itself", kind="muted"), Cell("–")])
                continue
            gap, mde = least.found.difference, least.found.minimum_detectable
            rows.append([
                *row, counted(least.group.size),
                measured(score(gap.estimate, rate=rate, sign=True), gap, score_range(gap, rate=rate, sign=True)),
                Cell(score(mde, rate=rate), value=mde),
            ])  # fmt: skip
    head = [("Start point", ""), ("Method", ""), ("Best size", "highest mean"),
            ("Smallest size not told apart from it", "paired, Holm over the smaller sizes"),
            ("Its difference", "95 % interval"), ("Detectable", "difference found with 80 % power")]  # fmt: skip
    return Table("How many training pairs are enough.", head, rows, "enough") if rows else None


def _won(analysis: Analysis, scores: Measure, order: Sequence[str]) -> list[dict[str, Any]]:
    """Return a table and sentences per start point: what each method won and lost by task family."""
    result: list[dict[str, Any]] = []
    for start in order:
        found = family_changes(analysis, scores, start)
        if found:
            title = f"Won and lost by task family, from {start}"
            result.append({"title": title, "table": _families(analysis, start, found), "lines": _lines(analysis, found),
                           "open": not result})  # fmt: skip
    return result


def _families(analysis: Analysis, start: str, found: Sequence[Contrast]) -> Table:
    rate, families = analysis.metric.is_rate, list(dict.fromkeys(each.against for each in found))
    head = [("Method", ""), *((family or "no family", "score; gain, 95 %") for family in families)]
    rows = []
    for method in dict.fromkeys(each.group.method for each in found):
        cells = []
        for each in (each for each in found if each.group.method == method):
            gap = each.found.difference
            p = f"; p {p_value(each.p_adjusted)}" if each.sign else ""
            note = f"{score(gap.estimate, rate=rate, sign=True)} ({score_range(gap, rate=rate, sign=True)}{p})"
            text = score(each.score.estimate, rate=rate)
            cells.append(measured(text, each.score, note, "best" if each.sign else "num"))
        rows.append([Cell(analysis.title(method), kind="text"), *cells])
    caption = (
        f"{analysis.metric.label} by task family from {start}, and the gain over it. Bold: told apart from it, p after "
        "Holm."
    )
    return Table(caption, head, rows, f"won-{start}")


def _lines(analysis: Analysis, found: Sequence[Contrast]) -> list[str]:
    """Return what was told apart method by method, who has nothing of it, and what could have been missed."""
    lines, level = [], []
    for method in dict.fromkeys(each.group.method for each in found):
        own = [each for each in found if each.group.method == method]
        said = []
        for what, sign in (("gains", 1), ("losses", -1)):
            if there := [each.against or "no family" for each in own if each.sign == sign]:
                said.append(f"clear {what} on {len(there)} of {len(own)} families ({names(there)})")
        if said:
            lines.append(f"{analysis.title(method)}: {', '.join(said)}.")
        else:
            level.append(analysis.title(method))
    if level:
        n = len(dict.fromkeys(each.against for each in found))
        who = names(level) if lines else "all methods"
        lines.append(f"No clear gain or loss on any of {n} families: {who}.")
    if missed := _range([each.found.minimum_detectable for each in found if not each.sign], analysis):
        lines.append(f"Each comparison alone, before correction, finds changes of {missed} four times in five.")
    return lines


def _range(values: Sequence[float], analysis: Analysis, *, sign: bool = False) -> str:
    """Return the smallest and the largest of some sizes; nothing where one is not known."""
    if not values or not all(map(math.isfinite, values)):
        return ""
    rate = analysis.metric.is_rate
    write = (lambda value: score(value, rate=rate, sign=True)) if sign else (lambda value: size_of(value, rate=rate))
    low, high = write(min(values)), write(max(values))
    return low if low == high else f"{low} to {high}"

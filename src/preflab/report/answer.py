"""The answer in words: which method, at which setting, how sure, and what to try next."""

import math
from dataclasses import dataclass
from typing import Literal

from preflab.diagnose.checkpoints import HARMFUL
from preflab.report.analysis import Analysis
from preflab.report.next_steps import how_to_grow, next_steps, open_cells
from preflab.report.ranking import POOLED, RankedMethod, Ranking, compare_groups
from preflab.report.robustness import safest
from preflab.report.second_opinion import win_rate_doubts
from preflab.report.tables import ACCURACY, Group
from preflab.report.wording import (
    count,
    difference_unit,
    names,
    p_phrase,
    probability,
    score,
    score_range,
    size_of,
)

Status = Literal["settled", "open", "no gain", "single", "nothing"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the page says first.

    Args:
        status: `settled`: one method beats all others; `open`: several may be best; `no gain`: none is reliably better
            than its start point; `single`: one method only; `nothing`: no result yet.
        headline: one sentence.
        lead: the numbers behind it.
        effect: what the best method did to the model, where that should not be overlooked; else empty.
        sure: how sure that is, one sentence each.
        next_steps: what to try next, most useful first.
        grow: what the `--set` of a step belongs to, else empty.
        winner: group of the best method, None without results.
    """

    status: Status
    headline: str
    lead: str
    effect: str
    sure: tuple[str, ...]
    next_steps: tuple[str, ...]
    grow: str
    winner: Group | None


def answer(analysis: Analysis) -> Answer:
    """Return the verdict of a study on its test split, or on whatever split it has."""
    best = analysis.leading
    if best is None:
        text = "The study has no finished and evaluated cell yet, so there is nothing to compare."
        return Answer("nothing", "No answer yet", text, "", (), next_steps(analysis, None), "", None)
    status, steps = _status(best), next_steps(analysis, best)
    return Answer(
        status=status,
        headline=("So far: " if open_cells(analysis) else "") + _headline(analysis, best, status),
        lead=_lead(analysis, best),
        effect=_effect(analysis, Group(best.start, best.rows[0].method, best.size)),
        sure=tuple(_sure(analysis, best)),
        next_steps=steps,
        grow=how_to_grow(analysis, steps),
        winner=Group(best.start, best.rows[0].method, best.size),
    )


def _status(best: Ranking) -> Status:
    if not best.rows[0].gained:
        return "no gain"
    if len(best.rows) == 1:
        return "single"
    return "settled" if best.settled else "open"


def _headline(analysis: Analysis, best: Ranking, status: Status) -> str:
    title = analysis.title(best.rows[0].method)
    rivals = [analysis.title(row.method) for row in best.contenders[1:]]
    if status == "settled":
        return f"Use {title}, starting from {best.start}"
    if status == "no gain":
        return f"No gain shown: no method is told apart above its start point, {best.start}"
    if status == "single":
        return f"{title} improves on {best.start}; it was compared with nothing else"
    if len(rivals) > 3:
        return f"{title} from {best.start} leads, but {len(rivals)} other methods may be as good"
    return f"{title} from {best.start} leads, but {names(rivals)} may be as good"


def _lead(analysis: Analysis, best: Ranking) -> str:
    top, rate = best.rows[0], analysis.metric.is_rate
    item = "test pair" if analysis.metric.name == ACCURACY.name else "test prompt"
    settings = analysis.settings(Group(best.start, top.method, best.size))
    setting = f"{settings[0]}, " if len(settings) == 1 and settings[0] else ""
    if len(settings) > 1:
        setting = f"a setting per seed ({'; '.join(settings)}), "
    text = "" if top.gained else "The best trained model: "
    text += (
        f"{analysis.title(top.method)} at {setting}{count(best.size, 'training pair')}: "
        f"{analysis.metric.label.lower()} {score(top.overall.estimate, rate=rate)} "
        f"(95 % interval {score_range(top.overall, rate=rate)}) on {count(best.n_items, item)}"
        f"{' outside the training distribution' if best.split == 'ood' else ''}, "
        f"{_seeds_phrase(len(top.seeds))}."
    )
    if top.gain is None or best.baseline is None:
        return text
    change, base = top.gain.difference, score(best.baseline.estimate, rate=rate)
    before = f"{base} would be no change" if analysis.metric.name == ACCURACY.name else f"Its start point has {base}"
    return text + (
        f" {before}: a gain of {score(change.estimate, rate=rate, sign=True)}{difference_unit(rate=rate)} "
        f"({score_range(change, rate=rate, sign=True)}, {p_phrase(top.p_gain)}"
        f"{f' after Holm over {len(best.rows)} methods' if len(best.rows) > 1 else ''})."
    )


def _effect(analysis: Analysis, winner: Group) -> str:
    """Say what a reader must not overlook: harm over the seeds or with any of them, or displacement."""
    effect = analysis.effects.get(winner)
    if effect is None:
        return ""
    title = analysis.title(winner.method)
    if any(code in HARMFUL for code in (effect.code, *effect.codes)):
        return f"But look at what {title} did to the model: {effect.agreement}. Read its responses before you use it."
    if effect.code == "displacement":
        return (
            f"{title} displaced the chosen responses ({effect.agreement}): they became less likely although the margin "
            "grew. Its own responses, and their score, say whether better ones took their place."
        )
    return ""


def _seeds_phrase(n: int) -> str:
    return "one seed, so the interval covers the choice of prompts only" if n == 1 else f"mean of {n} seeds"


def _sure(analysis: Analysis, best: Ranking) -> list[str]:
    lines = []
    gain, rate = best.rows[0].gain, analysis.metric.is_rate
    if gain is not None and not best.rows[0].gained and math.isfinite(gain.minimum_detectable):
        lines.append(
            f"A true gain of {size_of(gain.minimum_detectable, rate=rate)} would be found four times in five; a "
            "smaller one may well be there and missed."
        )
    if len(best.rows) > 1:
        lines += [_runner_up(analysis, best), *win_rate_doubts(analysis, best), _detectable(analysis, best)]
    lines += [line for line in [safest(analysis, best.start, best.rows[0].method)] if line]
    lines += _other_starts(analysis, best)
    pooled = analysis.ranking(best.split, POOLED)
    if pooled and len(pooled.rows) > 1:
        top = pooled.rows[0]
        rivals = [analysis.title(row.method) for row in pooled.contenders[1:]]
        tail = f"; not told apart from it: {names(rivals)}" if rivals else "; told apart from every other method"
        lines.append(
            f"Averaged over all start points {analysis.title(top.method)} is first "
            f"({score(top.overall.estimate, rate=analysis.metric.is_rate)}, probability of being the best "
            f"{probability(top.probability_best)}){tail}."
        )
    return [*lines, *_out_of_distribution(analysis, best)]


def _runner_up(analysis: Analysis, best: Ranking) -> str:
    second, rate = best.rows[1], analysis.metric.is_rate
    assert second.behind is not None
    gap = second.behind.difference
    verdict = "told apart" if second.separable else "not told apart"
    over = f", Holm over all {math.comb(len(best.rows), 2)} pairs" if len(best.rows) > 2 else ""
    return (
        f"The runner-up from {best.start}, {analysis.title(second.method)}, is "
        f"{size_of(gap.estimate, rate=rate)} behind "
        f"({score_range(gap, rate=rate, sign=True)}; {p_phrase(second.p_adjusted)}{over}): {verdict}. "
        f"Probability of being the best: {analysis.title(best.rows[0].method)} "
        f"{probability(best.rows[0].probability_best)}, {analysis.title(second.method)} "
        f"{probability(second.probability_best)}."
    )


def _detectable(analysis: Analysis, best: Ranking) -> str:
    second = best.rows[1]
    assert second.behind is not None
    rate = analysis.metric.is_rate
    mde = size_of(second.behind.minimum_detectable, rate=rate)
    return (
        f"This comparison finds a true difference of {mde} four times in five; smaller ones are likely to be missed "
        "with these prompts and seeds."
    )


def _other_starts(analysis: Analysis, best: Ranking) -> list[str]:
    if analysis.metric.name == ACCURACY.name:
        return []  # accuracy is measured against each start point itself, so starts cannot be compared by it
    mine, rate = Group(best.start, best.rows[0].method, best.size), analysis.metric.is_rate
    parts = []
    for start in analysis.starts:
        other = analysis.ranking(best.split, start)
        if start == best.start or other is None:
            continue
        theirs = Group(start, other.rows[0].method, other.size)
        gap = compare_groups(analysis.scores[best.split], mine, theirs)
        parts.append(
            f"from {start} {analysis.title(theirs.method)} reaches "
            f"{score(other.rows[0].overall.estimate, rate=rate)}, {score(gap.difference.estimate, rate=rate)} less "
            f"({p_phrase(gap.p)})"
        )
    return [f"Other start points: {'; '.join(parts)}."] if parts else []


def _out_of_distribution(analysis: Analysis, best: Ranking) -> list[str]:
    other = analysis.ranking("ood", best.start)
    if best.split == "ood" or other is None or len(other.rows) < 2:
        return []
    names_in_order = [row.method for row in other.rows]
    method = best.rows[0].method
    if method not in names_in_order:
        return []
    place, rate = names_in_order.index(method), analysis.metric.is_rate
    mine: RankedMethod = other.rows[place]
    title = f"{analysis.title(method)} from {best.start}"
    value = f"{score(mine.overall.estimate, rate=rate)}, {score_range(mine.overall, rate=rate)}"
    if place == 0:
        rivals = [analysis.title(row.method) for row in other.contenders[1:]]
        tail = f"not told apart from {names(rivals)}" if rivals else "told apart from every other method"
        return [f"On out-of-distribution prompts {title} is first too ({value}), {tail}."]
    apart = "told apart from it" if mine.separable else "not told apart from it"
    return [
        f"On out-of-distribution prompts {title} is number {place + 1} of {len(other.rows)} ({value}); "
        f"{analysis.title(names_in_order[0])} leads there, {apart}."
    ]

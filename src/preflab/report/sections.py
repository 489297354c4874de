"""The tables of the page: numbers already in words, ready for the template."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.behaviour import Behaviour
from preflab.report.cells import Cell as Cell
from preflab.report.cells import Table as Table
from preflab.report.cells import counted, measured
from preflab.report.ranking import POOLED, RankedMethod, Ranking, group_intervals
from preflab.report.tables import Group
from preflab.report.wording import (
    MISSING,
    big,
    count,
    duration,
    names,
    number,
    p_value,
    percent,
    probability,
    score,
    score_range,
)
from preflab.stats.intervals import Interval
from preflab.stats.win_rates import WinRate


def winners(analysis: Analysis) -> Table | None:
    """Return the best method of every start point on the test prompts, and over all start points."""
    split = next(iter(analysis.scores), None)
    scopes = [s for s in (*analysis.starts, POOLED) if split and analysis.ranking(split, s)]
    if not split or not scopes:
        return None
    head = [
        ("Start point", ""), ("Best method", "setting chosen on validation"), (analysis.metric.label, "95 % interval"),
        ("Gain over the start point", "95 % interval"), ("May be as good", "not told apart from the best at 5 %"),
        ("P(best)", "share of bootstrap draws in which it wins"),
    ]  # fmt: skip
    rows = [_winner(analysis, ranking) for s in scopes if (ranking := analysis.ranking(split, s))]
    caption = f"The best method from each start point, {count(analysis.size, 'training pair')}."
    return Table(caption, head, rows, "winners")


def _winner(analysis: Analysis, ranking: Ranking) -> list[Cell]:
    top, rate = ranking.rows[0], analysis.metric.is_rate
    settings = () if ranking.start == POOLED else analysis.settings(Group(ranking.start, top.method, ranking.size))
    rivals = [analysis.title(row.method) for row in ranking.contenders[1:]]
    none = "none" if len(ranking.rows) > 1 else "nothing to compare with"
    return [
        Cell(ranking.start, kind="text"),
        Cell(analysis.title(top.method), "; ".join(settings), "text"),
        _scored(top.overall, rate=rate),
        _gained(top, rate=rate),
        Cell(names(rivals) if rivals else none, kind="text"),
        Cell(probability(top.probability_best), value=top.probability_best),
    ]


def ranking_table(analysis: Analysis, ranking: Ranking) -> Table:
    """Return the ranking of one scope: what to read."""
    rate = analysis.metric.is_rate
    head = [
        ("Method", ""), (analysis.metric.label, "mean, 95 % interval over prompts and seeds"),
        ("Gain over start", "95 % interval"), ("Behind the best", "95 % interval of the paired difference"),
        ("p", "paired test over prompts and seeds, Holm over all pairs"),
        ("Detectable", "difference found with 80 % power"),
        ("P(best)", "share of bootstrap draws in which it wins"), ("Rank", "95 % of the draws"),
    ]  # fmt: skip
    rows = [_ranked(analysis, row, rate=rate) for row in ranking.rows]
    for method, reason in ranking.unranked.items():
        rows.append([Cell(analysis.title(method), kind="text"), Cell(f"not ranked: {reason}", kind="muted")])
        rows[-1] += [Cell(MISSING)] * (len(head) - 2)
    if ranking.baseline is not None:
        start = [Cell("start point", kind="text"), _scored(ranking.baseline, rate=rate)]
        rows.append(start + [Cell("")] * (len(head) - 2))
    where = ranking.start if ranking.start == POOLED else f"from {ranking.start}"
    return Table(
        f"{where[0].upper()}{where[1:]}, {_split(ranking.split)}: {count(ranking.n_items, 'prompt')}, "
        f"{count(ranking.size, 'training pair')}.", head, rows, f"ranking-{ranking.split}-{ranking.start}",
    )  # fmt: skip


def _ranked(analysis: Analysis, row: RankedMethod, *, rate: bool) -> list[Cell]:
    gap = row.behind
    return [
        Cell(analysis.title(row.method), kind="text"),
        _scored(row.overall, rate=rate, best=not row.separable),
        _gained(row, rate=rate),
        Cell("best", kind="muted")
        if gap is None
        else measured(
            score(gap.difference.estimate, rate=rate), gap.difference, score_range(gap.difference, rate=rate)
        ),
        Cell(MISSING) if gap is None else Cell(p_value(row.p_adjusted), value=row.p_adjusted),
        Cell(MISSING) if gap is None else Cell(score(gap.minimum_detectable, rate=rate), value=gap.minimum_detectable),
        Cell(probability(row.probability_best), value=row.probability_best),
        Cell(str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"),
    ]


def tests_table(analysis: Analysis, ranking: Ranking) -> Table:
    """Return the kinds of intervals and tests behind a ranking, for those who want to check it."""
    rate = analysis.metric.is_rate
    head = [
        ("Method", ""), ("Prompts and seeds", "95 % interval; degrees of freedom"), ("Prompts only", "these weights"),
        ("Seeds only", "t interval of the seed means; degrees of freedom"), ("Seed means", ""),
        ("p, prompts only", "paired t test of differences averaged over seeds"), ("p, sign flip", "permutation test"),
        ("Correlation", "of prompt scores with the best"),
    ]  # fmt: skip
    rows = []
    for row in ranking.rows:
        gap = row.behind
        rows.append([
            Cell(analysis.title(row.method), kind="text"),
            _ranged(row.overall, rate=rate), _ranged(row.over_items, rate=rate),
            _ranged(row.over_seeds, rate=rate) if len(row.seeds) > 1 else Cell("one seed", kind="muted"),
            Cell(", ".join(score(mean, rate=rate) for mean in row.seed_means)),
            Cell(MISSING) if gap is None else Cell(p_value(gap.p_items), value=gap.p_items),
            Cell(p_value(row.p_permutation), value=row.p_permutation),
            Cell(MISSING) if gap is None else Cell(number(gap.correlation, 2), value=gap.correlation),
        ])  # fmt: skip
    caption = "Every interval and test behind this ranking."
    return Table(caption, head, rows, f"tests-{ranking.split}-{ranking.start}")


def starts_table(analysis: Analysis, split: str) -> Table | None:
    """Return start points and sizes against methods."""
    if split not in analysis.scores:
        return None
    found = group_intervals(analysis.scores[split])
    rate = analysis.metric.is_rate
    head = [("Start point", ""), ("Pairs", ""), ("Start point itself", "")]
    head += [(analysis.title(method), "") for method in analysis.methods]
    rows = []
    for start in analysis.starts:
        for size in analysis.sizes:
            cells = [found.get(Group(start, method, size)) for method in analysis.methods]
            if not any(cells):
                continue
            top = max(cell.estimate for cell in cells if cell is not None)
            row = [Cell(start, kind="text"), counted(size), _scored(found.get(Group(start, "", 0)), rate=rate)]
            rows.append(row + [_scored(c, rate=rate, best=c is not None and c.estimate == top) for c in cells])
    caption = f"{analysis.metric.label}, {_split(split)}; the best of a row is bold."
    return Table(caption, head, rows, f"starts-{split}") if rows else None


def behaviour_table(analysis: Analysis, split: str, start: str) -> Table | None:
    """Return what training from one start point did to the model, one row per method at the largest size."""
    shown = _shown(analysis, split, start)
    n = _units(shown)
    columns: list[tuple[tuple[str, str], Callable[[Behaviour], Cell]]] = [
        ((analysis.metric.label, f"mean, {n['responses']}"), lambda b: _plain(b.reward, 3)),
        (("Wins against chosen", f"the data's responses; ties half, {n['responses']}"), lambda b: _wins(b.win_chosen)),
        (("Wins against the start", f"ties half, {n['responses']}"), lambda b: _wins(b.win_start)),
        (("KL to the start", f"nats per response, {n['responses']}"), lambda b: _plain(b.kl, 2)),
        (("KL per token", f"nats, {n['responses']}"), lambda b: _plain(b.kl_token, 3)),
        (("Length", f"tokens, {n['responses']}"), lambda b: _plain(b.length, 1)),
        (("Cut", f"at the token limit, {n['responses']}"), lambda b: _rate(b.truncated)),
        (("Preference accuracy", f"chosen gained more than rejected, {n['pairs']}"), lambda b: _rate(b.accuracy)),
        (("Accuracy per token", f"chosen likelier, no reference, {n['pairs']}"), lambda b: _rate(b.accuracy_per_token)),
        (("Chosen", f"log-prob against the start, nats, {n['pairs']}"), lambda b: _plain(b.chosen_change, 2)),
        (("Rejected", f"log-prob against the start, nats, {n['pairs']}"), lambda b: _plain(b.rejected_change, 2)),
        (("Margin", f"chosen − rejected, nats, {n['pairs']}"), lambda b: _plain(b.margin, 2)),
    ]
    kept = [(title, cell) for title, cell in columns if any(cell(b).text != MISSING for b in shown)]
    if not kept:
        return None
    head = [("Method", ""), *(title for title, _ in kept)]
    rows = [[Cell(analysis.title(b.group.method), kind="text"), *(cell(b) for _, cell in kept)] for b in shown]
    caption = f"From {start}, {_split(split)}, {count(analysis.size, 'training pair')}; 95 % intervals."
    return Table(caption, head, rows, f"behaviour-{split}-{start}")


def _units(shown: Sequence[Behaviour]) -> dict[str, str]:
    """Say how many responses and how many pairs are behind the numbers; there may be fewer pairs."""
    found = {
        "responses": [each for b in shown if (each := b.length or b.reward)],
        "pairs": [each for b in shown if (each := b.accuracy_per_token or b.margin)],
    }
    return {what: f"{max((each.n for each in known), default=0):,} {what}" for what, known in found.items()}


def parts_table(analysis: Analysis, split: str, start: str) -> Table | None:
    """Return the mean of every part of the reward."""
    shown = _shown(analysis, split, start)
    parts = list(dict.fromkeys(part for b in shown for part in b.parts))
    if not parts:
        return None
    head = [("Method", ""), *((part.removeprefix("reward_"), "") for part in parts)]
    rows = [
        [
            Cell(analysis.title(b.group.method), kind="text"),
            *(Cell(number(b.parts.get(part), 3), value=b.parts.get(part)) for part in parts),
        ]
        for b in shown
    ]
    caption = f"Parts of the reward, from {start}, {_split(split)}: means."
    return Table(caption, head, rows, f"reward-parts-{split}-{start}")


def _shown(analysis: Analysis, split: str, start: str) -> list[Behaviour]:
    found = analysis.behaviour[split].values()
    return [b for b in found if b.group.start == start and b.group.size in (0, analysis.size)]


def families_table(analysis: Analysis, split: str) -> Table | None:
    """Return the headline score by task family and method, averaged over start points and seeds."""
    found = analysis.scores.get(split)
    if found is None or len(set(found.families)) < 2:
        return None
    rate = analysis.metric.is_rate
    methods = [m for m in analysis.methods if any(g.method == m and g.size == analysis.size for g in found.values)]
    starts = [s for s in analysis.starts if all(Group(s, m, analysis.size) in found.values for m in methods)]
    if not methods or not starts:
        return None
    head = [("Family", ""), ("Prompts", ""), ("Start point", "")]
    head += [(analysis.title(method), "") for method in methods]
    families = np.array(found.families)
    rows = []
    for family in dict.fromkeys(found.families):
        mask = families == family
        base = _family_mean([found.values.get(Group(s, "", 0)) for s in starts], mask)
        means = [_family_mean([found.values[Group(s, m, analysis.size)] for s in starts], mask) for m in methods]
        cells = [
            Cell(
                score(mean, rate=rate),
                score(mean - base, rate=rate, sign=True),
                "best" if mean == max(means) else "num",
                mean,
            )
            for mean in means
        ]
        first = [Cell(family or "no family", kind="text"), counted(int(mask.sum()))]
        first.append(Cell(score(base, rate=rate), value=base))
        rows.append([*first, *cells])
    over = "" if len(starts) == 1 and len(analysis.starts) == 1 else f", averaged over {names(starts)}"
    caption = f"{analysis.metric.label} by task family{over}; below it the gain over the start point."
    return Table(caption, head, rows, f"families-{split}")


def cost_table(analysis: Analysis) -> Table | None:
    """Return time and tokens by method, all cells of the grid included."""
    cells = analysis.tables.cells
    trained = cells[cells["method"] != ""]
    if trained.empty:
        return None
    head = [("Method", ""), ("Cells", "whole grid"), ("Training", "sum"), ("Per cell", "mean training"),
            ("Evaluation", "sum, with benchmarks"),
            ("Diagnosis", "sum"), ("Tokens", "trained on"), ("Steps", "of those planned"),
            ("Tokens per second", "training"), ("Own answers", "tokens sampled")]  # fmt: skip
    rows = [_cost(analysis.title(m), trained[trained["method"] == m]) for m in analysis.methods]
    rows.append(_cost("all methods", trained))
    judges = trained.dropna(subset=["judge_s"]).drop_duplicates("judge")
    if len(judges):
        seconds = judges["judge_s"]
        rows.append([Cell("reward models", kind="text"), counted(len(judges)), _timed(seconds.sum()),
                     _timed(seconds.mean()), *[Cell(MISSING)] * 6])  # fmt: skip
    bases = cells[cells["method"] == ""]
    if not bases.empty and bases["evaluate_s"].notna().any():
        rows.append([Cell("start points", kind="text"), counted(len(bases)), Cell(MISSING), Cell(MISSING),
                     _timed(_evaluation_s(bases)), _timed(_diagnosis_s(bases)),
                     *[Cell(MISSING)] * 4])  # fmt: skip
    if not (trained["sampled_tokens"] > 0).any():
        head, rows = head[:-1], [row[:-1] for row in rows]
    caption = "Worker time, summed over parallel workers; validation runs of the grid are included."
    return Table(caption, head, rows, "cost")


def _cost(name: str, cells: Any) -> list[Cell]:
    train, tokens = cells["train_s"].sum(min_count=1), cells["tokens"].sum(min_count=1)
    speed = tokens / train if train and train > 0 else math.nan
    share = cells["n_steps"].sum() / cells["planned_steps"].sum(min_count=len(cells))
    sampled = cells["sampled_tokens"].sum(min_count=1)
    return [
        Cell(name, kind="text"),
        counted(len(cells)),
        *map(_timed, (train, cells["train_s"].mean(), _evaluation_s(cells), _diagnosis_s(cells))),
        Cell(big(tokens), value=tokens),
        Cell(percent(share), value=share),
        Cell(big(speed), value=speed),
        Cell(big(sampled), value=sampled),
    ]


def _timed(seconds: float) -> Cell:
    return Cell(duration(seconds), value=seconds)


def _evaluation_s(cells: Any) -> float:
    return float(cells[["evaluate_s", "benchmarks_s"]].stack().sum(min_count=1))


def _diagnosis_s(cells: Any) -> float:
    return float(cells[["diagnose_s", "gradients_s"]].stack().sum(min_count=1))


def trouble_table(analysis: Analysis) -> Table | None:
    """Return the cells that diverged or failed, and those in which a clamp replaced values."""
    cells = analysis.tables.cells
    bad = cells[cells["status"].isin(["diverged", "failed"]) | (cells["clamped"] > 0)]
    if bad.empty:
        return None
    head = [(name, "") for name in ("Method", "Start point", "Setting", "Pairs", "Seed", "What", "Step", "Cause")]
    rows = [
        [Cell(analysis.title(c.method), kind="text"), Cell(c.start, kind="text"), Cell(c.setting, kind="text"),
         counted(c.size), Cell(str(c.seed), value=c.seed), Cell(c.status, kind="text"),
         Cell(number(c.step, 0), value=c.step),
         Cell(_cause(c), kind="text")]
        for c in bad.itertuples()
    ]  # fmt: skip
    title = "Cells to look at. Divergence is a result about a method, not an accident; so are values at a clamp."
    return Table(title, head, rows, "trouble")


def stopped_table(analysis: Analysis) -> Table | None:
    """Return the settings that successive halving stopped before their end."""
    cells = analysis.tables.cells
    stopped = cells[cells["status"] == "stopped"]
    if stopped.empty:
        return None
    by = ["method", "start", "size", "setting", "step"]
    head = [("Method", ""), ("Start point", ""), ("Pairs", ""), ("Setting", ""), ("Stopped after step", ""),
            ("Validation there", "mean over seeds"),
            ("Needed to go on", "the last that did; a tie goes to the first of the grid")]  # fmt: skip
    rows = [
        [Cell(analysis.title(method), kind="text"), Cell(start, kind="text"), counted(size),
         Cell(setting, kind="text"), Cell(number(step, 0), value=step),
         *(Cell(number(value, 4), value=value) for value in (found["validation"].mean(), found["needed"].iloc[0]))]
        for (method, start, size, setting, step), found in stopped.groupby(by, sort=False)
    ]  # fmt: skip
    title = "Settings that were behind on validation before the end of their schedule, and trained no further."
    return Table(title, head, rows, "stopped")


def _cause(cell: Any) -> str:
    clamped = f"a clamp held {cell.clamped:,.0f} of {cell.examples:,.0f} examples" if cell.clamped > 0 else ""
    return "; ".join(part for part in (str(cell.cause), clamped) if part)


def _family_mean(tables: Iterable[Any], mask: Any) -> float:
    known = [table[:, mask].mean() for table in tables if table is not None]
    return float(np.mean(known)) if known else math.nan


def _split(split: str) -> str:
    return {"test": "test prompts", "ood": "out-of-distribution prompts"}.get(split, split)


def _scored(interval: Interval | None, *, rate: bool, best: bool = False) -> Cell:
    if interval is None:
        return Cell(MISSING)
    bounds = score_range(interval, rate=rate) if interval.se != 0 or interval.kind == "wilson" else "by definition"
    return measured(score(interval.estimate, rate=rate), interval, bounds, "best" if best else "num")


def _gained(row: RankedMethod, *, rate: bool) -> Cell:
    if row.gain is None:
        return Cell(MISSING)
    change = row.gain.difference
    return measured(score(change.estimate, rate=rate, sign=True), change, score_range(change, rate=rate, sign=True))


def _ranged(interval: Interval, *, rate: bool) -> Cell:
    df = MISSING if math.isinf(interval.df) else number(interval.df, 0 if interval.df == round(interval.df) else 1)
    note = "Wilson" if interval.kind == "wilson" else f"df {df}"
    return measured(score_range(interval, rate=rate), interval, note)


def _rate(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(MISSING)
    return measured(percent(interval.estimate, 1), interval, score_range(interval, rate=True))


def _plain(interval: Interval | None, digits: int) -> Cell:
    if interval is None:
        return Cell(MISSING)
    bounds = "" if math.isnan(interval.low) else f"{number(interval.low, digits)} to {number(interval.high, digits)}"
    return measured(number(interval.estimate, digits), interval, bounds)


def _wins(rate: WinRate | None) -> Cell:
    return Cell(MISSING) if rate is None else _rate(rate.rate)

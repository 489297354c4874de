"""What the methods did to the models, as tables for the page of a study."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from preflab.diagnose.checkpoints import DEGENERATE, HARMFUL, NAMES
from preflab.report.analysis import Analysis
from preflab.report.behaviour import Behaviour
from preflab.report.cells import Cell, Table, counted, measured
from preflab.report.effects import GRADIENTS, Effect
from preflab.report.wording import MISSING, count, number, percent, signed
from preflab.stats.intervals import Interval, mean_interval

TITLES: Mapping[str, str] = {"chosen": "chosen", "rejected": "rejected", **NAMES}
"""Kinds of responses, for people."""
WARNINGS = (*HARMFUL, "displacement", "divergence")
"""Verdicts that a reader should not overlook."""


def overview(analysis: Analysis) -> Table | None:
    """Return the verdict on every group, all sizes, in a line each."""
    if not analysis.effects:
        return None
    pairs, probed = _measured_on(analysis)
    answers = next((b.length.n for b in analysis.behaviour["test"].values() if b.length), 0)
    head = [
        ("Start point", ""),
        ("Method", ""),
        ("Pairs", "of training"),
        ("Verdict", "and on each seed alone"),
        ("Chosen", f"change, nats per response; {pairs}"),
        ("Rejected", f"change; {pairs}"),
        ("Margin", f"change; {pairs}"),
        ("Answers to other prompts", f"change; {probed['mismatched']}"),
        ("KL per token", f"nats; {count(answers, 'sampled response')}"),
    ]
    shown = ("chosen", "rejected", "margin", "mismatched")
    rows = [
        [
            Cell(group.start, kind="text"),
            Cell(analysis.title(group.method), kind="text"),
            counted(group.size),
            Cell(effect.agreement, kind="text"),
            *(_changed(effect, role) for role in shown),
            _kl(analysis.behaviour["test"].get(group)),
        ]
        for group, effect in analysis.effects.items()
    ]
    caption = f"What training did, group by group; 95 % {_over(analysis.effects.values())}."
    return Table(caption, head, rows, "effects")


def _measured_on(analysis: Analysis) -> tuple[str, dict[str, str]]:
    """Say how many pairs changes of chosen, rejected and margin rest on, and how many rows each kind of response."""
    n = max(effect.n_pairs for effect in analysis.effects.values())
    rows = analysis.tables.probes.groupby("role")["row"].nunique()
    probed = {str(role): count(int(k), "test row") for role, k in rows.items()}
    return count(n, "test pair") if n else probed["chosen"], probed


def by_start(analysis: Analysis, best_start: str) -> list[dict[str, Any]]:
    """Return verdicts and tables at the largest size, start point by start point, the best one first and unfolded."""
    result: list[dict[str, Any]] = []
    for start in sorted(analysis.starts, key=lambda start: start != best_start):
        groups = [g for g in analysis.effects if g.start == start and g.size == analysis.size]
        named = [(analysis.title(g.method), analysis.effects[g]) for g in groups]
        sound = [(title, effect) for title, effect in named if effect.changes]
        if not named:
            continue
        result.append(
            {
                "start": start,
                "open": not result,
                "verdicts": [(title, each, "open" if each.code in WARNINGS else "single") for title, each in named],
                "tables": _tables(analysis, start, sound) if sound else [],
                "alike": alike_table("Method", [(title, effect.alike) for title, effect in sound]),
            }
        )
    return result


def _tables(analysis: Analysis, start: str, sound: Sequence[tuple[str, Effect]]) -> list[Table]:
    pairs, probed = _measured_on(analysis)
    answers = count(int(analysis.tables.samples["row"].nunique()), "sampled answer")
    return [
        _roles(start, sound, pairs, probed),
        _parts(start, sound, probed["chosen"]),
        _answers(start, sound, answers),
    ]


def _roles(start: str, sound: Sequence[tuple[str, Effect]], pairs: str, probed: Mapping[str, str]) -> Table:
    """Return where the probability went: methods against kinds of responses."""
    roles = [role for role in TITLES if any(role in effect.changes for _, effect in sound)]
    head = [("Method", "")]
    for role in roles:
        measured_on = probed[role] if role in NAMES else pairs
        behind = "behind the first token; " if role in DEGENERATE else ""
        head.append((TITLES[role].capitalize(), f"{behind}{measured_on}"))
    rows = [[Cell(title, kind="text"), *(_changed(effect, role) for role in roles)] for title, effect in sound]
    over = _over([effect for _, effect in sound])
    caption = f"Where the probability went, from {start}: change in nats per response, 95 % {over}."
    return Table(caption, head, rows, f"effects-roles-{start}")


def _parts(start: str, sound: Sequence[tuple[str, Effect]], rows_of: str) -> Table:
    head = [("Method", "")]
    head += [(f"{side}, {part}", "nats") for side in ("Chosen", "Rejected") for part in ("first token", "the rest")]
    rows = [
        [
            Cell(title, kind="text"),
            *(_signed(part, 2) for role in ("chosen", "rejected") for part in effect.parts[role]),
        ]
        for title, effect in sound
    ]
    caption = f"First token against the rest, from {start}: change since the start point, {rows_of}."
    return Table(caption, head, rows, f"effects-tokens-{start}")


def _answers(start: str, sound: Sequence[tuple[str, Effect]], answers: str) -> Table:
    head = [("Model", ""), ("Entropy", "nats per token"), ("Distinct", "token pairs in an answer")]
    head += [("Gradient of chosen", "norm, median over pairs"), ("of rejected", ""), ("Cosine", "of the two")]
    taken = any(effect.gradients for _, effect in sound)
    before = sound[0][1].before
    rows = [
        [
            Cell("start point", kind="text"),
            _number(before["entropy"], number(before["entropy"], 2)),
            _number(before["distinct"], percent(before["distinct"])),
            *(_number(before.get(name), number(before.get(name), 2)) for name in GRADIENTS),
        ]
    ]
    for title, effect in sound:
        distinct = effect.answers["distinct"]
        rows.append(
            [
                Cell(title, kind="text"),
                _bounded(effect.answers["entropy"], 2),
                measured(percent(distinct.estimate), distinct),
                *(_bounded(effect.gradients.get(name), 2) for name in GRADIENTS),
            ]
        )
    keep = len(head) if taken else len(head) - len(GRADIENTS)
    what = f"{answers}{' and gradients' if taken else ''}"
    over = "; 95 % intervals over seeds" if any(len(effect.seeds) > 1 for _, effect in sound) else ""
    caption = f"What answers are like, from {start}: {what} of each cell{over}."
    return Table(caption, head[:keep], [row[:keep] for row in rows], f"effects-answers-{start}")


def alike_table(what: str, found: Sequence[tuple[str, pd.DataFrame]]) -> Table | None:
    """Return how the CHES score before training goes with the change of the chosen response after it.

    Args:
        what: title of the first column.
        found: name of a model, and one row per pair: change (nats), ches, ches_mean.
    """
    rows = []
    for name, both in found:
        alike = both["ches_mean"] > both["ches_mean"].median()
        if min(alike.sum(), (~alike).sum()) < 2:
            continue
        halves = [mean_interval(both[half]["change"].to_numpy(dtype=float)) for half in (alike, ~alike)]
        rank = both[["change", "ches", "ches_mean"]].corr(method="spearman")["change"]
        rows.append(
            [
                Cell(name, kind="text"),
                counted(len(both)),
                *(_number(float(rank[name]), signed(float(rank[name]), 2)) for name in ("ches_mean", "ches")),
                *(measured(signed(half.estimate, 2), half, f"± {half.half_width:.2f}") for half in halves),
            ]
        )
    head = [
        (what, ""),
        ("Pairs", ""),
        ("Rank correlation", "of the length-normalised score with the change of chosen"),
        ("of the raw score", ""),
        ("Chosen, more alike half", "nats, 95 %"),
        ("Chosen, less alike half", "nats, 95 %"),
    ]
    caption = "CHES, the likeness of a pair's responses before training, beside the change of the chosen one."
    return Table(caption, head, rows) if rows else None


def _over(found: Iterable[Effect]) -> str:
    if all(len(effect.seeds) < 2 for effect in found):
        return "intervals over prompts"
    return "intervals: of test pairs over pairs and seeds, of test rows over seeds"


def _changed(effect: Effect, role: str) -> Cell:
    return _signed(effect.changes[role].total, 2) if role in effect.changes else Cell(MISSING, kind="muted")


def _signed(interval: Interval, digits: int) -> Cell:
    return measured(signed(interval.estimate, digits), interval, _spread(interval, digits))


def _bounded(interval: Interval | None, digits: int) -> Cell:
    if interval is None:
        return Cell(MISSING, kind="muted")
    return measured(number(interval.estimate, digits), interval, _spread(interval, digits))


def _kl(facts: Behaviour | None) -> Cell:
    if facts is None or facts.kl_token is None:
        return Cell(MISSING, kind="muted")
    kl = facts.kl_token  # not below zero, so its interval need not be centred
    return measured(number(kl.estimate, 3), kl, f"{number(kl.low, 3)} to {number(kl.high, 3)}")


def _number(value: float | None, text: str) -> Cell:
    return Cell(text, value=value)


def _spread(interval: Interval, digits: int) -> str:
    return f"± {number(interval.half_width, digits)}" if interval.n > 1 else ""

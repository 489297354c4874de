"""What the methods did to the models, as tables for the page of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from preflab.diagnose.checkpoints import DEGENERATE, HARMFUL, NAMES
from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, counted, measured
from preflab.report.effects import GRADIENTS, Effect
from preflab.report.wording import MISSING, number, percent, signed
from preflab.stats.intervals import Interval, mean_interval

TITLES: Mapping[str, str] = {"chosen": "chosen", "rejected": "rejected", **NAMES}
"""Kinds of responses, for people."""
WARNINGS = (*HARMFUL, "displacement", "divergence")
"""Verdicts that a reader should not overlook."""


def overview(analysis: Analysis) -> Table | None:
    """Return the verdict on every group, all sizes, in a line each."""
    if not analysis.effects:
        return None
    head = [
        ("Start point", ""),
        ("Method", ""),
        ("Pairs", "of training"),
        ("Verdict", "on each seed"),
        ("Chosen", "change, nats per response"),
        ("Rejected", "change"),
        ("Margin", "change"),
        ("Answers to other prompts", "change"),
        ("KL per token", "nats, on sampled answers"),
    ]
    shown = ("chosen", "rejected", "margin", "mismatched")
    rows = [
        [
            Cell(group.start, kind="text"),
            Cell(analysis.title(group.method), kind="text"),
            counted(group.size),
            Cell(effect.agreement, kind="text"),
            *(_changed(effect, role) for role in shown),
            _bounded(effect.answers.get("kl_token"), 2),
        ]
        for group, effect in analysis.effects.items()
    ]
    caption = f"What training did, group by group; 95 % {_over(analysis.effects.values())}."
    return Table(caption, head, rows, "effects")


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
                "tables": [_roles(start, sound), _parts(start, sound), _answers(start, sound)] if sound else [],
                "alike": alike_table("Method", [(title, effect.alike) for title, effect in sound]),
            }
        )
    return result


def _roles(start: str, sound: Sequence[tuple[str, Effect]]) -> Table:
    """Return where the probability went: methods against kinds of responses."""
    roles = [role for role in TITLES if any(role in effect.changes for _, effect in sound)]
    head = [("Method", "")]
    head += [(TITLES[role].capitalize(), "behind the first token" if role in DEGENERATE else "") for role in roles]
    rows = [[Cell(title, kind="text"), *(_changed(effect, role) for role in roles)] for title, effect in sound]
    over = _over([effect for _, effect in sound])
    caption = f"Where the probability went, from {start}: change in nats per response, 95 % {over}."
    return Table(caption, head, rows, f"effects-roles-{start}")


def _parts(start: str, sound: Sequence[tuple[str, Effect]]) -> Table:
    head = [
        ("Method", ""),
        ("Chosen, first token", "nats"),
        ("Chosen, the rest", "nats"),
        ("Chosen", "nats per token"),
        ("Rejected, first token", "nats"),
        ("Rejected, the rest", "nats"),
        ("Rejected", "nats per token"),
    ]
    rows = [
        [
            Cell(title, kind="text"),
            *(
                cell
                for role in ("chosen", "rejected")
                for cell in (
                    *(_signed(part, 2) for part in effect.parts[role]),
                    _number(effect.changes[role].per_token, signed(effect.changes[role].per_token, 3)),
                )
            ),
        ]
        for title, effect in sound
    ]
    caption = f"First token against the rest, from {start}: change since the start point."
    return Table(caption, head, rows, f"effects-tokens-{start}")


def _answers(start: str, sound: Sequence[tuple[str, Effect]]) -> Table:
    head = [
        ("Model", ""),
        ("KL to the start", "nats per sampled answer, exact at each position"),
        ("per token", "nats"),
        ("Entropy", "nats per token"),
        ("Length", "tokens"),
        ("Cut", "share that hit the limit"),
        ("Distinct", "token pairs in an answer"),
    ]
    head += [("Gradient of chosen", "norm, median over pairs"), ("of rejected", ""), ("Cosine", "of the two")]
    taken = any(effect.gradients for _, effect in sound)
    before = sound[0][1].before
    plain = ("entropy", 2), ("n_tokens", 1)
    rows = [
        [
            Cell("start point", kind="text"),
            *[Cell("0", kind="muted", value=0.0)] * 2,
            *(_number(before[name], number(before[name], digits)) for name, digits in plain),
            *(_number(before[name], percent(before[name])) for name in ("truncated", "distinct")),
            *(_number(before.get(name), number(before.get(name), 2)) for name in GRADIENTS),
        ]
    ]
    for title, effect in sound:
        found = effect.answers
        rows.append(
            [
                Cell(title, kind="text"),
                *(_bounded(found[name], 2) for name in ("kl", "kl_token")),
                *(_bounded(found[name], digits) for name, digits in plain),
                *(measured(percent(found[name].estimate), found[name]) for name in ("truncated", "distinct")),
                *(_bounded(effect.gradients.get(name), 2) for name in GRADIENTS),
            ]
        )
    keep = len(head) if taken else len(head) - len(GRADIENTS)
    caption = f"Sampled answers{' and gradients' if taken else ''}, from {start}; 95 % intervals over seeds."
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


def _over(found: Any) -> str:
    seeds = {len(effect.seeds) for effect in found if effect.seeds}
    if seeds == {1}:
        return "intervals over prompts"
    return "intervals over seeds" if 1 not in seeds else "intervals over seeds, of one seed over prompts"


def _changed(effect: Effect, role: str) -> Cell:
    return _signed(effect.changes[role].total, 2) if role in effect.changes else Cell(MISSING, kind="muted")


def _signed(interval: Interval, digits: int) -> Cell:
    return measured(signed(interval.estimate, digits), interval, _spread(interval, digits))


def _bounded(interval: Interval | None, digits: int) -> Cell:
    if interval is None:
        return Cell(MISSING, kind="muted")
    return measured(number(interval.estimate, digits), interval, _spread(interval, digits))


def _number(value: float | None, text: str) -> Cell:
    return Cell(text, value=value)


def _spread(interval: Interval, digits: int) -> str:
    return f"± {number(interval.half_width, digits)}" if interval.n > 1 else ""

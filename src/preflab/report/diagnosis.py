"""The page of a diagnosis: a verdict on each checkpoint, the changes behind it, and the answers side by side."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from preflab.core.errors import ConfigError
from preflab.diagnose.checkpoints import (
    DEGENERATE,
    Change,
    Diagnosis,
    changes,
    diagnose,
    kl_per_token,
)
from preflab.report.effect_tables import TITLES, WARNINGS, alike_table
from preflab.report.page import template, write_page
from preflab.report.points import Points
from preflab.report.sections import Cell, Table
from preflab.report.svg import COLOURS, MUTED, FigureText, drawn, panels, style
from preflab.report.wording import count, signed
from preflab.stats.intervals import Interval, mean_interval

INDEX = "diagnosis.json"
REPORT = "diagnosis.html"
_WIDTH = 10.0
_SHOWN = 24
"""Prompts whose answers are on the page."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was measured of one checkpoint, beside the start point.

    Args:
        name: of the checkpoint.
        notes: what a reader of its numbers should know.
        probes: one row per row and role; empty where the weights are not finite.
        samples: answers; `of` is `start` or `checkpoint`.
        gradients: one row per pair; `of` likewise; empty where none were taken.
        diagnosis: the verdict.
    """

    name: str
    notes: tuple[str, ...]
    probes: pd.DataFrame
    samples: pd.DataFrame
    gradients: pd.DataFrame
    diagnosis: Diagnosis

    @property
    def is_sound(self) -> bool:
        """Whether its numbers can be shown."""
        return self.diagnosis.code != "broken"


@dataclass(frozen=True, slots=True)
class DiagnosisTables:
    """What a diagnosis measured.

    Args:
        index: request, prompts and checkpoints.
        examined: the checkpoints, in order.
        pairs: one row per pair: how alike its responses are to the start point.
    """

    index: dict[str, Any]
    examined: tuple[Examined, ...]
    pairs: pd.DataFrame


def load_diagnosis(folder: Path) -> DiagnosisTables:
    """Read the tables of a diagnosis, and judge every checkpoint.

    Raises:
        ConfigError: the folder holds none.
    """
    path = folder / INDEX
    if not path.exists():
        raise ConfigError(f"{folder}: no diagnosis here (no {INDEX}); `preflab diagnose` makes one.")
    index = json.loads(path.read_text(encoding="utf-8"))
    found = [_examined(folder, index, each) for each in index["checkpoints"]]
    return DiagnosisTables(index, tuple(found), pd.read_parquet(folder / index["start"] / "pairs.parquet"))


def _examined(folder: Path, index: dict[str, Any], each: dict[str, Any]) -> Examined:
    probes = pd.read_parquet(folder / each["artefact"] / "probes.parquet")
    samples = _beside(folder, "samples.parquet", index["start"], each["artefact"])
    gradients = _beside(folder, "gradients.parquet", index["start_gradients"], each["gradients"])
    diagnosis = diagnose(each["name"], probes, samples, gradients)
    return Examined(each["name"], tuple(each["notes"]), probes, samples, gradients, diagnosis)


def _beside(folder: Path, file: str, start: str | None, own: str | None) -> pd.DataFrame:
    """Return a table of the start point and one of the checkpoint, those that there are, told apart by `of`."""
    places = (("start", start), ("checkpoint", own))
    frames = [pd.read_parquet(folder / place / file).assign(of=of) for of, place in places if place is not None]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["of"])


def write_diagnosis_report(folder: Path) -> tuple[Path, tuple[Diagnosis, ...]]:
    """Write the page of a diagnosis; return its path and the verdicts.

    Raises:
        ConfigError: the folder holds none.
    """
    tables = load_diagnosis(folder)
    path = write_page(template("diagnosis.html.j2").render(_context(tables)), folder / REPORT)
    return path, tuple(each.diagnosis for each in tables.examined)


def _context(tables: DiagnosisTables) -> dict[str, Any]:
    sound = [each for each in tables.examined if each.is_sound]
    rows, request, similar = tables.index["rows"], tables.index["request"], _similar(tables, sound)
    sections = {
        "verdicts": "Verdicts",
        "changes": "Log-probs",
        "behaviour": "Samples and gradients",
        "answers": "Answers",
        "similar": "Alike pairs" if similar else "",
        "how": "How",
    }
    return {
        "groups": [(title, [(target, title)]) for target, title in sections.items() if title],
        "start": request["start"],
        "scope": ", ".join(
            [
                count(len(tables.examined), "checkpoint"),
                count(len(rows), "pair"),
                count(len({row["prompt"] for row in rows}), "prompt"),
            ]
        ),
        "examined": [(each, "warning" if each.diagnosis.code in WARNINGS else "") for each in tables.examined],
        "figure": _figure(sound) if sound else None,
        "tables": [_table(each) for each in sound],
        "behaviour": _behaviour(sound) if sound else None,
        "answers": _answers(tables, sound),
        "similar": similar,
        "command": tables.index["command"],
        "request": request,
    }


def _figure(sound: Sequence[Examined]) -> FigureText:
    found = [changes(each.probes) for each in sound]
    roles = [role for role in TITLES if any(role in change for change in found)]
    label, points = "change, nats per response", Points()
    with style():
        if len(sound) > 1:
            figure, axes = panels(1, 1, width=_WIDTH, height=3.6)
            axis = axes[0, 0]
            for k, role in enumerate(roles):
                totals = {place: change[role].total for place, change in enumerate(found) if role in change}
                series = points.series(TITLES[role], COLOURS[k % 10])
                series.drew(axis.errorbar(
                    list(totals), [total.estimate for total in totals.values()],
                    yerr=[_half(total) for total in totals.values()], label=series.title, color=series.colour,
                    marker="o", markersize=4, linestyle="-" if k < 2 else (0, (4, 2))))  # fmt: skip
                for place, total in totals.items():
                    series.at(axis, place, total.estimate, *_words(sound[place].name, role, total))
            names = [each.name for each in sound]
            axis.set_xticks(range(len(names)), names, rotation=20 if max(map(len, names)) > 12 else 0)
            axis.axhline(0, color=MUTED, linewidth=0.8)
            axis.set_ylabel(label)
            axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        else:
            figure, axes = panels(1, 1, width=_WIDTH, height=0.9 + 0.33 * len(roles))
            axis = axes[0, 0]
            for k, role in enumerate(roles):
                total = found[0][role].total
                series = points.series(TITLES[role], COLOURS[k % 10])
                series.drew(axis.errorbar(total.estimate, -k, xerr=_half(total), color=series.colour, marker="o",
                                          markersize=5))  # fmt: skip
                series.at(axis, total.estimate, -k, *_words(sound[0].name, role, total))
            axis.set_yticks([-k for k in range(len(roles))], [TITLES[role] for role in roles])
            axis.axvline(0, color=MUTED, linewidth=0.8)
            axis.set_xlabel(label)
    return drawn(
        figure,
        "diagnosis-changes",
        "Change of log-probs since the start point, by kind of response.",
        "Change of the log-prob since the start point: means over pairs with 95 % intervals; pairs of one prompt count "
        "once. Of shuffled and repeated tokens without the first, which may be the chosen response's.",
        points,
    )


def _words(name: str, role: str, total: Interval) -> tuple[str, str, str]:
    """Say what a mark of the figure is."""
    bounds = f" (± {total.half_width:.2f})" if total.n > 1 else ""
    return f"{name}: {TITLES[role]}", f"{signed(total.estimate, 2)}{bounds} nats per response", count(total.n, "prompt")


def _half(interval: Interval) -> float:
    return 0.0 if math.isnan(interval.half_width) else interval.half_width


def _table(each: Examined) -> Table:
    head = [
        ("Response", ""),
        ("Change", "nats per response, 95 %"),
        ("Per token", "nats"),
        ("First token", "nats"),
        ("The rest", "nats"),
        ("Log-prob now", "nats per response"),
        ("Rose", "share of rows"),
        ("Rows", "that have one"),
    ]
    found = changes(each.probes)
    rows = []
    for role, title in TITLES.items():
        part = each.probes[each.probes["role"] == role]
        if role in found:
            rows.append([Cell(title, kind="text"), *_cells(part, found[role], tail=role in DEGENERATE)])
    return Table(f"{each.name}: log-probs against the start point.", head, rows)


def _cells(part: pd.DataFrame, change: Change, *, tail: bool) -> list[Cell]:
    moved = part["tail_change"] if tail else part["total"] - part["start_total"]
    return [
        Cell(signed(change.total.estimate, 2), f"± {change.total.half_width:.2f}" if change.total.n > 1 else ""),
        Cell(signed(change.per_token, 3)),
        Cell(signed(float(part["first_change"].mean()), 2), "not counted" if tail else ""),
        Cell(signed(float(part["tail_change"].mean()), 2)),
        Cell(f"{part['total'].mean():.1f}"),
        Cell(f"{(moved > 0).mean():.0%}"),
        Cell(f"{len(part):,}"),
    ]


def _behaviour(sound: Sequence[Examined]) -> Table:
    head = [
        ("Model", ""),
        ("KL to the start", "nats per sampled answer, exact at each position, 95 %"),
        ("per token", "nats"),
        ("KL, k3", "nats per sampled answer"),
        ("Entropy", "nats per token"),
        ("Length", "tokens, sampled"),
        ("Cut", "share that hit the limit"),
        ("Distinct", "token pairs in an answer"),
        ("Gradient of chosen", "norm, median"),
        ("Gradient of rejected", "norm, median"),
        ("Cosine", "of the two, mean"),
    ]
    parts = [("start point", sound[0], "start"), *((each.name, each, "checkpoint") for each in sound)]
    return Table(
        "Sampled answers, and gradients of the log-probs per token by the weights.",
        head,
        [[Cell(name, kind="text"), *_measured(each, of)] for name, each, of in parts],
    )


def _measured(each: Examined, of: str) -> list[Cell]:
    own = each.samples[each.samples["of"] == of]
    drawn, gradients = own[own["kind"] == "sampled"], each.gradients[each.gradients["of"] == of]
    kl, none = mean_interval(drawn["kl_exact"].to_numpy(dtype=float)), Cell("–", kind="muted")
    distance = [
        Cell(f"{kl.estimate:.2f}", f"± {kl.half_width:.2f}" if kl.n > 1 else ""),
        Cell(f"{kl_per_token(own):.2f}"),
        Cell(f"{drawn['kl_k3'].mean():.2f}"),
    ]
    return [
        *(distance if of == "checkpoint" else [Cell("0", kind="muted")] * 3),
        Cell(f"{drawn['entropy'].mean():.2f}"),
        Cell(f"{drawn['n_tokens'].mean():.1f}"),
        Cell(f"{drawn['truncated'].mean():.0%}"),
        Cell(f"{drawn['distinct'].mean():.0%}"),
        *(Cell(f"{gradients[c].median():.3g}") if len(gradients) else none for c in ("grad_chosen", "grad_rejected")),
        Cell(f"{gradients['cosine'].mean():.2f}") if len(gradients) else none,
    ]


def _answers(tables: DiagnosisTables, sound: Sequence[Examined]) -> list[dict[str, Any]]:
    """Return prompts with the answers of every model, those first on which the greedy answer changed."""
    if not sound:
        return []
    parts = [("start point", sound[0], "start"), *((each.name, each, "checkpoint") for each in sound)]
    texts = {
        (title, row, kind): text
        for title, each, of in parts
        for row, kind, text in each.samples[each.samples["of"] == of][["row", "kind", "text"]].itertuples(index=False)
    }
    items = []
    for row in sorted({row for _, row, _ in texts}):
        cards = [
            {"title": title, "greedy": texts[title, row, "greedy"], "sampled": texts[title, row, "sampled"]}
            for title, _, _ in parts
        ]
        changed = sum(card["greedy"] != cards[0]["greedy"] for card in cards)
        items.append({**tables.index["rows"][row], "cards": cards, "changed": changed})
    return sorted(items, key=lambda item: -item["changed"])[:_SHOWN]


def _similar(tables: DiagnosisTables, sound: Sequence[Examined]) -> Table | None:
    found = []
    for each in sound:
        chosen = each.probes[each.probes["role"] == "chosen"]
        change = chosen.assign(change=chosen["total"] - chosen["start_total"])
        found.append((each.name, change.merge(tables.pairs, on="row")))
    return alike_table("Checkpoint", found)

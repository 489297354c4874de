"""The page of a diagnosis: a verdict on each checkpoint, the changes behind it, and the answers side by side."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from preflab.core.errors import ConfigError
from preflab.diagnose.checkpoints import UNSEEN, Diagnosis, changes, diagnose_checkpoints
from preflab.report.page import template, write_page
from preflab.report.sections import Cell, Table
from preflab.report.svg import COLOURS, MUTED, FigureText, panels, style, to_svg
from preflab.report.wording import count, signed
from preflab.stats.intervals import Interval, mean_interval

INDEX = "diagnosis.json"
REPORT = "diagnosis.html"
_WIDTH = 10.0
_SHOWN = 24
"""Prompts whose answers are on the page."""
_WARNINGS = ("broken", "displacement", "collapse", "reversed")
_TITLES = {
    "chosen": "chosen",
    "rejected": "rejected",
    "margin": "margin",
    "mismatched": "answers to other prompts",
    "paraphrase": "paraphrase of chosen",
    "greedy": "start's greedy answer",
    "sampled": "start's sample",
    "shuffled": "shuffled words",
    "repeated": "one token repeated",
}


@dataclass(frozen=True, slots=True)
class DiagnosisTables:
    """What a diagnosis measured.

    Args:
        index: request, prompts and checkpoints.
        probes: one row per checkpoint, row and role.
        samples: one row per checkpoint and answer; the start point's have an empty checkpoint.
        gradients: one row per checkpoint and pair whose gradients were taken.
        pairs: one row per pair: how alike its responses are to the start point.
    """

    index: dict[str, Any]
    probes: pd.DataFrame
    samples: pd.DataFrame
    gradients: pd.DataFrame
    pairs: pd.DataFrame


def load_diagnosis(folder: Path) -> DiagnosisTables:
    """Read the tables of a diagnosis.

    Raises:
        ConfigError: the folder holds none.
    """
    path = folder / INDEX
    if not path.exists():
        raise ConfigError(f"{folder}: no diagnosis here (no {INDEX}); `preflab diagnose` makes one.")
    index = json.loads(path.read_text(encoding="utf-8"))
    named = [(each["name"], folder / each["artefact"]) for each in index["checkpoints"]]
    start = folder / index["start"]
    prompts = pd.DataFrame(index["rows"])[["row", "prompt"]]
    probes = _gather(named, "probes.parquet").merge(prompts, on="row")
    return DiagnosisTables(
        index=index,
        probes=probes,
        samples=_gather([("", start), *named], "samples.parquet"),
        gradients=_gather(named, "gradients.parquet"),
        pairs=pd.read_parquet(start / "pairs.parquet"),
    )


def _gather(named: Sequence[tuple[str, Path]], file: str) -> pd.DataFrame:
    frames = [pd.read_parquet(folder / file).assign(checkpoint=name) for name, folder in named]
    return pd.concat(frames, ignore_index=True)


def diagnoses(tables: DiagnosisTables) -> tuple[Diagnosis, ...]:
    """Return the verdict on each checkpoint."""
    return diagnose_checkpoints(tables.probes, tables.samples, tables.gradients)


def write_diagnosis_report(folder: Path) -> Path:
    """Write the page of a diagnosis and return its path.

    Raises:
        ConfigError: the folder holds none.
    """
    return write_page(template("diagnosis.html.j2").render(_context(load_diagnosis(folder))), folder / REPORT)


def _context(tables: DiagnosisTables) -> dict[str, Any]:
    found, request = diagnoses(tables), tables.index["request"]
    names = [each.checkpoint for each in found if each.code != "broken"]
    by_name = {name: changes(tables.probes[tables.probes["checkpoint"] == name]) for name in names}
    return {
        "start": request["start"],
        "scope": ", ".join(
            [
                count(len(found), "checkpoint"),
                count(len(tables.index["rows"]), "pair"),
                count(tables.probes["prompt"].nunique(), "prompt"),
            ]
        ),
        "css": (Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        "diagnoses": [(each, "warning" if each.code in _WARNINGS else "") for each in found],
        "figure": _figure(names, by_name) if names else None,
        "tables": [_table(name, tables.probes[tables.probes["checkpoint"] == name], by_name[name]) for name in names],
        "behaviour": _behaviour(tables, names),
        "answers": _answers(tables, names),
        "similar": _similar(tables, names),
        "command": tables.index["command"],
        "probes": _TITLES,
    }


def _figure(names: Sequence[str], by_name: dict[str, dict[str, Interval]]) -> FigureText:
    roles = [role for role in _TITLES if role != "margin" and role in by_name[names[0]]]
    with style():
        if len(names) > 1:
            figure, axes = panels(1, 1, width=_WIDTH, height=3.6)
            axis = axes[0, 0]
            for k, role in enumerate(roles):
                found = [by_name[name][role] for name in names]
                axis.errorbar(range(len(names)), [i.estimate for i in found], yerr=[_half(i) for i in found],
                              color=COLOURS[k % 10], marker="o", markersize=4, linestyle="-" if k < 2 else (0, (4, 2)),
                              label=_TITLES[role])  # fmt: skip
            axis.set_xticks(range(len(names)), names, rotation=20 if max(map(len, names)) > 12 else 0)
            axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        else:
            figure, axes = panels(1, 1, width=_WIDTH, height=0.9 + 0.33 * len(roles))
            axis = axes[0, 0]
            for k, role in enumerate(reversed(roles)):
                found_ = by_name[names[0]][role]
                colour = COLOURS[roles.index(role) % 10]
                axis.errorbar(found_.estimate, k, xerr=_half(found_), color=colour, marker="o", markersize=5)
            axis.set_yticks(range(len(roles)), [_TITLES[role] for role in reversed(roles)])
            axis.set_ylim(-0.6, len(roles) - 0.4)
        draw = axis.axhline if len(names) > 1 else axis.axvline
        draw(0, color=MUTED, linewidth=0.8)
        (axis.set_ylabel if len(names) > 1 else axis.set_xlabel)("change, nats per response")
        svg = to_svg(figure, "diagnosis-changes", "Change of log-probs since the start point, by kind of response.")
    return FigureText(
        svg,
        "Change of the log-prob since the start point: means over pairs with 95 % intervals; pairs of one prompt count "
        "once.",
    )


def _half(interval: Interval) -> float:
    return 0.0 if math.isnan(interval.half_width) else interval.half_width


def _table(name: str, probes: pd.DataFrame, found: dict[str, Interval]) -> Table:
    head = [
        ("Response", ""),
        ("Change", "nats per response, 95 %"),
        ("Per token", "nats"),
        ("First token", "nats"),
        ("The rest", "nats"),
        ("Log-prob now", "nats per response"),
        ("Rose", "share of pairs"),
    ]
    rows = []
    for role in ("chosen", "rejected", *UNSEEN):
        part = probes[probes["role"] == role]
        if part.empty:
            continue
        change = part["total"] - part["start_total"]
        rows.append(
            [
                Cell(_TITLES[role], kind="text"),
                Cell(signed(found[role].estimate, 2), f"± {found[role].half_width:.2f}"),
                Cell(signed(float(change.sum() / part["length"].sum()), 3)),
                Cell(signed(float(part["first_change"].mean()), 2)),
                Cell(signed(float(part["tail_change"].mean()), 2)),
                Cell(f"{part['total'].mean():.1f}"),
                Cell(f"{(change > 0).mean():.0%}"),
            ]
        )
    return Table(f"{name}: log-probs against the start point.", head, rows)


def _behaviour(tables: DiagnosisTables, names: Sequence[str]) -> Table:
    head = [
        ("Model", ""),
        ("KL to the start", "nats per sampled answer, exact at each position, 95 %"),
        ("KL, k3", "nats per sampled answer"),
        ("Entropy", "nats per token"),
        ("Length", "tokens, sampled"),
        ("Cut", "share that hit the limit"),
        ("Gradient of chosen", "norm, median"),
        ("Gradient of rejected", "norm, median"),
        ("Cosine", "of the two, mean"),
    ]
    rows = []
    for name in ["", *names]:
        drawn = tables.samples[(tables.samples["checkpoint"] == name) & (tables.samples["kind"] == "sampled")]
        gradients = tables.gradients
        own = gradients[gradients["checkpoint"] == name] if "cosine" in gradients else gradients.iloc[:0]
        kl = mean_interval(drawn["kl_exact"].to_numpy(dtype=float))
        rows.append(
            [
                Cell(name or "start point", kind="text"),
                Cell(f"{kl.estimate:.2f}", f"± {kl.half_width:.2f}") if name else Cell("0", kind="muted"),
                Cell(f"{drawn['kl_k3'].mean():.2f}") if name else Cell("0", kind="muted"),
                Cell(f"{drawn['entropy'].mean():.2f}"),
                Cell(f"{drawn['n_tokens'].mean():.1f}"),
                Cell(f"{drawn['truncated'].mean():.0%}"),
                *(
                    Cell(f"{own[column].median():.3g}") if len(own) else Cell("–", kind="muted")
                    for column in ("grad_chosen", "grad_rejected")
                ),
                Cell(f"{own['cosine'].mean():.2f}") if len(own) else Cell("–", kind="muted"),
            ]
        )
    return Table("Sampled answers, and gradients of the log-probs by the weights.", head, rows)


def _answers(tables: DiagnosisTables, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return prompts with the answers of every model, those first on which the greedy answer changed."""
    rows = {row["row"]: row for row in tables.index["rows"]}
    wide = tables.samples.pivot_table(index="row", columns=["checkpoint", "kind"], values="text", aggfunc="first")
    items = []
    for row, texts in wide.iterrows():
        cards = [
            {"title": name or "start point", "greedy": texts[name, "greedy"], "sampled": texts[name, "sampled"]}
            for name in ["", *names]
        ]
        changed = sum(card["greedy"] != cards[0]["greedy"] for card in cards)
        items.append({**rows[int(str(row))], "cards": cards, "changed": changed})
    return sorted(items, key=lambda item: -item["changed"])[:_SHOWN]


def _similar(tables: DiagnosisTables, names: Sequence[str]) -> Table | None:
    """Return how the CHES score before training goes with the fall of the chosen response after it."""
    chosen = tables.probes[(tables.probes["role"] == "chosen") & tables.probes["checkpoint"].isin(names)]
    rows = []
    for name, part in chosen.groupby("checkpoint", sort=False):
        both = part.assign(change=part["total"] - part["start_total"]).merge(tables.pairs, on="row")
        if len(both) < 3:
            continue
        halves = both["ches_mean"] > both["ches_mean"].median()
        rank = both[["change", "ches", "ches_mean"]].corr(method="spearman")
        rows.append(
            [
                Cell(str(name), kind="text"),
                Cell(signed(float(rank.loc["change", "ches_mean"]), 2)),
                Cell(signed(float(rank.loc["change", "ches"]), 2)),
                Cell(signed(float(both[halves]["change"].mean()), 2)),
                Cell(signed(float(both[~halves]["change"].mean()), 2)),
            ]
        )
    if not rows:
        return None
    head = [
        ("Checkpoint", ""),
        ("Rank correlation", "of the length-normalised score with the change of chosen"),
        ("of the raw score", ""),
        ("Chosen, more alike half", "nats"),
        ("Chosen, less alike half", "nats"),
    ]
    caption = "CHES, the likeness of a pair's responses before training, beside the change of the chosen one."
    return Table(caption, head, rows)

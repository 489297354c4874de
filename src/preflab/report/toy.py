"""The page of a toy study: the paper's claims one by one, the curves behind them, and where every run ends."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from preflab.core.errors import ConfigError
from preflab.diagnose.toy import DPO, Claim, claims
from preflab.report.page import template, write_page
from preflab.report.sections import Cell, Table
from preflab.report.svg import COLOURS, INK, MUTED, FigureText, drawn, panels, style
from preflab.report.wording import count, names, number
from preflab.stats.intervals import Interval, seed_interval

INDEX = "toy.json"
REPORT = "toy.html"
_WIDTH = 10.0  # inches, as in the figures of a study
_COLUMNS = 4
_POINTS = 80
"""Of a line; more would not be seen, and make the page heavy."""
_KINDS = {"reproduced": "", "not tested here": ""}
_SIDES = (("chosen", COLOURS[0], "-"), ("rejected", COLOURS[1], (0, (4, 2))), ("unseen", COLOURS[2], (0, (1, 1))))
_MASSES = (
    ("chosen", "this prompt's chosen", COLOURS[0]),
    ("rejected", "this prompt's rejected", COLOURS[1]),
    ("others_chosen", "other prompts' chosen", COLOURS[5]),
    ("others_rejected", "other prompts' rejected", COLOURS[4]),
    ("never", "in no pair", COLOURS[7]),
)
_GRADIENTS = (
    ("log10 of |dL/dp|", "log10_grad_chosen", "log10_grad_rejected"),
    ("log10 of |dL/dlog p|", "slope_chosen", "slope_rejected"),
    ("log10 of the ratio", "log10_ratio", "log10_odds"),
)


def write_toy_report(folder: Path) -> tuple[Path, tuple[Claim, ...]]:
    """Write the page of a toy study; return its path and the claims with their verdicts.

    Args:
        folder: of the study, with its `toy.json`.

    Raises:
        ConfigError: the folder holds no toy study.
    """
    index, curves = load_toy_curves(folder)
    found = claims(curves)
    page = template("toy.html.j2").render(_context(index, curves, found, folder))
    return write_page(page, folder / REPORT), found


def load_toy_curves(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the index of a toy study and its curves: one row per run, seed and recorded step.

    Raises:
        ConfigError: the folder holds no toy study.
    """
    path = folder / INDEX
    if not path.exists():
        raise ConfigError(f"{folder}: no toy study here (no {INDEX}); `preflab pocket toy --out {folder}` runs one.")
    index = json.loads(path.read_text(encoding="utf-8"))
    frames = []
    labels = _labels(index["runs"])
    for run in index["runs"]:
        frame = pd.read_parquet(folder / run["artefact"] / "curves.parquet")
        for key in ("method", "title", "setting", "learning_rate", "scenario", "width"):
            frame[key] = run[key]
        frame["label"] = labels[run["method"], run["setting"]]
        frames.append(frame)
    return index, pd.concat(frames, ignore_index=True)


def _labels(runs: Sequence[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Return a name for every setting: the method's title, and the hyper-parameters that differ within the method."""
    values: dict[str, dict[str, set[float]]] = {}
    for run in runs:
        for name, value in run["hyperparameters"].items():
            values.setdefault(run["method"], {}).setdefault(name, set()).add(value)
    labels = {}
    for run in runs:
        varied = [f"{k}={v:g}" for k, v in run["hyperparameters"].items() if len(values[run["method"]][k]) > 1]
        labels[run["method"], run["setting"]] = run["title"] + (f", {', '.join(varied)}" if varied else "")
    return labels


def _context(index: dict[str, Any], curves: pd.DataFrame, found: Sequence[Claim], folder: Path) -> dict[str, Any]:
    places = [place for place, _ in curves.groupby(["width", "learning_rate"], sort=False)]
    width = places[0][0]
    # A method with a learning rate of its own is shown at its first one.
    own = curves.groupby("label", sort=False)["learning_rate"].transform("first")
    main = curves[(curves["width"] == width) & (curves["learning_rate"] == own)]
    scenarios = index["config"]["scenarios"]
    shown = [part for part in _figures(curves, main, scenarios) if part[-1]]
    where = f" Curves: width {width:.0f}, each setting at its first learning rate." if len(places) > 1 else ""
    diverged = [f"{r['title']} on {r['scenario']}, seeds {r['diverged']}" for r in index["runs"] if r["diverged"]]
    resolved = folder / "toy.resolved.yaml"
    return {
        "name": index["toy"],
        "scope": ", ".join(
            [
                count(curves["label"].nunique(), "setting"),
                count(curves["scenario"].nunique(), "scenario"),
                count(curves["seed"].nunique(), "seed"),
                *([count(len(places), "width or step size")] if len(places) > 1 else []),
            ]
        ),
        "headline": _headline(found),
        "lead": "The whole distribution is known at every step; only the spread between seeds is estimated." + where,
        "claims": [(claim, _KINDS.get(claim.verdict, "warning")) for claim in found],
        "figures": shown,
        "tables": [_ends(curves, width, rate) for width, rate in places],
        "fit_error": f"{max(run['largest_fit_error'] for run in index['runs']):.0e}",
        "diverged": "; ".join(diverged),
        "command": index["command"],
        "config": resolved.read_text(encoding="utf-8") if resolved.exists() else "",
        "groups": [
            ("", [("claims", "Claims")]),
            ("Figures", [(target, title) for target, title, _, _ in shown]),
            ("", [("numbers", "Numbers")]),
            ("", [("provenance", "What was run")]),
        ],
    }


def _headline(found: Sequence[Claim]) -> str:
    if not found:
        return "Without DPO none of the paper's claims can be judged"
    held = sum(claim.verdict == "reproduced" for claim in found)
    tested = sum(claim.verdict != "not tested here" for claim in found)
    return f"{held} of {tested} claims hold in nearly every run"


def _figures(
    curves: pd.DataFrame, main: pd.DataFrame, numbers: Mapping[str, Any]
) -> list[tuple[str, str, str, list[tuple[str, FigureText]]]]:
    scenarios = list(dict.fromkeys(main["scenario"]))
    labels = list(dict.fromkeys(main["label"]))

    def each(draw: Callable[[pd.DataFrame, Sequence[str], str], FigureText]) -> list[tuple[str, FigureText]]:
        return [(f"From {s}", draw(main[main["scenario"] == s], labels, s)) for s in scenarios]

    dpo = main[main["method"] == DPO]
    begun = "; ".join(f"{s}: chosen {numbers[s]['chosen']:g}, rejected {numbers[s]['rejected']:g}" for s in scenarios)
    return [
        (
            "starts",
            "DPO from each start point",
            "On-policy means an answer that the policy gives often. The paper finds that pairs with both answers "
            f"on-policy train best; compare the panels and their bands. Probabilities at the start: {begun}.",
            [("", _starts_figure(dpo, scenarios))] if len(dpo) else [],
        ),
        (
            "probabilities",
            "Probabilities",
            "Both likelihoods can fall while the margin grows. What the pair loses goes to the other answers.",
            each(_probability_figure),
        ),
        (
            "gradients",
            "Gradients",
            "The same loss has two gradients. With respect to the probabilities the rejected side outgrows the chosen "
            "one without bound; with respect to the log-probabilities, which are what a model computes with, the two "
            "sides of DPO are equal.",
            each(_gradient_figure),
        ),
        (
            "mass",
            "Where the mass goes",
            "All ten probabilities, averaged over prompts and seeds.",
            each(_mass_figure),
        ),
        (
            "sensitivity",
            "Does it hang on width and step size?",
            "DPO at every width and learning rate of the study.",
            [("", figure)] if (figure := _sensitivity_figure(curves)) else [],
        ),
    ]


def _starts_figure(dpo: pd.DataFrame, scenarios: Sequence[str]) -> FigureText:
    with style():
        figure, axes = panels(1, len(scenarios), width=_WIDTH, height=2.7, sharex=True, sharey=True)
        for axis, scenario in zip(axes[0], scenarios, strict=True):
            _sides(axis, dpo[dpo["scenario"] == scenario])
            axis.set_title(scenario)
        _place(figure, axes)
        _name_axes(figure, "probability")
    return drawn(figure, "toy-starts", "Probability of chosen, rejected and unseen answers under DPO.", _SIDES_CAPTION)


_SIDES_CAPTION = (
    "Chosen (blue, solid; thin: the smallest of the four prompts), rejected (orange, dashed), and the mean of the "
    "eight answers that are neither (green, dotted). Lines: mean of the seeds; bands: their range."
)


def _probability_figure(frame: pd.DataFrame, labels: Sequence[str], scenario: str) -> FigureText:
    def draw(axis: Any, part: pd.DataFrame) -> None:
        _sides(axis, part)

    return _grid(frame, labels, f"toy-probabilities-{scenario}", "probability", draw, _SIDES_CAPTION, sharey=True)


def _sides(axis: Any, part: pd.DataFrame) -> None:
    for column, colour, dash in _SIDES:
        _line(axis, part, column, colour, dash)
    _line(axis, part, "chosen_min", COLOURS[0], "-", width=0.7, band=False)
    axis.set_ylim(0, 1)


def _line(
    axis: Any, part: pd.DataFrame, column: str, colour: str, dash: Any, *, width: float = 1.6, band: bool = True
) -> None:
    """Draw the mean over seeds; values that are not finite, of gradients that vanish, are left out."""
    wide = part.pivot_table(index="step", columns="seed", values=column).replace([np.inf, -np.inf], np.nan)
    wide = wide.iloc[:: math.ceil(len(wide) / _POINTS)]
    steps = wide.index.to_numpy(dtype=float)
    if band:
        axis.fill_between(steps, wide.min(axis=1), wide.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    axis.plot(steps, wide.mean(axis=1), color=colour, linestyle=dash, linewidth=width)


def _mass_figure(frame: pd.DataFrame, labels: Sequence[str], scenario: str) -> FigureText:
    def draw(axis: Any, part: pd.DataFrame) -> None:
        means = part.groupby("step")[[column for column, _, _ in _MASSES]].mean()
        means = means.iloc[:: math.ceil(len(means) / _POINTS)]
        axis.stackplot(means.index, means.T.to_numpy(), colors=[c for _, _, c in _MASSES], alpha=0.85, linewidth=0)
        axis.set_ylim(0, 1)
        axis.margins(x=0)

    order = ", ".join(f"{title} ({_NAMES[colour]})" for _, title, colour in _MASSES)
    caption = f"From bottom to top: {order}."
    return _grid(frame, labels, f"toy-mass-{scenario}", "probability", draw, caption, sharey=True)


_NAMES = {
    COLOURS[0]: "blue", COLOURS[1]: "orange", COLOURS[4]: "ochre", COLOURS[5]: "light blue", COLOURS[7]: "grey",
}  # fmt: skip


def _gradient_figure(frame: pd.DataFrame, labels: Sequence[str], scenario: str) -> FigureText:
    rows = len(_GRADIENTS)
    with style():
        figure, axes = panels(rows, len(labels), width=max(_WIDTH, 1.6 * len(labels)), height=1.6 * rows + 0.6,
                              sharex=True, sharey="row")  # fmt: skip
        for place, label in enumerate(labels):
            part = frame[frame["label"] == label]
            for row, (title, first, second) in enumerate(_GRADIENTS):
                axis = axes[row, place]
                own = part
                if "slope" in first:
                    own = part.assign(**{c: np.log10(part[c].abs().where(part[c] != 0)) for c in (first, second)})
                colours = (INK, MUTED) if "ratio" in first else (COLOURS[0], COLOURS[1])
                _line(axis, own, first, colours[0], "-")
                _line(axis, own, second, colours[1], (0, (4, 2)), band=False)
                if place == 0:
                    axis.set_ylabel(title)
            axes[0, place].set_title(label.replace(", ", "\n"), fontsize=8.5)
        _place(figure, axes, top=0.42)
        figure.supxlabel("steps", fontsize=8.5, color=MUTED)
    caption = (
        "Top: size of the gradient by the probability, chosen (blue) and rejected (orange, dashed). Middle: by the "
        "log-probability. Bottom: log10 of rejected over chosen of the top row (black), and of pi(chosen) / "
        "pi(rejected), which corollary 1 says it is (grey, dashed); they part where a loss treats its sides "
        "differently. A gradient of exactly zero has no logarithm and leaves a gap."
    )
    return drawn(
        figure, f"toy-gradients-{scenario}", f"Gradients of both sides over training from {scenario}.", caption
    )


def _sensitivity_figure(curves: pd.DataFrame) -> FigureText | None:
    dpo = curves[curves["method"] == DPO]
    if dpo[["width", "learning_rate"]].drop_duplicates().shape[0] < 2:
        return None
    key = ["scenario", "width", "learning_rate", "seed"]
    ends = dpo.sort_values("step").groupby(key)["chosen"].agg(["max", "last"]).reset_index()
    scenarios = list(dict.fromkeys(dpo["scenario"]))
    rates, widths = sorted(ends["learning_rate"].unique()), sorted(ends["width"].unique())
    with style():
        figure, axes = panels(1, len(scenarios), width=_WIDTH, height=2.9, sharex=True, sharey=True)
        for axis, scenario in zip(axes[0], scenarios, strict=True):
            for k, rate in enumerate(rates):
                own = ends[(ends["scenario"] == scenario) & (ends["learning_rate"] == rate)]
                x = np.array([widths.index(w) for w in sorted(own["width"].unique())])
                x = x + 0.12 * (k - (len(rates) - 1) / 2)
                for column, marker in (("max", "o"), ("last", "_")):
                    found = [seed_interval(v.to_numpy()) for _, v in own.groupby("width")[column]]
                    half = [0.0 if math.isnan(i.half_width) else i.half_width for i in found]
                    axis.errorbar(x, [i.estimate for i in found], yerr=half, fmt=marker, color=COLOURS[k % 10],
                                  markersize=5, linewidth=1.2)  # fmt: skip
            axis.set_xticks(range(len(widths)), [f"{w:.0f}" for w in widths])
            axis.set_ylim(0, 1)
            axis.set_title(scenario)
        figure.supxlabel("width of the hidden layers", fontsize=8.5, color=MUTED)
        figure.supylabel("probability of chosen", fontsize=8.5, color=MUTED)
    order = ", ".join(f"{rate:g}" for rate in rates)
    caption = (
        f"Dots: peak; dashes: end. Colours, from left to right at each width: learning rates {order}. Bars: 95 % "
        "intervals over seeds."
    )
    return drawn(
        figure, "toy-sensitivity", "Peak and end of the chosen probability by width and learning rate.", caption
    )


def _grid(
    frame: pd.DataFrame, labels: Sequence[str], name: str, title: str, draw: Callable[[Any, pd.DataFrame], None],
    caption: str, **sharing: Any,
) -> FigureText:  # fmt: skip
    columns = min(_COLUMNS, len(labels))
    rows = math.ceil(len(labels) / columns)
    with style():
        figure, axes = panels(rows, columns, width=_WIDTH, height=0.6 + 1.9 * rows, sharex=True, **sharing)
        for k, axis in enumerate(axes.flat):
            axis.set_visible(k < len(labels))
            if k < len(labels):
                draw(axis, frame[frame["label"] == labels[k]])
                axis.set_title(labels[k])
        _place(figure, axes)
        _name_axes(figure, title)
    return drawn(figure, name, f"{title} over training steps, one panel per setting: {names(list(labels))}.", caption)


def _place(figure: Any, axes: Any, *, top: float = 0.3) -> None:
    """Give panels their places and few ticks; matplotlib's own layout takes longer than all the rest of the page.

    Args:
        figure: with panels of one size.
        axes: `[row, column]`.
        top: inches above the first row, for titles.
    """
    height = figure.get_figheight()
    figure.set_layout_engine(None)
    figure.subplots_adjust(
        left=0.065, right=0.982, bottom=0.52 / height, top=1 - top / height, wspace=0.12, hspace=0.32
    )
    for axis in axes.flat:
        axis.locator_params(nbins=3)


def _name_axes(figure: Any, title: str) -> None:
    figure.supxlabel("steps", fontsize=8.5, color=MUTED)
    figure.supylabel(title, fontsize=8.5, color=MUTED)


def _ends(curves: pd.DataFrame, width: float, rate: float) -> Table:
    """Return the table of one width and learning rate: means over seeds with intervals."""
    frame = curves[(curves["width"] == width) & (curves["learning_rate"] == rate)]
    head = [
        ("Setting, start point", ""),
        ("Peak of chosen", "95 % over seeds"),
        ("Chosen", "at the end"),
        ("Rejected", "log10 at the end"),
        ("Other prompts' chosen", "mass at the end"),
        ("In no pair", "mass at the end"),
        ("Ratio of gradients", "log10 at the end"),
        ("KL to the start", "nats"),
        ("Entropy", "nats"),
    ]
    rows = []
    for (label, scenario), part in frame.groupby(["label", "scenario"], sort=False):
        seeds = part.groupby("seed")
        last = part[part["step"] == part["step"].max()].set_index("seed")
        rows.append(
            [
                Cell(f"{label}, {scenario}", kind="text"),
                _cell(seeds["chosen"].max()),
                _cell(last["chosen"]),
                _cell(last["rejected_total"] / math.log(10), digits=1),
                _cell(last["others_chosen"]),
                _cell(last["never"], digits=4),
                _cell(last["log10_ratio"], digits=1),
                _cell(last["kl"], digits=2),
                _cell(last["entropy"], digits=2),
            ]
        )
    return Table(f"Width {width:.0f}, learning rate {rate:g}: means over seeds.", head, rows)


def _cell(values: pd.Series, digits: int = 3) -> Cell:
    finite = values.replace([np.inf, -np.inf], np.nan).dropna()
    if finite.empty:
        return Cell("none", "the gradient is zero" if len(values) else "", kind="muted")
    interval: Interval = seed_interval(finite.to_numpy(dtype=float))
    spread = "" if interval.n < 2 else f"± {number(interval.half_width, digits)}"
    return Cell(number(interval.estimate, digits), spread)

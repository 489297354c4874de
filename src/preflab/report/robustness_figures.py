"""The figures over settings: expected best of k, shares of settings above a score, score by hyper-parameter and KL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.figures import WIDTH, axis_label, colour_of, marker_of
from preflab.report.svg import INK, MUTED, FigureText, drawn, panels, style
from preflab.report.tables import clusters_of, item_table
from preflab.stats.intervals import crossed_interval

if TYPE_CHECKING:
    from preflab.report.robustness import Robustness

_TITLES = {"test": "test prompts", "ood": "out-of-distribution prompts", "validation": "validation"}
_MOST = 6


def curve_figure(analysis: Analysis, found: Mapping[tuple[str, str], Robustness]) -> FigureText | None:
    """Expected score of the best of k random settings, by method, one panel per start point and split."""
    shown = dict(list(found.items())[:_MOST])
    with style():
        figure, axes = _grid(len(shown))
        for axis, ((start, split), result) in zip(axes, shown.items(), strict=False):
            for name, m in result.methods.items():
                k = np.arange(1, len(m.expected) + 1)
                mean, low, high = (np.array([getattr(i, e) for i in m.expected]) * _scale(analysis)
                                   for e in ("estimate", "low", "high"))  # fmt: skip
                axis.plot(k, mean, color=colour_of(analysis, name), marker=marker_of(analysis, name), markersize=3.5,
                          label=analysis.title(name))  # fmt: skip
                axis.fill_between(k, low, high, color=colour_of(analysis, name), alpha=0.13, linewidth=0)
            _base(axis, result, _scale(analysis))
            axis.set_title(f"from {start}, {_TITLES[split]}")
            axis.xaxis.get_major_locator().set_params(integer=True)
        _finish(figure, axes, shown, analysis, "settings tried at random", axis_label(analysis))
        told = ("expected-best", "Expected score after trying k settings; the numbers are in the tables.")
    caption = (
        "What to expect after trying k settings at random and keeping the one that validation prefers. Bands: 95 % "
        "intervals over seeds and prompts. Dashed: the start point."
    )
    return drawn(figure, *told, caption)


def profile_figure(analysis: Analysis, found: Mapping[tuple[str, str], Robustness]) -> FigureText | None:
    """Share of a method's settings that score at least so much: a performance profile over settings."""
    shown = dict(list(found.items())[:_MOST])
    with style():
        figure, axes = _grid(len(shown))
        for axis, ((start, split), result) in zip(axes, shown.items(), strict=False):
            for name, m in result.methods.items():
                means = np.sort(m.found.grid.means * _scale(analysis))
                share = 100 * (1 - np.arange(len(means)) / len(means))
                axis.step([*means, means[-1]], [*share, 0], where="pre", color=colour_of(analysis, name),
                          label=analysis.title(name))  # fmt: skip
                axis.plot(means, share, marker_of(analysis, name), color=colour_of(analysis, name), markersize=3)
            if result.scores.start_values is not None:
                axis.axvline(float(result.scores.start_values.mean()) * _scale(analysis), color=MUTED, linewidth=0.9,
                             linestyle=(0, (4, 3)))  # fmt: skip
            axis.set_title(f"from {start}, {_TITLES[split]}")
            axis.set_ylim(0, 104)
        _finish(figure, axes, shown, analysis, axis_label(analysis), "% of settings at least so good")
        told = ("profile", "Share of settings that reach a score, by method; the numbers are in the tables.")
    caption = (
        "How many settings of a method reach a score (performance profile): further right is better, a steep line "
        "depends little on settings. Dashed: the start point."
    )
    return drawn(figure, *told, caption)


def kl_figure(analysis: Analysis, start: str) -> FigureText | None:
    """Score against KL, one dot per setting, both with intervals over seeds; None where settings were not evaluated."""
    tables = analysis.tables
    cells = tables.cells[(tables.cells["start"] == start) & (tables.cells["size"] == analysis.size)]
    cells = cells[(cells["method"] != "") & (cells["status"] == "done") & cells["evaluate_s"].notna()]
    splits = [split for split in analysis.scores if cells["selected"].sum() < len(cells)]
    points = {split: _points(analysis, split, cells) for split in splits}
    points = {split: found for split, found in points.items() if found}
    if not points:
        return None
    with style():
        figure, axes = _grid(len(points))
        for axis, (split, found) in zip(axes, points.items(), strict=False):
            named = set[str]()
            for method, kl, kl_half, value, half, selected in found:
                axis.errorbar(kl, value, xerr=min(kl_half, kl), yerr=half, color=colour_of(analysis, method),
                              marker=marker_of(analysis, method), markersize=6 if selected else 3.6, linewidth=0,
                              elinewidth=0.6, alpha=0.9, markeredgecolor=INK if selected else "none",
                              label=None if method in named else analysis.title(method))  # fmt: skip
                named.add(method)
            axis.set_title(f"from {start}, {_TITLES[split]}")
            axis.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
            axis.set_xlim(left=0)
        _finish(figure, axes, points, analysis, "KL to the start point, nats per response (square-root scale)",
                axis_label(analysis))  # fmt: skip
        told = ("settings-kl", "Score against KL for every setting.")
    caption = (
        "One dot per setting, mean over seeds; bars: 95 % intervals over seeds and prompts, of both (one seed: prompts "
        "only). Large with a dark edge: the setting that validation chose."
    )
    return drawn(figure, *told, caption)


def _points(analysis: Analysis, split: str, cells: Any) -> list[tuple[str, float, float, float, float, bool]]:
    """Return method, KL, half its interval, score, half its interval, and whether selected, of every setting."""
    scale, found = _scale(analysis), []
    score, facts, _ = item_table(analysis.tables, split, analysis.metric.name, cells["cell"])
    kl, _, _ = item_table(analysis.tables, split, "kl_k3", cells["cell"])
    for (method, _), runs in cells.groupby(["method", "setting"], sort=False):
        own = [cell for cell in runs["cell"] if cell in score and cell in kl]
        if own:
            rows = score.index.intersection(kl.index)
            clusters = clusters_of(facts.loc[rows])
            x, y = (crossed_interval(table.loc[rows, own].to_numpy().T, clusters=clusters) for table in (kl, score))
            halves = [0.0 if math.isnan(i.low) else i.half_width for i in (x, y)]
            found.append((str(method), max(0.0, x.estimate), halves[0], y.estimate * scale, halves[1] * scale,
                          bool(runs["selected"].any())))  # fmt: skip
    return found


def effects_figure(analysis: Analysis, found: Mapping[tuple[str, str], Robustness]) -> FigureText | None:
    """Score by the value of each hyper-parameter, one panel per method and hyper-parameter, runs as dots."""
    result = next(iter(found.values()))
    shown = [
        (name, parameter)
        for name, m in result.methods.items()
        for parameter in dict.fromkeys(key for setting in m.found.settings for key in setting)
        if len({setting.get(parameter) for setting in m.found.settings}) > 1
    ][: 2 * _MOST]
    if not shown:
        return None
    with style():
        figure, axes = _grid(len(shown), columns=4, sharey=True)
        for axis, (name, parameter) in zip(axes, shown, strict=False):
            _by_value(axis, analysis, result, name, parameter)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        axes[0].set_ylabel(axis_label(analysis))
        told = ("by-hyperparameter", "Score by the value of each hyper-parameter.")
    start, split = next(iter(found))
    caption = (
        f"Score by hyper-parameter, from {start}, {_TITLES[split]}. Dots: single runs; line: mean over all other "
        "settings. Dashed: the start point."
    )
    return drawn(figure, *told, caption)


def _by_value(axis: Any, analysis: Analysis, result: Robustness, name: str, parameter: str) -> None:
    m, scale = result.methods[name].found, _scale(analysis)
    values = [setting.get(parameter) for setting in m.settings]
    order = sorted(
        dict.fromkeys(values), key=lambda v: (isinstance(v, str), v if isinstance(v, int | float) else 0, str(v))
    )
    runs = m.grid.values.mean(axis=2) * scale
    means = []
    for place, value in enumerate(order):
        mine = runs[[k for k, own in enumerate(values) if own == value]]
        axis.plot(
            np.full(mine.size, place), mine.ravel(), "o", color=colour_of(analysis, name), markersize=2.4, alpha=0.35
        )
        means.append(mine.mean())
    axis.plot(range(len(order)), means, color=colour_of(analysis, name), marker=marker_of(analysis, name), markersize=4)
    _base(axis, result, scale)
    axis.set_xticks(range(len(order)), [f"{v:g}" if isinstance(v, int | float) else str(v) for v in order])
    axis.set_xlim(-0.4, len(order) - 0.6)
    axis.set_title(f"{analysis.title(name)}: {parameter}")


def _base(axis: Any, result: Robustness, scale: float) -> None:
    if result.scores.start_values is not None:
        axis.axhline(
            float(result.scores.start_values.mean()) * scale, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3))
        )


def _grid(n: int, *, columns: int = 2, sharey: bool = False) -> tuple[Any, Any]:
    columns = min(n, columns)
    rows = -(-n // columns)
    figure, axes = panels(rows, columns, width=WIDTH, height=(3.1 if columns < 3 else 2.3) * rows, sharey=sharey)
    return figure, axes.ravel()


def _finish(figure: Any, axes: Any, shown: Mapping[Any, Any], analysis: Analysis, x: str, y: str) -> None:
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    axes[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    axes[0].set_ylabel(y)
    figure.supxlabel(x, fontsize=8.5, color=MUTED)


def _scale(analysis: Analysis) -> float:
    return 100 if analysis.metric.is_rate else 1

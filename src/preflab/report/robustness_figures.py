"""The figures over settings: expected best of k, shares of settings above a score, score by hyper-parameter and KL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.figures import SPLIT_TITLES, WIDTH, axis_label, marker_of, series_of, told
from preflab.report.frontier import kl_words
from preflab.report.points import Points
from preflab.report.svg import INK, MUTED, FigureText, drawn, panels, reach, style
from preflab.report.tables import clusters_of, item_table
from preflab.report.wording import count, percent, score
from preflab.stats.intervals import Interval, crossed_interval

if TYPE_CHECKING:
    from preflab.report.robustness import Robustness

_MOST = 6


def curve_figure(analysis: Analysis, found: Mapping[tuple[str, str], Robustness]) -> FigureText | None:
    """Expected score of the best of k random settings, by method, one panel per start point and split."""
    shown, points = dict(list(found.items())[:_MOST]), Points(toggled=True)
    with style():
        figure, axes = _grid(len(shown))
        for axis, ((start, split), result) in zip(axes, shown.items(), strict=False):
            for name, m in result.methods.items():
                k = np.arange(1.0, len(m.expected) + 1)
                mean, low, high = (np.array([getattr(i, e) for i in m.expected]) * _scale(analysis)
                                   for e in ("estimate", "low", "high"))  # fmt: skip
                series = series_of(points, analysis, name)
                series.drew(axis.plot(k, mean, color=series.colour, marker=marker_of(analysis, name), markersize=3.5,
                                      label=series.title))  # fmt: skip
                series.drew(axis.fill_between(k, low, high, color=series.colour, alpha=0.13, linewidth=0))
                for tried, y, interval in zip(k, mean, m.expected, strict=True):
                    series.at(axis, tried, y, _head(analysis, name, start, split),
                              "One random setting" if tried == 1 else f"Best of {tried:.0f} random settings, expected",
                              f"{analysis.metric.label} {told(interval, rate=analysis.metric.is_rate)}",
                              f"{count(len(mean), 'setting')}, {_runs(result, name)}")  # fmt: skip
            _base(axis, result, _scale(analysis))
            axis.set_title(f"from {start}, {SPLIT_TITLES[split]}")
            axis.xaxis.get_major_locator().set_params(integer=True)
        _finish(figure, axes, shown, analysis, "settings tried at random", axis_label(analysis))
        about = ("expected-best", "Expected score after trying k settings; the numbers are in the tables.")
    caption = (
        "What to expect after trying k settings at random and keeping the one that validation prefers. Bands: 95 % "
        f"intervals over {chance(shown.values())}.{_dashed(shown)}"
    )
    return drawn(figure, *about, caption, points)


def profile_figure(analysis: Analysis, found: Mapping[tuple[str, str], Robustness]) -> FigureText | None:
    """Share of a method's settings that score at least so much (a performance profile); None with two settings each."""
    if not any(len(m.expected) > 2 for result in found.values() for m in result.methods.values()):
        return None
    shown, points = dict(list(found.items())[:_MOST]), Points(toggled=True)
    with style():
        figure, axes = _grid(len(shown))
        for axis, ((start, split), result) in zip(axes, shown.items(), strict=False):
            for name, m in result.methods.items():
                order, series = np.argsort(m.found.grid.means, kind="stable"), series_of(points, analysis, name)
                means = m.found.grid.means[order] * _scale(analysis)
                share = 100 * (1 - np.arange(len(means)) / len(means))
                series.drew(axis.step([*means, means[-1]], [*share, 0], where="pre", color=series.colour,
                                      label=series.title))  # fmt: skip
                series.drew(axis.plot(means, share, marker_of(analysis, name), color=series.colour, markersize=3))
                for k, x, y in zip(order, means, share, strict=True):
                    series.at(axis, x, y, _head(analysis, name, start, split), *_setting(analysis, result, name, k),
                              f"{percent(y / 100)} of its {count(len(means), 'setting')} reach this score")  # fmt: skip
            if result.scores.start_values is not None:
                axis.axvline(float(result.scores.start_values.mean()) * _scale(analysis), color=MUTED, linewidth=0.9,
                             linestyle=(0, (4, 3)))  # fmt: skip
            axis.set_title(f"from {start}, {SPLIT_TITLES[split]}")
            axis.set_ylim(0, 104)
        _finish(figure, axes, shown, analysis, axis_label(analysis), "% of settings at least so good")
        about = ("profile", "Share of settings that reach a score, by method; the numbers are in the tables.")
    caption = (
        "How many settings of a method reach a score (performance profile): further right is better, a steep line "
        f"depends little on settings.{_dashed(shown)}"
    )
    return drawn(figure, *about, caption, points)


def kl_figure(analysis: Analysis, start: str) -> FigureText | None:
    """Score against KL, one dot per setting, both with intervals over seeds; None where settings were not evaluated."""
    tables = analysis.tables
    cells = tables.cells[(tables.cells["start"] == start) & (tables.cells["size"] == analysis.size)]
    cells = cells[(cells["method"] != "") & (cells["status"] == "done") & cells["evaluate_s"].notna()]
    splits = [split for split in analysis.scores if cells["selected"].sum() < len(cells)]
    placed, scale = {split: _points(analysis, split, cells) for split in splits}, _scale(analysis)
    placed = {split: found for split, found in placed.items() if found}
    if not placed:
        return None
    points = Points(toggled=True)
    with style():
        figure, axes = _grid(len(placed))
        for axis, (split, found) in zip(axes, placed.items(), strict=False):
            named = set[str]()
            for method, setting, seeds, kl, value, selected in found:
                x, y, series = max(0.0, kl.estimate), value.estimate * scale, series_of(points, analysis, method)
                series.drew(axis.errorbar(
                    x, y, xerr=reach([kl], floor=0.0), yerr=reach([value]) * scale, color=series.colour,
                    marker=marker_of(analysis, method), markersize=6 if selected else 3.6, linewidth=0, elinewidth=0.6,
                    alpha=0.9, markeredgecolor=INK if selected else "none",
                    label=None if method in named else series.title))  # fmt: skip
                series.at(axis, x, y, _head(analysis, method, start, split),
                          setting + ("; chosen by validation" if selected else ""),
                          f"{analysis.metric.label} {told(value, rate=analysis.metric.is_rate)}", f"KL {kl_words(kl)}",
                          f"{count(seeds, 'seed')}, {count(value.n, 'prompt')}")  # fmt: skip
                named.add(method)
            axis.set_title(f"from {start}, {SPLIT_TITLES[split]}")
            axis.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
            axis.set_xlim(left=0)
        _finish(figure, axes, placed, analysis, "KL to the start point, nats per response (square-root scale)",
                axis_label(analysis))  # fmt: skip
        about = ("settings-kl", "Score against KL for every setting.")
    caption = (
        "One dot per setting, mean over seeds; bars: 95 % intervals over seeds and prompts, of both (one seed: prompts "
        "only). Large with a dark edge: the setting that validation chose."
    )
    return drawn(figure, *about, caption, points)


def _points(analysis: Analysis, split: str, cells: Any) -> list[tuple[str, str, int, Interval, Interval, bool]]:
    """Return method, setting, number of seeds, KL, score, and whether selected, of every setting."""
    found = []
    score, facts, _ = item_table(analysis.tables, split, analysis.metric.name, cells["cell"])
    kl, _, _ = item_table(analysis.tables, split, "kl_k3", cells["cell"])
    for (method, setting), runs in cells.groupby(["method", "setting"], sort=False):
        own = [cell for cell in runs["cell"] if cell in score and cell in kl]
        if own:
            rows = score.index.intersection(kl.index)
            clusters = clusters_of(facts.loc[rows])
            x, y = (crossed_interval(table.loc[rows, own].to_numpy().T, clusters=clusters) for table in (kl, score))
            found.append((str(method), str(setting), len(own), x, y, bool(runs["selected"].any())))
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
    points = Points()
    with style():
        figure, axes = _grid(len(shown), columns=4, sharey=True)
        for axis, (name, parameter) in zip(axes, shown, strict=False):
            _by_value(axis, analysis, result, name, parameter, points)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        axes[0].set_ylabel(axis_label(analysis))
        about = ("by-hyperparameter", "Score by the value of each hyper-parameter.")
    start, split = next(iter(found))
    caption = (
        f"Score by hyper-parameter, from {start}, {SPLIT_TITLES[split]}. Dots: single runs; line: mean over all other "
        f"settings.{_dashed({(start, split): result})}"
    )
    return drawn(figure, *about, caption, points)


def _by_value(axis: Any, analysis: Analysis, result: Robustness, name: str, parameter: str, points: Points) -> None:
    m, scale, series = result.methods[name].found, _scale(analysis), series_of(points, analysis, name)
    values = [setting.get(parameter) for setting in m.settings]
    order = sorted(
        dict.fromkeys(values), key=lambda v: (isinstance(v, str), v if isinstance(v, int | float) else 0, str(v))
    )
    runs = m.grid.values.mean(axis=2) * scale
    head, means = _head(analysis, name, result.scores.start, result.scores.split), []
    for place, value in enumerate(order):
        mine = [k for k, own in enumerate(values) if own == value]
        dots = runs[mine]
        series.drew(axis.plot(np.full(dots.size, place), dots.ravel(), "o", color=series.colour, markersize=2.4,
                              alpha=0.35))  # fmt: skip
        means.append(dots.mean())
        series.at(axis, place, means[-1], head, f"{parameter} = {_level(value)}",
                  f"{analysis.metric.label} {_score(analysis, means[-1] / scale)}, mean",
                  f"{count(len(mine), 'setting')}, {_runs(result, name)}")  # fmt: skip
    for value, label, seeds in zip(values, m.labels, runs, strict=True):
        for run in seeds:
            series.at(axis, order.index(value), run, head, label,
                      f"{analysis.metric.label} {_score(analysis, run / scale)} in one run")  # fmt: skip
    series.drew(axis.plot(range(len(order)), means, color=series.colour, marker=marker_of(analysis, name),
                          markersize=4))  # fmt: skip
    _base(axis, result, scale)
    axis.set_xticks(range(len(order)), [_level(v) for v in order])
    axis.set_xlim(-0.4, len(order) - 0.6)
    axis.set_title(f"{analysis.title(name)}: {parameter}")


def chance(found: Iterable[Robustness]) -> str:
    """Say what intervals are over: validation scores hold no single prompts."""
    return "seeds and prompts" if any(result.scores.clusters for result in found) else "seeds"


def _dashed(shown: Mapping[Any, Robustness]) -> str:
    known = any(result.scores.start_values is not None for result in shown.values())
    return " Dashed: the start point." if known else ""


def _level(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _head(analysis: Analysis, name: str, start: str, split: str) -> str:
    return f"{analysis.title(name)} from {start}, {SPLIT_TITLES[split]}"


def _setting(analysis: Analysis, result: Robustness, name: str, k: int) -> tuple[str, ...]:
    """Say which setting of a method it is, what it scored and on how much."""
    found = result.methods[name].found
    label, interval = found.labels[k], crossed_interval(found.grid.values[k], clusters=result.scores.clusters or None)
    if label in found.diverged:
        return f"{label}; diverged, counted as the start point", _score(analysis, interval.estimate)
    return label, f"{analysis.metric.label} {told(interval, rate=analysis.metric.is_rate)}", _runs(result, name)


def _runs(result: Robustness, name: str) -> str:
    """Say how many seeds and prompts are behind every setting of a method."""
    seeds, prompts = result.methods[name].found.grid.values.shape[1:]
    return count(seeds, "seed") + (f", {count(prompts, 'prompt')}" if result.scores.clusters else "")


def _score(analysis: Analysis, value: float) -> str:
    return score(value, rate=analysis.metric.is_rate)


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

"""Methods that learn from rewards: what the reward said during training, what it was worth, and who judged."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, counted, measured
from preflab.report.points import Points, Series
from preflab.report.svg import COLOURS, INK, MUTED, FigureText, drawn, panels, style
from preflab.report.tables import Group, final_cells
from preflab.report.wording import MISSING, count, number, percent, score_range, signed
from preflab.stats.calibration import Bin, calibration
from preflab.stats.intervals import mean_interval, wilson_interval

_STAGES = 10
"""Points of a curve over training."""
_BINS = 5
"""Of the probability that a reward model gives to the order it finds, from one half to one."""
_EDGES = tuple(round(0.5 + k / (2 * _BINS), 6) for k in range(_BINS))


def online_methods(analysis: Analysis) -> list[str]:
    """Return the methods of a study that learned from their own answers."""
    cells, answered = final_cells(analysis.tables), set(analysis.tables.answers["cell"])
    found = set(cells.loc[cells["cell"].isin(answered), "method"])
    return [method for method in analysis.methods if method in found]


def overoptimisation_figure(analysis: Analysis) -> FigureText | None:
    """Trained and gold reward against KL during training, one panel per method; None without own answers."""
    methods = online_methods(analysis)
    if not methods:
        return None
    cells = final_cells(analysis.tables)
    frame = analysis.tables.answers.merge(cells[["cell", "start", "method", "size", "seed"]], on="cell")
    frame = frame[frame["size"] == analysis.size]
    points = Points()
    both = not np.allclose(frame["reward"], frame["gold"], equal_nan=True) and bool(frame["gold"].notna().any())
    with style():
        figure, axes = panels(1, len(methods), width=10.0, height=3.0, sharex=True, sharey=True)
        for axis, method in zip(axes[0], methods, strict=True):
            axis.set_title(analysis.title(method))
            axis.axhline(0, color=MUTED, linewidth=0.8)
            for _, own in frame[frame["method"] == method].groupby("cell", sort=False):
                run = f"{analysis.title(method)} from {own['start'].iloc[0]}, seed {own['seed'].iloc[0]}"
                _curves(axis, own, points.series(run, INK), both=both)
        if both:
            handles = axes[0, 0].get_lines()
            axes[0, 0].legend(handles[1:3], ["trained on", "gold"], loc="lower right", fontsize=8)
        figure.supxlabel("KL to the start point, nats per answer", fontsize=8.5, color=MUTED)
        figure.supylabel("reward, deviations from the first answers", fontsize=8.5, color=MUTED)
    gold = (
        "dashed: the gold reward, which nobody trained on. Where the dashed line turns down while the solid one rises, "
        "the reward is over-optimised."
        if both
        else "the reward is the gold one, so there is nothing to over-optimise."
    )
    caption = (
        f"{analysis.size:,} prompts; one line per run, in {_STAGES} equal parts of its training. Solid: the reward "
        f"that was trained on; {gold} Both in standard deviations of the first part's answers."
    )
    label = "Reward of own answers against KL during training, by method."
    return drawn(figure, "overoptimisation", label, caption, points)


def _curves(axis: Any, own: pd.DataFrame, run: Series, *, both: bool) -> None:
    part = own["round"] * _STAGES // (own["round"].max() + 1)
    kl = own.groupby(part)["kl_k1"].mean()
    for name, colour, dash in (("reward", COLOURS[0], "-"), ("gold", COLOURS[1], (0, (4, 2))))[: 2 if both else 1]:
        first = own.loc[part == 0, name]
        change = (own.groupby(part)[name].mean() - first.mean()) / (first.std() or 1.0)
        run.drew(axis.plot(kl, change, color=colour, linestyle=dash, linewidth=1.3, marker="o", markersize=2.2))
        for stage, (x, y) in enumerate(zip(kl, change, strict=True), 1):
            run.at(axis, x, y, run.title, f"Part {stage} of {len(kl)} of its training",
                   f"{'Gold reward' if name == 'gold' else 'Reward trained on'}: {signed(y, 2)} deviations",
                   f"KL {number(x, 2)} nats per answer")  # fmt: skip


def gains_table(analysis: Analysis) -> Table | None:
    """Return what every run of every method gained over its start point on the test prompts, seed by seed."""
    score = analysis.scores.get("test")
    if score is None or analysis.metric.name != "reward" or not online_methods(analysis):
        return None
    seeds = sorted({seed for group, own in score.seeds.items() if group.method for seed in own})
    rows = []
    for group, values in score.values.items():
        base = score.values.get(Group(group.start, "", 0))
        if not group.method or group.size != analysis.size or base is None:
            continue
        found = {seed: mean_interval(own - base.mean(axis=0), clusters=score.clusters)
                 for seed, own in zip(score.seeds[group], values, strict=True)}  # fmt: skip
        better = sum(interval.low > 0 for interval in found.values())
        cells = [
            measured(signed(i.estimate), i, f"± {number(i.half_width)}") if (i := found.get(seed)) else Cell("")
            for seed in seeds
        ]
        rows.append([Cell(f"{analysis.title(group.method)} from {group.start}", kind="text"), *cells,
                     Cell(f"{better} of {len(found)}", value=better)])  # fmt: skip
    head = [("Method and start point", ""), *((f"seed {seed}", "gain, 95 % over prompts") for seed in seeds),
            ("Beyond its interval", "runs")]  # fmt: skip
    caption = (
        f"{analysis.metric.label} gained over the start point on {count(len(score.rows), 'test prompt')}, run by run."
    )
    return Table(caption, head, rows, "gains-by-seed") if rows else None


def judges_figure(analysis: Analysis) -> FigureText | None:
    """Accuracy of reward models and of implicit rewards on the same validation pairs during training."""
    judged = analysis.tables.judges
    if judged.empty:
        return None
    cells = final_cells(analysis.tables)
    cells = cells[(cells["size"] == analysis.size) & (cells["method"] != "")]
    own = judged[judged["cell"].isin(cells["cell"])].drop_duplicates(["judge", "step"])
    implicit = analysis.tables.dynamics.merge(cells[["cell", "method", "start"]], on="cell")
    implicit = implicit[~implicit["method"].isin(online_methods(analysis)) & (implicit["step"] > 0)]
    starts = [start for start in analysis.starts if start in set(cells["start"])]
    own = own.merge(cells[["cell", "start"]], on="cell")
    points = Points(toggled=True)
    with style():
        figure, axes = panels(1, len(starts), width=10.0, height=3.2, sharey=True)
        for axis, start in zip(axes[0], starts, strict=True):
            axis.set_title(f"from {start}")
            axis.axhline(50, color=MUTED, linewidth=0.8)
            judge = own[(own["start"] == start) & (own["step"] > 0)]
            _accuracies(axis, f"reward model from {start}", judge, points.series("reward model", INK))
            for k, method in enumerate(analysis.methods):
                found = implicit[(implicit["method"] == method) & (implicit["start"] == start)]
                if len(found):
                    title = analysis.title(method)
                    series = points.series(title, COLOURS[k % len(COLOURS)])
                    _accuracies(axis, f"{title} from {start}", found, series)
            axis.legend(fontsize=7.5)
        figure.supxlabel("training pairs seen", fontsize=8.5, color=MUTED)
        axes[0, 0].set_ylabel("validation pairs in the right order, %")
    caption = (
        "The reward model against the implicit rewards of the methods (their log-ratio to the start point) on the same "
        "pairs and validation pairs. Lines: means over seeds; bands: their range."
    )
    label = "Accuracy of the reward model and of implicit rewards during training."
    return drawn(figure, "judges", label, caption, points)


def reliability_table(analysis: Analysis) -> Table | None:
    """Return whether the reward models' probabilities of a pair's order are what they say, one row per model."""
    cells = final_cells(analysis.tables)
    found = analysis.tables.verdicts.merge(cells[["cell", "start", "size", "seed"]], on="cell")
    found = found[found["size"] == analysis.size]
    rows = []
    for (start, _), scores in found.groupby(["start", "judge"], sort=False):
        own = scores[scores["cell"] == scores["cell"].iloc[0]]  # cells that share a reward model have the same rows
        margin = (own["chosen_score"] - own["rejected_score"]).to_numpy()
        right = np.where(margin == 0, 0.5, margin > 0)
        stated = calibration(expit(np.abs(margin)), right, n_bins=2 * _BINS)
        share, bins = wilson_interval(float(right.sum()), stated.n), {round(bin.low, 6): bin for bin in stated.bins}
        rows.append([
            Cell(f"from {start}, seed {own['seed'].iloc[0]}", kind="text"), counted(stated.n),
            measured(percent(share.estimate, 1), share, score_range(share, rate=True)),
            Cell(percent(stated.error, 1), f"{percent(math.sqrt(len(bins) / stated.n) / 2)} by chance",
                 value=stated.error),
            *(Cell(number(value, 3), value=value) for value in (stated.brier, stated.log_loss)),
            *(_observed(bins.get(low)) for low in _EDGES),
        ])  # fmt: skip
    head = [
        ("Reward model", ""), ("Pairs", "held out"), ("Right", "order of the pair, 95 %"),
        ("Calibration error", "expected; what a perfect model would show on so few pairs"),
        ("Brier", "0.25 for a coin"), ("Log-loss", "nats, 0.693 for a coin"),
        *((f"Says {percent(low)}–{percent(low + 0.5 / _BINS)}", "right, of so many pairs") for low in _EDGES),
    ]  # fmt: skip
    caption = (
        "Reward models on validation pairs. The probability of an order is the logistic function of the difference of "
        "two scores (Bradley-Terry); where it is calibrated, as many pairs are right as it says."
    )
    return Table(caption, head, rows, "reward-models") if rows else None


def _observed(bin: Bin | None) -> Cell:
    if bin is None:
        return Cell(MISSING, kind="muted")
    return measured(percent(bin.observed.estimate), bin.observed, f"of {bin.observed.n}")


def _accuracies(axis: Any, head: str, frame: pd.DataFrame, series: Series) -> None:
    grouped = frame.groupby("pairs_seen")["accuracy"]
    x = np.array(sorted(grouped.groups), dtype=float)
    low, high, mean = (
        np.asarray(values, dtype=float) * 100 for values in (grouped.min(), grouped.max(), grouped.mean())
    )
    series.drew(axis.fill_between(x, low, high, color=series.colour, alpha=0.15, linewidth=0))
    width = 2.0 if series.colour == INK else 1.2
    series.drew(axis.plot(x, mean, color=series.colour, label=series.title, linewidth=width))
    for k, seen in enumerate(x):
        told = f"{percent(mean[k] / 100, 1)} of the validation pairs in the right order"
        spread = f"; {percent(low[k] / 100, 1)} to {percent(high[k] / 100, 1)} over seeds" if low[k] < high[k] else ""
        series.at(axis, seen, mean[k], head, f"After {count(int(seen), 'pair')}", told + spread)


def context(analysis: Analysis) -> dict[str, Any] | None:
    """Return what the section shows; None where no method learned from rewards."""
    if not online_methods(analysis):
        return None
    parts: Sequence[FigureText | None] = (overoptimisation_figure(analysis), judges_figure(analysis))
    return {
        "figures": [part for part in parts if part is not None],
        "tables": [table for table in (gains_table(analysis), reliability_table(analysis)) if table],
    }

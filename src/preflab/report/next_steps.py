"""What to try next, as a command to paste, and what it would cost by the seconds that this study took."""

import math
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from preflab.report.analysis import Analysis, seeds_of
from preflab.report.edges import Edge, edges
from preflab.report.ranking import SIGNIFICANT, Ranking, compare_groups
from preflab.report.tables import REWARD, Group
from preflab.report.wording import count, difference_unit, duration, names, number, p_phrase, score, size_of
from preflab.stats.comparisons import items_needed
from preflab.stats.planning import Components, components

_HOPELESS = 50  # times the prompts or seeds: beyond this a difference is too small to pay for
_SECONDS = ("train_s", "judge_s", "evaluate_s", "diagnose_s", "gradients_s", "benchmarks_s")


def next_steps(analysis: Analysis, best: Ranking | None) -> tuple[str, ...]:
    """Return what to try next, most useful first.

    Args:
        analysis: the study's numbers.
        best: the ranking that the answer speaks of; None without results.
    """
    lines = _finish(analysis)
    if best is not None:
        lines += [*_few_seeds(analysis), *_settle(analysis, best), *_grid(analysis, best), *_more_data(analysis, best)]
    diverged = analysis.tables.cells[analysis.tables.cells["status"] == "diverged"]["method"].unique()
    if len(diverged):
        lines.append(f"Try smaller learning rates for {names([analysis.title(m) for m in diverged])}: cells diverged.")
    return tuple(lines)


def how_to_grow(analysis: Analysis, steps: Sequence[str]) -> str:
    """Say what the `--set` of such steps belongs to; empty where none has one."""
    if not any("`--set " in step for step in steps):
        return ""
    command = analysis.tables.study["command"]
    return f"Each `--set` goes behind `{command}`: the study grows, and only what is new is run."


def open_cells(analysis: Analysis) -> int:
    """Return the cells that have not ended."""
    return int(analysis.tables.cells["status"].isin(["pending", "failed"]).sum())


def _finish(analysis: Analysis) -> list[str]:
    n = open_cells(analysis)
    if not n:
        return []
    command = str(analysis.tables.study.get("command", "preflab run"))
    return [
        f"Finish the study: `{command}` continues with the {count(n, 'open cell')}{_cost(n * _per_cell(analysis))}."
    ]


def _few_seeds(analysis: Analysis) -> list[str]:
    n = seeds_of(analysis.tables.cells)
    if n >= 3:
        return []
    known = "unknown" if n == 1 else "hardly known"
    return [
        f"Run at least three seeds: {_asked(analysis, 'seeds', 3)}{_more_seeds(analysis, 3 - n)}. With "
        f"{count(n, 'seed')} the variance of training is {known}."
    ]


def _settle(analysis: Analysis, best: Ranking) -> list[str]:
    """Say what would tell the leader from the best of its rivals, if they differ by what was observed."""
    rivals = [row for row in best.contenders[1:] if row.behind is not None and row.behind.difference.estimate > 0]
    if not rivals:
        return []
    rival, rate = rivals[0], analysis.metric.is_rate
    assert rival.behind is not None
    gap, pair = (
        rival.behind.difference.estimate,
        f"{analysis.title(best.rows[0].method)} and {analysis.title(rival.method)}",
    )
    size, found = size_of(gap, rate=rate), _components(analysis, best, rival.method)
    if found is None:
        mde = rival.behind.minimum_detectable
        if not math.isfinite(mde):
            return [f"Evaluate on more prompts: {best.n_items} cannot tell {pair} apart."]
        prompts: int | None = items_needed(best.n_items, mde, gap)
        seeds = None
    else:
        prompts, seeds = found.items_needed(gap), found.seeds_needed(gap)
        prompts = None if prompts is None else math.ceil(prompts * best.n_items / found.n_items)
    ways = []
    if seeds is not None and found is not None and found.n_seeds < seeds <= _HOPELESS:
        ways.append(f"{_asked(analysis, 'seeds', seeds)}{_more_seeds(analysis, seeds - found.n_seeds)}")
    if prompts is not None and best.n_items < prompts <= _HOPELESS * best.n_items:
        ways.append(_more_items(analysis, best, math.ceil(prompts / 50) * 50))
    if not ways:
        return [
            f"Do not chase the difference between {pair} ({size}): it would take more than {_HOPELESS} times the "
            f"prompts, or more than {_HOPELESS} seeds. Choose by what else they differ in"
            f"{_other_differences(analysis, best, rival.method)}."
        ]
    return [f"To settle {pair}, if they differ by the observed {size}: {'; or '.join(ways)}."]


def _more_items(analysis: Analysis, best: Ranking, wanted: int) -> str:
    """Return how to score more prompts, or pairs, of a split; more than it holds are more data."""
    responses = analysis.metric.name == REWARD.name
    there = _rows_of(analysis, best.split)
    if there is not None and wanted > there:
        return f"about {wanted:,} {best.split} {'prompts' if responses else 'pairs'} (the split holds {there:,})"
    cost = _sum(analysis, ["evaluate_s"], selected=True) * wanted / best.n_items
    key = "evaluate.n_prompts" if responses else "evaluate.n_pairs"
    return f"{_asked(analysis, key, wanted)}{_cost(cost)}"


def _other_differences(analysis: Analysis, best: Ranking, rival: str) -> str:
    """Return KL, length and seconds of the leader and of a rival, as far as they are known."""
    groups = [Group(best.start, method, best.size) for method in (best.rows[0].method, rival)]
    known = [analysis.behaviour[best.split].get(group) for group in groups]
    said = []
    for name, unit, digits in (("kl", "nats", 2), ("length", "tokens", 1)):
        a, b = (getattr(behaviour, name, None) for behaviour in known)
        if a is not None and b is not None:
            title = "KL" if name == "kl" else name
            said.append(f"{title} {number(a.estimate, digits)} against {number(b.estimate, digits)} {unit}")
    cells = analysis.tables.cells
    runs = [
        cells[(cells["start"] == g.start) & (cells["method"] == g.method) & (cells["size"] == g.size)] for g in groups
    ]
    seconds = [float(mine["train_s"].mean()) for mine in runs]
    if all(map(math.isfinite, seconds)):
        said.append(f"a training of {' against '.join(map(duration, seconds))}")
    return f": {', '.join(said)}" if said else ""


def _components(analysis: Analysis, best: Ranking, rival: str) -> Components | None:
    scores = analysis.scores[best.split]
    groups = [Group(best.start, method, best.size) for method in (best.rows[0].method, rival)]
    if any(group not in scores.values for group in groups):
        return None
    shared = sorted(set(scores.seeds[groups[0]]) & set(scores.seeds[groups[1]]))
    if len(shared) < 2 or len(set(scores.clusters)) < 2:
        return None
    a, b = (scores.values[g][[scores.seeds[g].index(seed) for seed in shared]] for g in groups)
    return components(a, b, clusters=scores.clusters)


def _grid(analysis: Analysis, best: Ranking) -> list[str]:
    """Name hyper-parameters of the best two methods whose selected value is the last one tried, and the next value."""
    leading = [row.method for row in best.contenders[:2]]
    found = [e for e in edges(analysis.tables.cells, best.start, best.size) if e.method in leading and not e.flat]
    said = [_wider(analysis, edge) for edge in found if edge.name]
    rest = [analysis.title(edge.method) for edge in found if not edge.name]
    if rest:
        said.append(f"Widen the grid of {names(rest)}: the best setting lies on its edge.")
    return said


def _wider(analysis: Analysis, edge: Edge) -> str:
    mine = analysis.tables.cells[analysis.tables.cells["method"] == edge.method]
    value, levels, low = edge.value, edge.tried, edge.side == "lowest"
    near = levels[1] if low else levels[-2]
    beyond = float(f"{value * value / near:.2g}") if value * near > 0 else float(f"{2 * value - near:.2g}")
    new = [beyond, *levels] if low else [*levels, beyond]
    n = math.ceil(len(mine) / len(levels))
    return (
        f"Widen the grid of {analysis.title(edge.method)}: its best {edge.name} is the {edge.side} tried ({value:g}); "
        f"{_asked(analysis, f'methods.{edge.method}.{edge.name}', '[' + ','.join(f'{v:g}' for v in new) + ']')}"
        f"{_cost(n * _mean(mine, ['train_s', 'evaluate_s']) / _workers(analysis))}."
    )


def _more_data(analysis: Analysis, best: Ranking) -> list[str]:
    if len(analysis.sizes) < 2:
        half = max(1, analysis.size // 4)
        sizes = f"[{half},{analysis.size}]"
        return [f"Add a second training size to see whether more data would help: {_asked(analysis, 'sizes', sizes)}."]
    smaller = Group(best.start, best.rows[0].method, analysis.sizes[-2])
    largest = Group(best.start, best.rows[0].method, best.size)
    found = analysis.scores[best.split]
    if smaller not in found.values:
        return []
    step, rate = compare_groups(found, largest, smaller), analysis.metric.is_rate
    if not (step.p < SIGNIFICANT and step.difference.estimate > 0):
        return []
    gain = score(step.difference.estimate, rate=rate, sign=True) + difference_unit(rate=rate)
    brought = f"going from {smaller.size:,} to {largest.size:,} still brought {gain} ({p_phrase(step.p)})"
    there = _rows_of(analysis, "train")
    if there is not None and there <= analysis.size:
        return [f"Collect more pairs: {brought}, and the study used all it has."]
    more = min(2 * analysis.size, there or 2 * analysis.size)
    cells = analysis.tables.cells[analysis.tables.cells["size"] == analysis.size]
    grown = more / analysis.size
    cost = (grown * float(cells["train_s"].sum()) + float(cells["evaluate_s"].sum())) / _workers(analysis)
    sizes = "[" + ",".join(map(str, [*analysis.sizes, more])) + "]"
    return [f"Train on more pairs: {brought}; {_asked(analysis, 'sizes', sizes)}{_cost(cost)}."]


def _rows_of(analysis: Analysis, split: str) -> int | None:
    """Return how many rows a split holds; None where the study does not say."""
    return ((analysis.tables.study.get("data") or {}).get("splits") or {}).get(split)


def _asked(analysis: Analysis, key: str, value: object) -> str:
    """Return what to add to the study's command, or the line of the study file where no command can be grown."""
    if _grows(analysis):
        return f"`--set {shlex.quote(f'{key}={value}')}`"
    return f"`{key}: {value}` in the study file"


def _grows(analysis: Analysis) -> bool:
    """Return whether the study was made by a command that takes `--set`."""
    return str(analysis.tables.study.get("command", "")).startswith(("preflab run ", "preflab reproduce "))


def _more_seeds(analysis: Analysis, more: int) -> str:
    trained = analysis.tables.cells[analysis.tables.cells["method"] != ""]
    per_seed = len(trained) / max(1, seeds_of(analysis.tables.cells))
    return _cost(more * per_seed * _per_cell(analysis))


def _per_cell(analysis: Analysis) -> float:
    """Return the mean seconds of a cell with all that follows its training, shared by the workers."""
    cells = analysis.tables.cells
    return _mean(cells[cells["method"] != ""], _SECONDS) / _workers(analysis)


def _mean(cells: pd.DataFrame, names: Sequence[str]) -> float:
    """Return the mean of seconds over cells; what a cell did not have counts as 0."""
    return float(cells[list(names)].fillna(0.0).sum(axis=1).mean()) if len(cells) else 0.0


def _sum(analysis: Analysis, names: Sequence[str], *, selected: bool) -> float:
    cells = analysis.tables.cells
    cells = cells[cells["selected"]] if selected else cells
    return float(cells[list(names)].fillna(0.0).to_numpy().sum()) / _workers(analysis)


def _workers(analysis: Analysis) -> int:
    machine = analysis.tables.study.get("machine")
    workers = machine.get("workers") if isinstance(machine, Mapping) else None
    return workers if isinstance(workers, int) and workers > 0 else 1


def _cost(seconds: float) -> str:
    return f" (about {duration(seconds)} here)" if seconds >= 1 else ""

"""Findings: plain sentences with their evidence, from the tables of a study.

The thresholds are conventions for drawing attention, not tests; each is named here with its reason.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from preflab.diagnose.checkpoints import HARMFUL

TRUNCATED = 0.05
"""Share of cut responses above which lengths and rewards are no longer those of finished answers."""
LENGTH_RATIO = 1.25
"""Ratio of mean lengths above which a preference may be one for length."""
NOISE = 2.0
"""Standard errors a change must exceed to be mentioned."""
FAR_KL = 10.0
"""Nats per response beyond which samples of the start point say little about the trained model."""

Level = Literal["warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reader should know.

    Args:
        code: stable name, such as `displacement`.
        level: `warning` when a conclusion may be wrong because of it, else `note`.
        text: one sentence or two.
        evidence: the numbers behind it, one line each.
    """

    code: str
    level: Level
    text: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contest:
    """One ranking, as far as separability is concerned.

    Args:
        where: the start point, or all of them.
        best: the method with the best estimate.
        rivals: methods that cannot be told apart from it.
        detectable: the difference to the closest rival that the comparison finds with 80 % power, in words.
    """

    where: str
    best: str
    rivals: tuple[str, ...]
    detectable: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What the diagnosis says of one group.

    Args:
        where: method, start point and size.
        code: the verdict over seeds.
        codes: the verdict on each seed alone.
        agreement: both in words.
        chosen: change of the chosen responses' log-prob, nats per response.
        numbers: what changed by how much, in words.
    """

    where: str
    code: str
    codes: tuple[str, ...]
    agreement: str
    chosen: float
    numbers: str


def diagnose(
    cells: pd.DataFrame, responses: pd.DataFrame, contests: Sequence[Contest] = (), judged: Sequence[Judged] = ()
) -> tuple[Finding, ...]:
    """Return everything noteworthy, warnings first.

    Args:
        cells: one row per cell (start, method, size, seed, status, step, cause, setting, selected, edge).
        responses: generated responses (cell, split, n_tokens, truncated, kl_k3, reward).
        contests: the rankings of the study.
        judged: what the diagnosis says of each group.
    """
    checks: Sequence[Callable[[], Finding | None]] = (
        lambda: divergence(cells),
        lambda: overoptimisation(cells, responses),
        lambda: truncation(cells, responses),
        lambda: grid_edge(cells),
        lambda: harm(judged),
        lambda: displacement(judged),
        lambda: length_drift(cells, responses),
        lambda: far_from_start(cells, responses),
        lambda: separability(contests),
    )
    found = [finding for check in checks if (finding := check()) is not None]
    return tuple(sorted(found, key=lambda finding: finding.level != "warning"))


def divergence(cells: pd.DataFrame) -> Finding | None:
    """Report methods whose training broke down, with their rates."""
    trained = cells[cells["method"] != ""]
    broken = trained[trained["status"] == "diverged"]
    if broken.empty:
        return None
    totals = trained.groupby("method").size()
    lines = [f"{method}: {n} of {totals[method]} cells" for method, n in broken["method"].value_counts().items()]
    text = (
        f"{_count(len(broken), 'cell')} of {len(trained)} diverged. Means over the remaining seeds flatter "
        "a method that diverges."
    )
    return Finding("divergence", "warning", text, tuple(lines))


def grid_edge(cells: pd.DataFrame) -> Finding | None:
    """Report selected settings on the edge of their grid: the optimum may lie outside."""
    chosen = cells[cells["edge"] & cells["selected"] & (cells["method"] != "")]
    if chosen.empty:
        return None
    found = chosen.groupby(["start", "method", "setting"], sort=False)["size"].unique()
    lines = [
        f"{m} from {s}, {_names(map('{:,}'.format, sorted(sizes, reverse=True)))} pairs: {setting}"
        for (s, m, setting), sizes in found.items()
    ]
    text = (
        f"The best setting lies on the edge of its grid for {_names(chosen['method'])}; a wider grid may find a better "
        "one, so these methods may be undersold."
    )
    return Finding("grid_edge", "warning", text, tuple(lines))


def harm(judged: Sequence[Judged]) -> Finding | None:
    """Report groups of which a seed is broken, collapsed or lost its margin, whatever they score."""
    bad = [group for group in judged if any(code in HARMFUL for code in (group.code, *group.codes))]
    if not bad:
        return None
    text = (
        f"The diagnosis found harm in {len(bad)} of {_count(len(judged), 'group')}: a collapse of the answers, a "
        "margin that shrank, or numbers that are not finite. Read their responses before you trust what they score."
    )
    return Finding("harm", "warning", text, tuple(f"{g.where}: {g.agreement}; {g.numbers}" for g in bad))


def displacement(judged: Sequence[Judged]) -> Finding | None:
    """Report groups that the diagnosis calls displaced."""
    fell = [group for group in judged if group.code == "displacement"]
    if not fell:
        return None
    fell.sort(key=lambda group: group.chosen)
    text = (
        f"Displacement in {len(fell)} of {_count(len(judged), 'group')}: the chosen responses became less likely "
        "although the margin grew, because the rejected ones fell faster. That alone is no harm, since better answers "
        f"may have risen; where the probability went, and the reward, say more. Strongest: {fell[0].where}."
    )
    return Finding("displacement", "note", text, tuple(f"{g.where}: {g.agreement}; {g.numbers}" for g in fell))


def length_drift(cells: pd.DataFrame, responses: pd.DataFrame) -> Finding | None:
    """Report groups whose responses became much longer or shorter than the start point's."""
    both = _against_start(responses, cells, "n_tokens")
    ratio = both["value"] / both["start_value"]
    drifted = both.assign(ratio=ratio)[(ratio > LENGTH_RATIO) | (ratio < 1 / LENGTH_RATIO)]
    if drifted.empty:
        return None
    lines = [
        f"{m} from {s}, {n} pairs: {r.value:.1f} tokens, start point {r.start_value:.1f}"
        for (s, m, n), r in drifted.iterrows()
    ]
    text = (
        f"The mean length of responses changed by more than a quarter in {len(drifted)} of {len(both)} groups "
        f"({_names(drifted.index.get_level_values('method'))}); part of a change in quality may be a change in length."
    )
    return Finding("length_drift", "note", text, tuple(lines))


def truncation(cells: pd.DataFrame, responses: pd.DataFrame) -> Finding | None:
    """Report groups whose responses often hit the token limit; a note where only smaller sizes than the ranked do."""
    if responses.empty:
        return None
    rates = _by_group(_test(responses).assign(cut=responses["truncated"].astype(float)), cells, ["cut"], starts=True)
    often = rates[rates["cut"] > TRUNCATED].sort_values("cut", ascending=False).reset_index()
    if often.empty:
        return None
    # Methods are ranked at the largest size: what concerns it comes first.
    ranked = int(cells["size"].max())
    trained, largest = often["method"] != "", often["size"] == ranked
    kinds = [
        (often[trained & largest], "group", f" of {ranked:,} pairs"),
        (often[~trained], "start point", ""),
        (often[trained & ~largest].sort_values("size", ascending=False, kind="stable"), "group", " of fewer pairs"),
    ]
    where = _names([f"{_count(len(found), noun)}{which}" for found, noun, which in kinds if len(found)])
    text = (
        f"More than {TRUNCATED:.0%} of the responses hit the token limit in {where}; their length and reward are those "
        "of unfinished answers."
    )
    if not (trained & largest).any():
        text += f" No group of {ranked:,} pairs, the size that is ranked, is among them."
    lines = [
        (f"{r.method} from {r.start}, {r.size:,} pairs" if r.method else f"start point {r.start}") + f": {r.cut:.0%}"
        for found, *_ in kinds
        for r in found.itertuples()
    ]
    # A start point is what every gain is measured from.
    level: Level = "note" if (trained & ~largest).all() else "warning"
    return Finding("truncation", level, text, tuple(lines))


def far_from_start(cells: pd.DataFrame, responses: pd.DataFrame) -> Finding | None:
    """Report groups far from their start point."""
    if responses.empty:
        return None
    means = _by_group(_test(responses), cells, ["kl_k3"])
    far = means[means["kl_k3"] > FAR_KL].sort_values("kl_k3", ascending=False)
    if far.empty:
        return None
    lines = [f"{m} from {s}, {n} pairs: {r.kl_k3:.1f} nats per response" for (s, m, n), r in far.iterrows()]
    text = (
        f"{_names(far.index.get_level_values('method'))} moved more than {FAR_KL:g} nats per response away from the "
        "start point; check its responses, and that other abilities survived."
    )
    return Finding("far_from_start", "note", text, tuple(lines))


def overoptimisation(cells: pd.DataFrame, responses: pd.DataFrame) -> Finding | None:
    """Report groups that moved and became worse than their start point."""
    both = _against_start(responses, cells, "reward")
    if both.empty:
        return None
    worse = both[both["value"] - both["start_value"] < -NOISE * both["noise"]]
    if worse.empty:
        return None
    lines = [
        f"{m} from {s}, {n} pairs: reward {r.value:.3f}, start point {r.start_value:.3f}"
        for (s, m, n), r in worse.iterrows()
    ]
    text = (
        f"Training made the model worse than its start point in {len(worse)} of {len(both)} groups "
        f"({_names(worse.index.get_level_values('method'))}): over-optimisation, or a learning rate that is too high."
    )
    return Finding("overoptimisation", "warning", text, tuple(lines))


def separability(contests: Sequence[Contest]) -> Finding | None:
    """Report rankings in which several methods share the first place."""
    shared = [contest for contest in contests if contest.rivals]
    if not shared:
        return None
    lines = [f"{c.where}: {c.best}, {_names(c.rivals)}; detectable difference {c.detectable}" for c in shared]
    text = (
        f"The first place is shared in {len(shared)} of {_count(len(contests), 'ranking')}: the study cannot tell the "
        "best methods apart there. Differences below the detectable one are likely to be missed."
    )
    return Finding("not_separable", "note", text, tuple(lines))


def _test(responses: pd.DataFrame) -> pd.DataFrame:
    return responses[responses["split"] == "test"]


def _by_group(frame: pd.DataFrame, cells: pd.DataFrame, columns: list[str], *, starts: bool = False) -> pd.DataFrame:
    """Return means over rows within cells, then over seeds, indexed by (start, method, size)."""
    frame = frame.reindex(columns=["cell", *columns])
    final = cells[(cells["status"] == "done") & (cells["selected"] | (cells["method"] == ""))]
    if not starts:
        final = final[final["method"] != ""]
    means = frame.groupby("cell")[columns].mean().reset_index().merge(final, on="cell")
    return means.groupby(["start", "method", "size"], sort=False)[columns].mean()


def _against_start(responses: pd.DataFrame, cells: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return every group's mean of a column beside its start point's, on the same items, with the noise between them.

    The noise is the standard error over items of the paired difference averaged over seeds: a lower bound where seeds
    vary.
    """
    frame = _test(responses).dropna(subset=[column]).merge(cells, on="cell")
    frame = frame[(frame["status"] == "done") & (frame["selected"] | (frame["method"] == ""))]
    items = frame.groupby(["start", "method", "size", "row"], sort=False)[column].mean().reset_index()
    base = items[items["method"] == ""][["start", "row", column]].rename(columns={column: "start_value"})
    both = items[items["method"] != ""].merge(base, on=["start", "row"])
    both = both.assign(value=both[column], noise=both[column] - both["start_value"])
    groups = both.groupby(["start", "method", "size"], sort=False)
    result = groups[["value", "start_value"]].mean()
    result["noise"] = groups["noise"].sem()
    return result


def _names(values: object) -> str:
    names = list(dict.fromkeys(str(value) for value in values))  # type: ignore[attr-defined]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"

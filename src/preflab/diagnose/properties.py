"""The three properties of "3D-Properties" in a study: drastic drop, degradation, dispersion; one result per group.

Yan et al., 2024, arXiv:2406.07327, section 3. The paper speaks of probabilities and shows figures; the numbers here are
log-probs of held-out responses, which a table can compare: see `Properties` for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from preflab.diagnose.findings import NOISE
from preflab.stats.intervals import Interval, seed_interval

GroupKey = tuple[str, str, int]
_ROLES = ("chosen", "rejected", "unseen")


@dataclass(frozen=True, slots=True)
class Fall:
    """The likelihood of the chosen responses fell, in some runs of a group.

    Args:
        since: for each of those runs, the share of its planned steps after which the chosen responses were likeliest;
            NaN where the plan is not known.
        by: the mean of their falls from there to the end, nats per response.
    """

    since: tuple[float, ...]
    by: float


@dataclass(frozen=True, slots=True)
class Properties:
    """What training did to held-out responses, from the start point to the weights that were kept.

    Changes of log-prob are means over a fixed set of validation responses, nats per response, with t intervals over
    seeds (one seed: without bounds); None is not measured.

    Args:
        seeds: runs behind the numbers.
        chosen: change of the chosen responses.
        rejected: change of the rejected ones.
        unseen: change of answers to other prompts.
        drop: rejected minus chosen: drastic drop (P1) where it is far below zero.
        fall: degradation (P2): where a run's chosen responses ended below their likeliest evaluation by more than
            `NOISE` standard errors (over responses, paired); None where they did so in no run.
        n_fall: runs in which they did; None where it was not measured.
        dispersion: unseen minus the mean of chosen and rejected: dispersion (P3) where it is above zero.
        kept: for each run that stopped early, the share of its planned steps behind its weights; NaN as above.
        n_first: runs of these that kept their first evaluation, so that their best may lie before it.
    """

    seeds: tuple[int, ...]
    chosen: Interval | None
    rejected: Interval | None
    unseen: Interval | None
    drop: Interval | None
    fall: Fall | None
    n_fall: int | None
    dispersion: Interval | None
    kept: tuple[float, ...]
    n_first: int


def properties(cells: pd.DataFrame, dynamics: pd.DataFrame) -> dict[GroupKey, Properties]:
    """Return the properties of every (start point, method, size) that has finished cells with selected settings.

    Args:
        cells: one row per cell (cell, start, method, size, seed, status, selected, kept_step, planned_steps).
        dynamics: likelihoods during training (cell, step, kept, chosen_total, rejected_total, unseen_total, peak_step,
            chosen_fall, chosen_fall_se).
    """
    final = cells[(cells["status"] == "done") & cells["selected"] & (cells["method"] != "")]
    kept = dynamics[dynamics["kept"]].sort_values("step")
    if kept.empty or final.empty:
        return {}
    totals = [f"{role}_total" for role in _ROLES]
    ends = kept.groupby("cell")[[*totals, "step", "peak_step", "chosen_fall", "chosen_fall_se"]].nth(-1)
    starts = kept.groupby("cell")[totals].nth(0)
    ids = kept.loc[ends.index, "cell"]
    ends, starts = ends.set_index(ids), starts.set_index(kept.loc[starts.index, "cell"])
    ends["evaluations"] = kept.groupby("cell").size()
    changes = (ends[totals] - starts[totals]).set_axis(list(_ROLES), axis=1)
    runs = final.merge(changes.join(ends.drop(columns=totals)), left_on="cell", right_index=True, suffixes=("", "_end"))
    groups = runs.sort_values("seed").groupby(["start", "method", "size"], sort=False)
    return {(str(s), str(m), int(n)): _properties(found) for (s, m, n), found in groups}


def _properties(runs: pd.DataFrame) -> Properties:
    pair = (runs["chosen"] + runs["rejected"]) / 2
    measured = runs["chosen_fall"].notna()
    fell = runs[runs["chosen_fall"] > NOISE * runs["chosen_fall_se"]]
    early = runs[runs["kept_step"].notna()]
    return Properties(
        seeds=tuple(int(seed) for seed in runs["seed"]),
        chosen=_over_seeds(runs["chosen"]),
        rejected=_over_seeds(runs["rejected"]),
        unseen=_over_seeds(runs["unseen"]),
        drop=_over_seeds(runs["rejected"] - runs["chosen"]),
        fall=Fall(_shares(fell, "peak_step"), float(fell["chosen_fall"].mean())) if len(fell) else None,
        n_fall=len(fell) if measured.all() else None,
        dispersion=_over_seeds(runs["unseen"] - pair),
        kept=_shares(early, "kept_step"),
        n_first=int((early["evaluations"] == 2).sum()),  # the start point and this one
    )


def _over_seeds(values: pd.Series) -> Interval | None:
    """Return the mean with its t interval; None unless every run was measured."""
    return seed_interval(values.to_numpy(dtype=float)) if values.notna().all() else None


def _shares(runs: pd.DataFrame, column: str) -> tuple[float, ...]:
    shares: Sequence[float] = (runs[column] / runs["planned_steps"]).tolist()
    return tuple(float(share) for share in shares)

"""What training did to the model: preference accuracy, KL, length, truncation, win rates, parts of the reward."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from preflab.report.ranking import group_intervals
from preflab.report.tables import FloatArray, Group, Measure, StudyTables, final_cells, measure
from preflab.stats.intervals import Interval
from preflab.stats.win_rates import WinRate, win_rates

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_PAIR_MEASURES = ("accuracy", "accuracy_per_token", "chosen_change", "rejected_change", "margin")
_TEXT_COLUMNS = ("reward", "kl_k3", "kl_token", "n_tokens", "truncated", "chosen_reward")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One group (a method from a start point at a size, or a start point itself) on one split; None is not measured.

    Args:
        group: start point, method, size.
        seeds: seeds behind the numbers.
        reward: of the responses.
        accuracy: share of pairs whose implicit reward against the start point prefers the chosen response.
        accuracy_per_token: share of pairs whose chosen response has the higher log-prob per token, no reference.
        chosen_change: log-prob of the pairs' chosen responses against the start point, nats per response.
        rejected_change: the same of the rejected ones.
        margin: log-ratio margin of the pairs against the start point, nats: the difference of these two.
        kl: KL to the start point, estimated on the group's own responses, nats per response.
        kl_token: the same divided by the length of each response, nats per token.
        length: tokens per response.
        length_quantiles: at `QUANTILES`, tokens; empty when not measured.
        truncated: share of responses cut at the limit.
        win_start: against the start point's response to the same prompt.
        win_chosen: against the data's chosen response.
        parts: mean of every part of the reward.
    """

    group: Group
    seeds: tuple[int, ...]
    reward: Interval | None
    accuracy: Interval | None
    accuracy_per_token: Interval | None
    chosen_change: Interval | None
    rejected_change: Interval | None
    margin: Interval | None
    kl: Interval | None
    kl_token: Interval | None
    length: Interval | None
    length_quantiles: tuple[float, ...]
    truncated: Interval | None
    win_start: WinRate | None
    win_chosen: WinRate | None
    parts: Mapping[str, float]


def behaviours(tables: StudyTables, split: str) -> dict[Group, Behaviour]:
    """Return the behaviour of every group that has any measurement on a split, in the order of the cells."""
    pairs = {name: measure(tables, split, name) for name in _PAIR_MEASURES}
    texts = {name: measure(tables, split, name) for name in _TEXT_COLUMNS}
    parts = {name: measure(tables, split, name) for name in reward_parts(tables)}
    quantiles = length_quantiles(tables, split)
    groups = dict.fromkeys(g for m in (*pairs.values(), *texts.values()) for g in m.values)
    found = {name: group_intervals(m) for name, m in (pairs | texts).items()}
    rewards, chosen = texts["reward"], texts["chosen_reward"]
    against_start = _win_rates(rewards, _starts(rewards))
    against_chosen = _win_rates(rewards, chosen.values if chosen.rows == rewards.rows else {})
    return {
        group: Behaviour(
            group=group,
            seeds=next(m.seeds[group] for m in (*texts.values(), *pairs.values()) if group in m.seeds),
            reward=found["reward"].get(group),
            accuracy=found["accuracy"].get(group) if group.method else None,
            accuracy_per_token=found["accuracy_per_token"].get(group),
            chosen_change=found["chosen_change"].get(group) if group.method else None,
            rejected_change=found["rejected_change"].get(group) if group.method else None,
            margin=found["margin"].get(group) if group.method else None,
            kl=found["kl_k3"].get(group) if group.method else None,
            kl_token=found["kl_token"].get(group) if group.method else None,
            length=found["n_tokens"].get(group),
            length_quantiles=quantiles.get(group, ()),
            truncated=found["truncated"].get(group),
            win_start=against_start.get(group),
            win_chosen=against_chosen.get(group),
            parts={name: float(m.values[group].mean()) for name, m in parts.items() if group in m.values},
        )
        for group in _in_order(tables, groups)
    }


def reward_parts(tables: StudyTables) -> list[str]:
    """Return the columns that hold a part of the reward."""
    return [
        str(name)
        for name in tables.responses.columns
        if str(name).startswith("reward_") and pd.api.types.is_numeric_dtype(tables.responses[name])
    ]


def length_quantiles(tables: StudyTables, split: str) -> dict[Group, tuple[float, ...]]:
    """Return the quantiles of response length in tokens for every group, all seeds together."""
    cells = final_cells(tables)[["cell", "start", "method", "size"]]
    frame = tables.responses.loc[tables.responses["split"] == split, ["cell", "n_tokens"]].dropna()
    frame = frame.merge(cells, on="cell")
    result = {}
    for key, values in frame.groupby(["start", "method", "size"], sort=False)["n_tokens"]:
        cuts = np.quantile(values.to_numpy(dtype=float), QUANTILES)
        result[Group(str(key[0]), str(key[1]), int(key[2]))] = tuple(float(cut) for cut in cuts)
    return result


def _win_rates(rewards: Measure, opponents: Mapping[Group, FloatArray]) -> dict[Group, WinRate]:
    """Return the win rates of the groups that have an opponent; seed variances are moderated within a size."""
    result: dict[Group, WinRate] = {}
    for size in dict.fromkeys(group.size for group in opponents):
        groups = [group for group in opponents if group.size == size and group in rewards.values]
        if groups and rewards.rows:
            pairs = [(rewards.values[group], opponents[group]) for group in groups]
            result.update(zip(groups, win_rates(pairs, clusters=rewards.clusters), strict=True))
    return result


def _starts(rewards: Measure) -> dict[Group, FloatArray]:
    """Return the start point's mean score per item for every trained group."""
    values = rewards.values
    bases = {group.start: table.mean(axis=0) for group, table in values.items() if not group.method}
    return {group: bases[group.start] for group in values if group.method and group.start in bases}


def _in_order(tables: StudyTables, groups: Mapping[Group, object]) -> list[Group]:
    keys = tables.cells[["start", "method", "size"]].drop_duplicates().itertuples(index=False)
    return [group for key in keys if (group := Group(str(key[0]), str(key[1]), int(key[2]))) in groups]

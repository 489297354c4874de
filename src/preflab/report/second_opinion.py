"""Whether counting wins, instead of averaging rewards, puts another method first."""

from dataclasses import replace

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.ranking import SIGNIFICANT, Ranking, compare_groups
from preflab.report.tables import REWARD, FloatArray, Group, Measure, measure
from preflab.report.wording import count, names, p_phrase, percent
from preflab.stats.comparisons import holm

_CHOSEN, _START = "the data’s chosen responses", "the start point’s responses"


def win_rate_doubts(analysis: Analysis, best: Ranking) -> list[str]:
    """Name methods that share the first place by mean reward and are told apart above its leader by win rate.

    Args:
        analysis: the study's numbers.
        best: the ranking that the answer speaks of.

    Returns:
        A sentence per method; p-values after Holm's correction over all methods and opponents compared here.
    """
    if analysis.metric.name != REWARD.name or len(best.contenders) < 2:
        return []
    leader, *rivals = (Group(best.start, row.method, best.size) for row in best.contenders)
    against = _wins(analysis, best)
    tests = {(rival, of): compare_groups(wins, rival, leader) for of, wins in against.items() for rival in rivals}
    adjusted = dict(zip(tests, holm([found.p for found in tests.values()]), strict=True))
    lines = []
    for rival in rivals:
        ahead = [
            f"{percent(wins.values[rival].mean())} against {percent(wins.values[leader].mean())} over {of} "
            f"({p_phrase(float(adjusted[rival, of]))})"
            for of, wins in against.items()
            if adjusted[rival, of] < SIGNIFICANT and tests[rival, of].difference.estimate > 0
        ]
        if ahead:
            lines.append(
                f"By win rate, ties half, {analysis.title(rival.method)} is ahead of {analysis.title(leader.method)}: "
                f"{names(ahead)}; Holm over {count(len(tests), 'comparison')}."
            )
    return lines


def _wins(analysis: Analysis, best: Ranking) -> dict[str, Measure]:
    """Return wins of every group of the ranking over each opponent: 1, 0.5 for a tie, or 0."""
    rewards, chosen = (measure(analysis.tables, best.split, name) for name in ("reward", "chosen_reward"))
    groups = [Group(best.start, row.method, best.size) for row in best.rows]
    against: dict[str, dict[Group, FloatArray]] = {}
    if chosen.rows == rewards.rows and all(group in chosen.values for group in groups):
        against[_CHOSEN] = {group: chosen.values[group] for group in groups}
    start = rewards.values.get(Group(best.start, "", 0))
    if start is not None:
        against[_START] = {group: start.mean(axis=0, keepdims=True) for group in groups}
    return {
        opponent: replace(
            rewards, values={g: (np.sign(rewards.values[g] - theirs) + 1) / 2 for g, theirs in others.items()}
        )
        for opponent, others in against.items()
    }

"""Methods that a mean of rewards does not put first, and win rates do."""

import numpy as np
import pandas as pd
import pytest

from preflab.report.analysis import analyse
from preflab.report.answer import answer
from preflab.report.second_opinion import win_rate_doubts
from preflab.report.tables import StudyTables

PROMPTS = 40


def world(rewards, chosen=None):
    """Invent a study of two seeds in which a method's rewards are those given, and a start point's are 0."""
    cells, responses = [], []
    for method, values in ({"": np.zeros(PROMPTS)} | rewards).items():
        for seed in [0, 1] if method else [-1]:
            name, size = f"{method}-{seed}", 64 if method else 0
            cells.append({"cell": name, "start": "sft", "method": method, "setting": "", "hyperparameters": {},
                          "size": size, "seed": seed, "status": "done", "selected": bool(method)})  # fmt: skip
            responses.append(pd.DataFrame({
                "cell": name, "split": "test", "row": range(PROMPTS), "family": "", "response": "x",
                "prompt": [f"p{k}" for k in range(PROMPTS)], "reward": values, "n_tokens": 5,
            } | ({} if chosen is None else {"chosen_reward": chosen})))  # fmt: skip
    return StudyTables(cells=pd.DataFrame(cells), responses=pd.concat(responses, ignore_index=True))


def plain(line):
    return line.replace("\xa0", " ")


RARE = np.where(np.arange(PROMPTS) % 8 == 0, 6.0, -0.05)  # wins one prompt in eight, by much
OFTEN = np.full(PROMPTS, 0.5)


def test_a_method_that_wins_more_often_than_the_leader_is_named_with_both_rates():
    analysis = analyse(world({"rare": RARE, "often": OFTEN}))
    (line,) = win_rate_doubts(analysis, analysis.leading)
    assert "often is ahead of rare: 100 % against 12 % over the start point’s responses (p < 0.001)" in plain(line)
    assert line.endswith("Holm over 1 comparison.")
    assert line in answer(analysis).sure


def test_each_opponent_is_counted_on_its_own():
    analysis = analyse(world({"rare": RARE, "often": OFTEN}, chosen=0.5))
    (line,) = win_rate_doubts(analysis, analysis.leading)
    assert "50 % against 12 % over the data’s chosen responses (p < 0.001) and 100 % against" in plain(line)
    assert line.endswith("Holm over 2 comparisons.")


@pytest.mark.parametrize(
    "rewards", [{"often": OFTEN}, {"often": OFTEN, "same": OFTEN}, {"a": OFTEN + 1, "b": RARE - 9}]
)
def test_nothing_is_said_of_one_method_of_equal_ones_and_of_those_told_apart(rewards):
    analysis = analyse(world(rewards))
    assert win_rate_doubts(analysis, analysis.leading) == []

"""Studies of any shape and any state have a page: cells that wait, failed or diverged, tables that are missing."""

import random
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.report.synthetic import METHODS, STARTS, Shape, make

from preflab.report.page import render


def some(rng, values, most):
    return tuple(rng.sample(list(values), rng.randint(1, most)))


def random_study(seed):
    """Invent a study and take from it what a stopped, damaged or badly chosen one would lack."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    tables = make(Shape(
        methods=some(rng, METHODS, 4), starts=some(rng, STARTS, 3), sizes=tuple(sorted(some(rng, (16, 64, 256), 3))),
        seeds=rng.randint(1, 3), prompts=rng.choice([2, 3, 20]), reward=rng.random() < 0.7,
        diverged=rng.random() < 0.5,
    ))  # fmt: skip
    cells = tables.cells.copy()
    trained = cells["method"] != ""
    if rng.random() < 0.5:
        for place in rng.sample(list(cells.index[trained]), k=max(1, int(trained.sum()) // 3)):
            state = rng.choice(["pending", "failed", "diverged", "stopped"])
            cells.loc[place, ["status", "selected"]] = [state, False]
    if rng.random() < 0.3:  # a start point that was not evaluated
        cells = cells[trained | (numbers.random(len(cells)) > 0.7)]
    cells["edge"] = rng.random() < 0.4
    if rng.random() < 0.5:  # a second setting
        mine = cells[cells["method"] != ""]
        known = [0.1, 0.5, np.nan]
        other = mine.assign(cell=mine["cell"] + "x", setting=mine["setting"] + "!", learning_rate=1e-4, selected=False,
                            validation=numbers.choice(known, len(mine)))  # fmt: skip
        cells.loc[mine.index, "validation"] = numbers.choice(known, len(mine))
        cells = pd.concat([cells, other], ignore_index=True)
    lost = {
        name: getattr(tables, name).iloc[:0]
        for name in ("pairs", "responses", "dynamics", "log", "probes", "samples")
        if rng.random() < 0.15
    }
    tables = replace(tables, cells=cells, **lost)
    if rng.random() < 0.2 and "reward" in tables.responses:
        holes = numbers.random(len(tables.responses)) < 0.3
        tables = replace(tables, responses=tables.responses.assign(reward=lambda r: r["reward"].mask(holes)))
    return tables


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 63))])
def test_a_page_is_made_and_shows_no_missing_number_as_one(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        page = render(random_study(seed))
    text = re.sub(r"<(script|style|svg)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert not re.findall(r"(?<![\w-])(?:nan|None|NaT)(?![\w-])", text)

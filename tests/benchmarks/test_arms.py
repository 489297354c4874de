import numpy as np
import pytest
import torch
from benchmarks.engine import Case
from benchmarks.jobs import BenchmarkError
from benchmarks.study import GRID, SIZES, document, losses_of
from tests.tiny import tiny_model

from benchmarks import arm_preflab, levers, report
from preflab.data.examples import TokenRow
from preflab.methods import find
from preflab.models.policies import LoraSettings, LoraStack, WholeModel
from preflab.scoring import logps
from preflab.studies.study_file import decode
from preflab.train.lockstep import drive
from preflab.train.source import batch_rows
from preflab.train.step import Given, gradient

ROLES = ("chosen", "rejected")


def rows(n):
    generator = np.random.default_rng(0)

    def ids(length):
        return generator.integers(0, 61, length)

    return [TokenRow(i, ids(3 + i), {role: ids(2 + i) for role in ROLES}) for i in range(n)]


def test_the_loop_visits_placed_rows_in_the_order_given():
    given = rows(10)
    placed = arm_preflab.trained_in_order(given, seed=3)
    visited = [placed[i] for step in range(3) for i in batch_rows(step, (10,), batch_size=4, seed=3)]
    assert [row.row for row in visited] == [row.row for row in given]


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("lever", levers.OFF)
def test_a_lever_that_is_off_changes_no_gradient(lever, lora):
    given = rows(4)
    values = {role: [np.full(len(row.responses[role]), -1.0, dtype=np.float32) for row in given] for role in ROLES}

    def step():
        model = tiny_model()
        policy = LoraStack.fresh(model, LoraSettings(2, 4.0, "all-linear"), [0]) if lora else WholeModel(model)
        run = gradient(given, Given(references=values), find("dpo"), {"beta": 0.1}, budget=64)
        result = drive(policy, {0: run})[0]
        return result.read()["loss"], torch.cat([p.grad.flatten() for p in policy.parameters(0).values()])

    loss, expected = step()
    with levers.switched_off([lever]):
        assert logps.shares_prompts(tiny_model()) == (lever != "flat_rows")
        again, found = step()
    assert again == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_grid_is_a_valid_study_of_four_methods():
    config = decode(document(GRID), source="grid")
    assert len(config.methods) == 4
    cells = [len(next(v for v in spec.grid.values() if len(v) > 1)) for spec in config.methods.values()]
    assert sum(cells) * len(SIZES) == len(losses_of(GRID)) * len(SIZES) == 24


def test_no_speed_is_shown_without_parity():
    case = Case(
        model="m", data="", lengths="hh", n_pairs=24, lora=True, batch_size=8, learning_rate=1.0, max_tokens=9, seed=0,
        device="cpu", dtype="float32", threads=1,
    )  # fmt: skip
    with pytest.raises(BenchmarkError, match="no results of this case"):
        report.engine_text([], case)
    with pytest.raises(BenchmarkError, match="parity was not measured"):
        report.parity_of([])

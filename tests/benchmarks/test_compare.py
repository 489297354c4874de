import math
from dataclasses import replace

import pytest
from benchmarks.compare import Work, curve_gap, parity, speed
from benchmarks.jobs import Result
from benchmarks.lengths import Row
from benchmarks.models import Cost

RESULT = Result(
    losses=[math.log(2), 0.5, 0.4],
    step_s=[9.0, 9.0, 2.0, 4.0],
    import_s=1.0,
    load_s=1.0,
    reference_s=2.0,
    scored_tokens=10,
    computed_tokens=60,
    peak_bytes=100,
    idle_bytes=50,
    versions={},
    wall_s=30.0,
)
WORK = Work(batch_size=8, useful_tokens=[10, 10, 10, 10], flops=[100.0] * 4, matmul_flop_per_s=100.0)


def test_equal_runs_have_parity():
    assert parity(RESULT, RESULT).holds


@pytest.mark.parametrize(
    "change",
    [
        {"losses": [math.log(2) + 2e-4, 0.5, 0.4]},
        {"losses": [math.log(2), 0.5002, 0.4]},
        {"losses": [math.log(2), 0.5]},
        {"losses": [math.log(2), 0.5, math.nan]},
        {"scored_tokens": 11},
    ],
)
def test_any_difference_breaks_parity(change):
    assert not parity(RESULT, replace(RESULT, **change)).holds


def test_curve_gap_looks_at_the_first_steps_only_when_asked():
    other = replace(RESULT, losses=[math.log(2), 0.5, 1.4])
    assert curve_gap(RESULT, other) == pytest.approx(1.0)
    assert curve_gap(RESULT, other, steps=2) == 0


def test_speed_leaves_out_the_warm_up_and_counts_the_reference_in_proportion():
    found = speed([RESULT], WORK)
    assert found.steps == 2
    assert found.pairs_per_s == pytest.approx(8 / 3)
    assert found.best == pytest.approx(8 / 2)
    # Two of four steps count, and with them half of the reference pass.
    assert found.with_reference == pytest.approx(16 / (6 + 1))
    assert found.useful_tokens_per_s == pytest.approx(20 / 6)
    assert found.matmul_frac == pytest.approx(200 / 6 / 100)
    assert found.computed_ratio == pytest.approx(60 / 40)


def test_repeats_are_pooled():
    found = speed([RESULT, replace(RESULT, step_s=[1.0, 1.0, 3.0, 3.0], peak_bytes=120)], WORK)
    assert found.steps == 4
    assert found.pairs_per_s == pytest.approx(8 / 3)
    assert found.useful_tokens_per_s == pytest.approx(40 / 12)
    assert found.peak_bytes == 120


def test_no_step_behind_the_warm_up_is_an_error():
    with pytest.raises(ValueError, match="take more pairs"):
        speed([replace(RESULT, step_s=[1.0, 1.0])], WORK)


@pytest.mark.parametrize(("lora", "per_weight"), [(True, 4), (False, 6)])
def test_flops_count_the_prompt_once_and_the_head_at_responses(lora, per_weight):
    cost = Cost(body=1000, head=500, hidden=16, layers=2, lora=lora)
    row = Row([1] * 4, [1] * 2, [1] * 3)
    # Visible pairs of positions: 4*4/2 within the prompt, 4*5 of responses to it, (2*2 + 3*3)/2 within responses.
    attention = 12 * 2 * 16 * (8 + 20 + 6.5)
    assert cost.flops([row]) == pytest.approx(per_weight * (1000 * 9 + 500 * 5) + attention)


def test_cells_side_by_side_count_each():
    alone, four = speed([RESULT], WORK), speed([replace(RESULT, cells=4, computed_tokens=240)], WORK)
    assert four.pairs_per_s == pytest.approx(4 * alone.pairs_per_s)
    assert four.useful_tokens_per_s == pytest.approx(4 * alone.useful_tokens_per_s)
    assert four.computed_ratio == alone.computed_ratio
    # The reference pass is done once for all of them.
    assert four.with_reference == pytest.approx(64 / (6 + 1))

import math

import numpy as np
import pandas as pd
import pytest

from preflab.diagnose.properties import properties

GROUP = ("base", "dpo", 64)


def cells(n_seeds=3, **changed):
    rows = [
        {"cell": f"c{seed}", "start": "base", "method": "dpo", "size": 64, "seed": seed, "status": "done",
         "selected": True, "kept_step": math.nan, "planned_steps": 20.0, "step": math.nan} | changed
        for seed in range(n_seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def dynamics(runs, *, fall_se=0.1):
    """Tables of runs that are lists of (step, chosen, rejected, unseen)."""
    records = []
    for seed, run in enumerate(runs):
        best = -math.inf
        for step, chosen, rejected, unseen in run:
            if chosen > best:
                best, peak = chosen, step
            records.append({"cell": f"c{seed}", "step": step, "kept": True, "chosen_total": chosen,
                            "rejected_total": rejected, "unseen_total": unseen, "peak_step": peak,
                            "chosen_fall": best - chosen, "chosen_fall_se": fall_se})  # fmt: skip
    return pd.DataFrame(records)


RUNS = [[(0, -30.0, -30.0, -50.0), (10, -29.0, -34.0, -51.0), (20, -32.0 - s, -40.0 - 2 * s, -53.0)] for s in range(3)]


def test_each_property_is_what_its_definition_says():
    """Seeds end at chosen -2, -3, -4, rejected -10, -12, -14 and unseen -3 of change."""
    found = properties(cells(), dynamics(RUNS))[GROUP]
    assert (found.chosen.estimate, found.rejected.estimate, found.unseen.estimate) == (-3.0, -12.0, -3.0)
    assert found.drop.estimate == -9.0 and found.dispersion.estimate == -3.0 - (-3.0 - 12.0) / 2
    # Student's t with two degrees of freedom: 4.3027 at 97.5 %; the drops are -8, -9 and -10.
    assert found.drop.high - found.drop.estimate == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert found.n_fall == 3 and found.fall.since == (0.5, 0.5, 0.5)
    assert found.fall.by == pytest.approx(np.mean([3.0, 4.0, 5.0]))
    assert found.kept == () and found.n_first == 0 and found.seeds == (0, 1, 2)


def test_a_fall_within_the_noise_is_none():
    found = properties(cells(), dynamics(RUNS, fall_se=10.0))[GROUP]
    assert found.n_fall == 0 and found.fall is None


def test_runs_that_stop_early_are_judged_by_the_weights_they_kept():
    table = dynamics(RUNS)
    table["kept"] = table["step"] <= 10
    found = properties(cells(kept_step=10.0), table)[GROUP]
    assert (found.chosen.estimate, found.rejected.estimate, found.n_fall) == (1.0, -4.0, 0)
    assert found.kept == (0.5, 0.5, 0.5) and found.n_first == 3


def test_what_was_not_measured_is_not_made_up():
    table = dynamics(RUNS)
    table[["unseen_total", "peak_step", "chosen_fall", "chosen_fall_se"]] = math.nan
    found = properties(cells(planned_steps=math.nan), table)[GROUP]
    assert found.unseen is None and found.dispersion is None and found.n_fall is None and found.fall is None
    assert found.drop.estimate == -9.0
    missing = table.assign(rejected_total=table["rejected_total"].where(table["cell"] != "c1"))
    assert properties(cells(), missing)[GROUP].drop is None


def test_one_seed_has_no_interval_and_other_cells_play_no_part():
    frame = cells().assign(status=["done", "diverged", "done"], selected=[True, True, False])
    found = properties(frame, dynamics(RUNS))[GROUP]
    assert found.seeds == (0,) and found.chosen.estimate == -2.0 and math.isnan(found.chosen.low)
    assert properties(cells(status="diverged"), dynamics(RUNS)) == {}
    assert properties(cells(), dynamics(RUNS).iloc[:0]) == {}

import math

import numpy as np
import pandas as pd
import pytest

from preflab.diagnose.toy import claims

SCENARIOS = ("both_on", "chosen_on", "rejected_on", "both_off")


def curves(
    *, peak=0.5, end=0.3, widths=(8,), ratio=30.0, method="dpo", label="DPO", scenarios=SCENARIOS, best="both_on"
):
    """Two seeds that rise to a peak and fall to an end; the best scenario peaks higher and keeps more."""
    frames = []
    for scenario in scenarios:
        for width in widths:
            for seed in (0, 1):
                bonus = 0.1 if scenario == best else 0.0
                chosen = np.array([0.12, peak + bonus, end + bonus])
                frames.append(pd.DataFrame({
                    "method": method, "label": label, "setting": "s", "scenario": scenario, "width": width,
                    "learning_rate": 1e-4, "seed": seed, "step": [0, 10, 20],
                    "chosen": chosen, "chosen_total": np.log(chosen), "rejected_total": [-2.0, -20.0, -40.0],
                    "unseen": (1 - chosen) / 8,
                    "others_chosen": 1 - chosen, "rejected": 0.0, "others_rejected": 0.0,
                    "never": 0.0,
                    "slope_chosen": -0.05, "slope_rejected": 0.05, "log10_ratio": [0.0, 5.0, ratio],
                    "log10_odds": [0.0, 5.0, ratio],
                }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def verdicts(frame):
    return {claim.code: claim.verdict for claim in claims(frame)}


def test_claims_that_hold_everywhere_are_reproduced():
    remedy = curves(method="sft_dpo", label="SFT-DPO", peak=0.9, end=0.9)
    assert set(verdicts(pd.concat([curves(), remedy])).values()) == {"reproduced"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"end": 0.5}, "rises_then_falls"),
        ({"ratio": 3.0}, "gradients_explode"),
        ({"best": "both_off"}, "both_on_is_best"),
    ],
)
def test_a_claim_that_fails_everywhere_is_not_reproduced(changed, code):
    assert verdicts(curves(**changed))[code] == "not reproduced"


def test_a_claim_that_fails_at_one_width_differs_between_runs():
    mixed = pd.concat([curves(widths=(8,)), curves(widths=(64,), end=0.5)])
    found = {claim.code: claim for claim in claims(mixed)}["rises_then_falls"]
    assert found.verdict == "differs between runs"
    assert "8 of 16 runs" in found.found and "both_on 2 of 4" in found.found
    assert any("width 64" in line and "0 of 2 runs" in line for line in found.evidence)


def test_a_fall_without_a_rise_is_no_rise_and_fall():
    falling = curves(peak=0.1, end=0.05, best="")
    assert verdicts(falling)["rises_then_falls"] == "not reproduced"


def test_mass_that_never_leaves_the_pair_is_no_dispersion():
    assert verdicts(curves(end=0.5))["disperses"] == "not reproduced"
    found = {claim.code: claim for claim in claims(curves())}["disperses"]
    assert "chosen for other prompts (100%), rejected for other prompts (0%) and in no pair (0%)" in found.found


def test_a_measured_ratio_beside_the_theory_is_seen():
    frame = curves()
    frame["log10_odds"] += 0.01
    assert verdicts(frame)["follows_theory"] == "not reproduced"


def test_what_was_not_run_is_not_judged():
    assert claims(curves(method="ipo")) == ()
    found = verdicts(curves(scenarios=("both_on",)))
    assert found["both_on_is_best"] == found["remedies_help"] == "not tested here"


def test_remedies_are_the_papers_and_others_are_marked():
    frame = pd.concat(
        [curves(), curves(method="ipo", label="IPO", end=0.1), curves(method="simpo", label="SimPO", end=0.9)]
    )
    found = {claim.code: claim for claim in claims(frame)}["remedies_help"]
    assert found.verdict == "not reproduced"
    assert "IPO: -0.200 ± 0.000 against DPO, more in 0 of 8 runs" in found.evidence
    assert [line for line in found.evidence if line.startswith("SimPO") and "not tried in the paper" in line]


def test_a_remedy_at_a_learning_rate_of_its_own_has_nothing_to_compare_with():
    alone = curves(method="ipo", label="IPO")
    alone["learning_rate"] = 0.5
    found = {claim.code: claim for claim in claims(pd.concat([curves(), alone]))}["remedies_help"]
    assert found.verdict == "not tested here" and "no run of DPO" in found.evidence[0]


def test_remedies_that_help_in_some_runs_only_differ():
    mixed = curves(method="ipo", label="IPO", end=0.9)
    mixed.loc[mixed["seed"] == 1, "chosen"] = 0.0
    assert verdicts(pd.concat([curves(), mixed]))["remedies_help"] == "differs between runs"


def test_a_run_that_diverged_is_left_out_from_there():
    frame = curves()
    last = (frame["seed"] == 1) & (frame["step"] == 20)
    frame.loc[last, frame.columns[8:]] = math.nan
    assert {claim.code for claim in claims(frame)} >= {"rises_then_falls"}


def test_runs_that_ended_before_the_rejected_answer_was_gone_are_left_out_and_counted():
    short = curves(widths=(64,), ratio=1.0)
    short["rejected_total"] = -2.0 - 0.01 * short["step"]
    found = {claim.code: claim for claim in claims(pd.concat([curves(), short]))}
    assert found["gradients_explode"].verdict == "reproduced"
    assert found["gradients_explode"].found.endswith("8 of 16 runs of DPO ended before that and are left out.")
    alone = {claim.code: claim for claim in claims(short)}
    assert alone["falls_first"].verdict == "not tested here" and "raise `steps`" in alone["falls_first"].found
    assert alone["follows_theory"].verdict == "reproduced"


def test_dpo_at_every_learning_rate_is_judged():
    fast = curves(end=0.5)
    fast[["learning_rate", "setting"]] = [1e-3, "beta=0.1, learning_rate=0.001"]
    assert verdicts(pd.concat([curves(), fast]))["rises_then_falls"] == "differs between runs"

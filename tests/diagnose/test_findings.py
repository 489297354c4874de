import numpy as np
import pandas as pd
import pytest

from preflab.diagnose.checkpoints import agreement, commonest
from preflab.diagnose.findings import Contest, Judged, diagnose


def cells(**changes):
    rows = [
        {"cell": "b", "start": "base", "method": "", "size": 0, "seed": -1},
        {"cell": "d0", "start": "base", "method": "dpo", "size": 64, "seed": 0},
        {"cell": "d1", "start": "base", "method": "dpo", "size": 64, "seed": 1},
    ]
    defaults = {"status": "done", "selected": True, "edge": False, "setting": "beta=0.1", "cause": "", "step": 10}
    frame = pd.DataFrame([defaults | row for row in rows])
    for cell, values in changes.items():
        for name, value in values.items():
            frame.loc[frame["cell"] == cell, name] = value
    return frame


def responses(lengths=(10.0, 10.0, 10.0), rewards=(0.5, 0.5, 0.5), kl=(0.0, 1.0, 1.0), cut=(0.0, 0.0, 0.0)):
    rng, frames = np.random.default_rng(0), []
    for k, cell in enumerate(("b", "d0", "d1")):
        frames.append(pd.DataFrame({
            "cell": cell, "split": "test", "row": range(20), "n_tokens": lengths[k] + rng.integers(0, 2, 20),
            "reward": rewards[k] + rng.normal(0, 0.05, 20), "kl_k3": kl[k], "truncated": np.arange(20) < 20 * cut[k],
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def judged(*groups):
    """Groups by the verdict on each of their seeds; chosen fell more from group to group."""
    return [
        Judged(f"{n} from base, 64 pairs", commonest(each), each, agreement(each), -9.0 - k, f"chosen {-9 - k}")
        for k, (n, each) in enumerate(groups)
    ]


def codes(*tables):
    return {finding.code for finding in diagnose(*tables)}


def test_a_healthy_study_has_no_findings():
    assert codes(cells(), responses(), (), judged(("dpo", ("learning", "suppression")))) == set()


def test_empty_tables_have_no_findings():
    empty = responses().iloc[:0]
    assert codes(cells(), empty) == set()


def test_displacement_with_most_seeds_is_noted_and_the_strongest_named():
    groups = judged(("dpo", ("displacement", "displacement", "learning")), ("kto", ("displacement",)), ("ipo",
                    ("suppression", "suppression", "displacement")))  # fmt: skip
    (finding,) = diagnose(cells(), responses(), (), groups)
    assert (finding.code, finding.level) == ("displacement", "note")
    assert "Displacement in 2 of 3 groups" in finding.text and "Strongest: kto from base, 64 pairs." in finding.text
    assert finding.evidence == (
        "kto from base, 64 pairs: displacement, one seed; chosen -10",
        "dpo from base, 64 pairs: displacement in 2 of 3 seeds, learning in 1; chosen -9",
    )


@pytest.mark.parametrize("code", ["broken", "collapse", "reversed"])
def test_harm_with_a_single_seed_is_a_warning(code):
    groups = judged(("dpo", ("learning", "learning", code)), ("kto", ("learning",)))
    (finding,) = diagnose(cells(), responses(), (), groups)
    assert (finding.code, finding.level) == ("harm", "warning")
    assert finding.evidence == (f"dpo from base, 64 pairs: learning in 2 of 3 seeds, {code} in 1; chosen -9",)


@pytest.mark.parametrize(
    ("length", "found"), [((10, 14, 14), True), ((10, 7, 7), True), ((10, 11, 11), False), ((10, 14, 9), False)]
)
def test_length_drift_is_judged_on_the_mean_of_the_seeds(length, found):
    assert ("length_drift" in codes(cells(), responses(lengths=length))) == found


def test_truncation_is_reported_also_for_the_start_point():
    (finding,) = diagnose(cells(), responses(cut=(0.5, 0.1, 0.1)))
    assert (finding.code, finding.level) == ("truncation", "warning")
    assert "in 1 group of 64 pairs and 1 start point;" in finding.text
    assert finding.evidence == ("dpo from base, 64 pairs: 10%", "start point base: 50%")


@pytest.mark.parametrize(
    ("cut", "level", "where"),
    [((0, 0.1, 0.1), "note", "1 group of fewer pairs"),
     ((0.1, 0.1, 0.1), "warning", "1 start point and 1 group of fewer pairs")],
)  # fmt: skip
def test_truncation_at_sizes_that_are_not_ranked_says_so(cut, level, where):
    larger = cells().assign(cell=["b2", "e0", "e1"]).iloc[1:].assign(size=256)
    (finding,) = diagnose(pd.concat([cells(), larger]), pd.concat([responses(cut=cut), _uncut(("e0", "e1"))]))
    assert (finding.code, finding.level) == ("truncation", level)
    assert f"in {where};" in finding.text
    assert finding.text.endswith("No group of 256 pairs, the size that is ranked, is among them.")
    assert finding.evidence[-1] == "dpo from base, 64 pairs: 10%"


def _uncut(names):
    whole = responses()
    return pd.concat([whole[whole["cell"] == "d0"].assign(cell=name) for name in names])


def test_a_reward_below_the_start_point_is_overoptimisation():
    assert "overoptimisation" in codes(cells(), responses(rewards=(0.6, 0.4, 0.4)))
    assert "overoptimisation" not in codes(cells(), responses(rewards=(0.5, 0.505, 0.49)))


def test_large_kl_is_reported():
    (finding,) = diagnose(cells(), responses(kl=(0.0, 15.0, 9.0)))
    assert finding.code == "far_from_start"
    assert finding.evidence == ("dpo from base, 64 pairs: 12.0 nats per response",)


def test_divergence_comes_first_with_its_rate():
    found = diagnose(cells(d1={"status": "diverged", "selected": False}), responses(kl=(0, 15, 15)))
    assert [finding.code for finding in found] == ["divergence", "far_from_start"]
    assert found[0].evidence == ("dpo: 1 of 2 cells",)


def test_only_a_selected_setting_on_the_edge_counts():
    (finding,) = diagnose(cells(d0={"edge": True}), responses())
    assert (finding.code, finding.evidence) == ("grid_edge", ("dpo from base, 64 pairs: beta=0.1",))
    assert codes(cells(d0={"edge": True, "selected": False}), responses()) == set()


def test_a_shared_first_place_is_named_with_the_detectable_difference():
    contests = (Contest("base", "DPO", ("IPO", "KTO"), "0.05"), Contest("sft", "DPO", (), "0.04"))
    (finding,) = diagnose(cells(), responses(), contests)
    assert finding.code == "not_separable"
    assert "1 of 2 rankings" in finding.text
    assert finding.evidence == ("base: DPO, IPO and KTO; detectable difference 0.05",)

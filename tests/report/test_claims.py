"""A paper's claims get the verdicts that their rules ask for, in worlds where the truth is known."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from preflab.report.analysis import analyse
from preflab.report.claims import insights, starpo, threed, write_claims
from preflab.report.claims.rules import Claim, Finding, phrase
from preflab.report.tables import StudyTables
from preflab.report.tasks import POCKET, task_scores
from preflab.stats.comparisons import paired_comparison

PROMPTS = 40  # of each family
FAMILIES = [family for family, _ in POCKET.values()]


def cell(start, method, size=0, seed=-1, setting="s", **more):
    name = f"{start}-{method}-{size}-{seed}-{setting}"
    return {"cell": name, "start": start, "method": method, "setting": setting, "hyperparameters": {}, "size": size,
            "seed": seed, "status": "done", "selected": True, "learning_rate": 1e-3, "tokens": 10, "edge": False,
            "evaluate_s": 1.0, "validation": 0.5, **more}  # fmt: skip


def responses(name, levels, rng, *, split="test", length=10.0, kl=1.0):
    """Return responses whose reward and share of right answers lie at `levels` (a number, or one per family)."""
    families = np.repeat(FAMILIES, PROMPTS)
    of = np.array([levels.get(f, 0.5) if isinstance(levels, dict) else levels for f in families])
    values = of + np.tile(np.linspace(-0.05, 0.05, PROMPTS), len(FAMILIES)) + 0.005 * rng.standard_normal(len(of))
    return pd.DataFrame({"cell": name, "split": split, "row": range(len(of)), "family": families, "response": "x",
                         "prompt": [f"p{k}" for k in range(len(of))], "reward": values, "reward_right": values,
                         "n_tokens": length + rng.standard_normal(len(of)), "kl_k3": kl})  # fmt: skip


def study(levels, *, sizes=(16, 64), starts=("base", "sft", "instruct"), seeds=4):
    """Invent a study; `levels(start, method, size)` gives the score of a group, `method` "" a start point's."""
    rng = np.random.default_rng(0)
    cells, frames = [], []
    for start in starts:
        groups = [("", 0, -1)]
        groups += [(m, n, s) for m in ("sft", "dpo", "ipo", "kto", "cpo") for n in sizes for s in range(seeds)]
        for method, size, seed in groups:
            cells.append(cell(start, method, size, seed))
            frames.append(responses(cells[-1]["cell"], levels(start, method, size), rng))
    return analyse(StudyTables(cells=pd.DataFrame(cells), responses=pd.concat(frames, ignore_index=True)))


def verdicts(found):
    return {finding.claim.name: finding.verdict for finding in found}


def as_the_paper(start, method, size):
    """A world in which every claim of "Insights into Alignment" is true."""
    level = {"base": 0.3, "sft": 0.4, "instruct": 0.5}[start]
    gain = 0 if not method else {"sft": 0.02, "dpo": 0.06, "ipo": 0.05, "kto": 0.12, "cpo": 0.07}[method]
    gain *= 1.0 if size == 64 else 0.97
    found = dict.fromkeys(FAMILIES, level + gain)
    found["reasoning"] = level + gain / 4
    found["arithmetic"] = level + 2 * gain
    if start == "instruct":
        found["truth"] = level + gain + 0.2
    if method == "ipo" and start == "sft":
        found["truth"] = level - 0.05
    if method == "kto" and start == "base":
        found["truth"] = 0.6
    if method == "sft":
        found["choice"] = level + 0.3
    if start == "sft" and method == "cpo":
        found["dialogue"] = level - 0.05
    if start == "sft" and method in ("dpo", "ipo"):
        found["dialogue"] = level + 0.3
    return found


def test_every_claim_of_insights_is_reproduced_where_it_is_true():
    assert set(verdicts(insights.findings(study(as_the_paper))).values()) == {"reproduced"}


def test_every_claim_of_insights_is_different_where_the_contrary_is_true():
    def contrary(start, method, size):
        if not method:
            return 0.5
        found = dict.fromkeys(FAMILIES, 0.5 + (0.1 if size == 64 else 0.02))
        found["reasoning"] = 0.8
        found["truth"] = {"base": 0.6, "sft": 0.6, "instruct": 0.1}[start]
        if method in ("dpo", "kto"):
            found = {family: value + (0.1 if method == "dpo" else -0.1) for family, value in found.items()}
        if method == "kto":
            found["truth"] = 0.3
        if method in ("kto", "cpo") and start == "sft":
            found["dialogue"] = 0.9
        return found

    assert set(verdicts(insights.findings(study(contrary))).values()) == {"different"}


def test_insights_says_what_a_study_lacks():
    found = insights.findings(study(as_the_paper, sizes=(64,), starts=("base",)))
    assert verdicts(found)["small-subsets"] == "not testable"
    assert verdicts(found)["without-sft"] == verdicts(found)["cpo-dialogue"] == "not testable"
    assert "quarter" in found[0].evidence[0]


def test_nothing_is_told_where_nothing_differs():
    found = verdicts(insights.findings(study(lambda start, method, size: 0.5)))
    assert set(found.values()) <= {"not told", "reproduced", "different"}
    assert list(found.values()).count("not told") >= len(found) - 1  # one in twenty intervals misses by chance


def test_families_of_tasks_have_the_names_of_the_literature(synthetic):
    found = task_scores(study(as_the_paper).tables)
    assert list(found) == list(POCKET)
    assert all(len(scores.rows) == PROMPTS for scores in found.values())
    assert found["mathematics"].is_rate and not found["dialogue"].is_rate


def test_benchmarks_of_one_family_count_alike():
    cells = pd.DataFrame([cell("base", ""), cell("base", "dpo", 64, 0)])
    rows = [
        {"cell": c, "benchmark": name, "item": f"{k}", "cluster": "", "value": float(right)}
        for c, right in ((cells.cell[0], 0), (cells.cell[1], 1))
        for name, n in (("arc_challenge", 4), ("hellaswag", 40))
        for k in range(n)
    ]
    table = pd.DataFrame(rows)
    table.loc[(table.benchmark == "hellaswag") & (table.cell == cells.cell[1]), "value"] = 0.0
    analysis = analyse(StudyTables(cells=cells, benchmarks=table))
    (values,) = [v for g, v in task_scores(analysis.tables)["reasoning"].values.items() if g.method]
    assert values.mean() == pytest.approx(0.5)


def grid(levels, *, lengths=None, kls=None, split="ood"):
    """Invent a study of settings; `levels` gives the score of every setting of each method."""
    rng = np.random.default_rng(1)
    cells, frames = [cell("sft", "")], [responses("sft--0--1-s", 0.4, rng, split=split)]
    for method, scores in levels.items():
        for k, score in enumerate(scores):
            for seed in range(3):
                best = score == max(scores)
                cells.append(cell("sft", method, 64, seed, f"setting {k}", selected=best, validation=score))
                more = {"length": (lengths or {}).get(method, 10.0), "kl": (kls or {}).get(method, 1.0)}
                frames.append(responses(cells[-1]["cell"], score, rng, split=split, **more))
    return analyse(StudyTables(cells=pd.DataFrame(cells), responses=pd.concat(frames, ignore_index=True)))


def test_every_claim_of_starpo_is_reproduced_where_it_is_true():
    levels = {"dpo": (0.3, 0.4, 0.45, 0.7), "ln_dpo": (0.6, 0.62, 0.64, 0.7), "simpo": (0.58, 0.6, 0.62, 0.7)}
    found = starpo.findings(
        grid(levels, lengths={"dpo": 14.0, "ln_dpo": 9.0, "simpo": 8.0}, kls={"dpo": 9.0, "ln_dpo": 2.0})
    )
    assert set(verdicts(found).values()) == {"reproduced"}


def test_every_claim_of_starpo_is_different_where_the_contrary_is_true():
    levels = {"dpo": (0.6, 0.6, 0.6, 0.9), "ln_dpo": (0.2, 0.6, 0.6, 0.6), "simpo": (0.2, 0.6, 0.6, 0.6)}
    found = verdicts(starpo.findings(
        grid(levels, lengths={"dpo": 8.0, "ln_dpo": 14.0, "simpo": 14.0}, kls={"dpo": 1.0, "ln_dpo": 9.0})
    ))  # fmt: skip
    assert set(found.values()) == {"different"}


def test_starpo_needs_every_setting_evaluated(synthetic):
    found = starpo.findings(analyse(synthetic.make()))
    assert {f.verdict for f in found} == {"not testable"} and "evaluate.settings: all" in found[0].evidence[0]


def scenario(gain, changed, *, seeds=5, flex=(0.6, 0.6, 0.6), judged=(0.9, 0.9), implicit=(0.8, 0.8), ppo=0.0):
    """Invent one scenario: gain of DPO, change of (chosen, rejected) log-prob, validation per beta, accuracies."""
    rng = np.random.default_rng(2)
    cells, frames, dynamics, judges = [cell("base", "")], [responses("base--0--1-s", 0.4, rng)], [], []
    for seed in range(seeds):
        runs = [("dpo", 0.4 + gain, changed, {}), ("sft_dpo", 0.4 + gain, (changed[0] + 1, changed[1]), {}),
                ("ppo", 0.4 + gain + ppo, changed, {})]  # fmt: skip
        runs += [("flex_dpo", 0.5 + gain, changed, {"beta_rejected": b}) for b in (0.01, 0.05, 0.08)]
        for method, score, (chosen, rejected), values in runs:
            beta = values.get("beta_rejected")
            validation = dict(zip((0.01, 0.05, 0.08), flex, strict=True)).get(beta, 0.5) + 0.001 * rng.standard_normal()
            cells.append(cell("base", method, 64, seed, f"{method} {beta}", hyperparameters=values,
                              selected=beta in (None, 0.05), validation=validation))  # fmt: skip
            if cells[-1]["selected"]:
                frames.append(responses(cells[-1]["cell"], score, rng))
                for step, share, accuracy in ((0, 0, 0.5), (8, 0.5, implicit[0]), (16, 1, implicit[1])):
                    noise = 0.05 * rng.standard_normal(3) * share
                    dynamics.append({
                        "cell": cells[-1]["cell"], "step": step, "chosen_total": -30 + share * chosen + noise[0],
                        "rejected_total": -30 + share * rejected + noise[1], "unseen_total": -30 + noise[2],
                        "accuracy": accuracy + 0.002 * noise[0],
                    })  # fmt: skip
        last = cells[-1]["cell"]
        for step, value in ((8, judged[0]), (16, judged[1])):
            judges.append({"cell": last, "judge": f"j{seed}", "step": step, "accuracy": value + 0.001 * rng.random()})
    return StudyTables(cells=pd.DataFrame(cells), responses=pd.concat(frames, ignore_index=True),
                       dynamics=pd.DataFrame(dynamics), judges=pd.DataFrame(judges))  # fmt: skip


def test_every_claim_of_threed_is_reproduced_where_it_is_true():
    more = {"flex": (0.5, 0.6, 0.6), "implicit": (0.85, 0.7), "ppo": 0.1}
    studies = {"s1": scenario(0.2, (-1, -4), **more), "s2": scenario(0.1, (-1, -6), **more),
               "s3": scenario(0.1, (-1, -6), **more), "s4": scenario(0.05, (-2, -9), **more)}  # fmt: skip
    assert set(verdicts(threed.findings(studies)).values()) == {"reproduced"}


def test_claims_of_threed_are_different_where_the_contrary_is_true():
    more = {"flex": (0.7, 0.6, 0.6), "judged": (0.9, 0.6), "implicit": (0.8, 0.85), "ppo": -0.1}
    studies = {"s1": scenario(0.05, (-4, -3), **more), "s2": scenario(0.1, (-4, -1), **more),
               "s3": scenario(0.1, (-4, -1), **more), "s4": scenario(0.2, (-4, -1), **more)}  # fmt: skip
    found = verdicts(threed.findings(studies))
    assert found.pop("flex") == found.pop("sft-dpo") == "reproduced"  # true in this world
    assert set(found.values()) == {"different"}


def test_threed_needs_all_four_scenarios_and_two_seeds():
    assert {f.verdict for f in threed.findings({"s1": StudyTables()})} == {"not testable"}
    one = {name: scenario(0.1, (-1, -4), seeds=1) for name in threed.SCENARIOS}
    assert verdicts(threed.findings(one))["rejected-faster"] == "not testable"


def test_the_page_of_claims_escapes_and_its_files_agree(tmp_path):
    claim = Claim("a", "<script>x</script> rises.", "table | 1", "Rule <b>.")
    page = write_claims(tmp_path, "T <i>", "S", [Finding(claim, "reproduced", ("<img src=x>",))], facts=("f & g",))
    text = page.read_text()
    assert "<script>x" not in text and "<img" not in text and "1 reproduced" in text
    document = json.loads((tmp_path / "claims.json").read_text())
    assert document["claims"][0]["claim"] == claim.text
    assert "\\<script" in (tmp_path / "claims.md").read_text()


def test_a_finding_keeps_its_rule():
    assert all(dataclasses.asdict(claim)["rule"] for claim in threed.CLAIMS)


def test_a_difference_without_any_spread_says_so_instead_of_what_it_could_have_found():
    same = np.full((2, 8), 0.5)
    assert phrase(paired_comparison(same + 0.25, same), rate=False) == "+0.250 (the same on every prompt)"

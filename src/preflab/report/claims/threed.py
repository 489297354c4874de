"""The claims of "3D-Properties: Identifying Challenges in DPO and Charting a Path Forward", over four studies.

The studies differ in where the chosen and the rejected response of a pair come from: S1 both from the model itself, S2
the chosen one from elsewhere, S3 the rejected one, S4 both.

References:
    Yan et al., 2024, arXiv:2406.07327 (ICLR 2025), sections 3 to 5.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from preflab.report.claims.rules import Claim, Finding, Verdict, by_sign, compared, phrase, told, untestable
from preflab.report.tables import FloatArray, Group, Measure, StudyTables, completed, final_cells, measure
from preflab.report.wording import percent, score, score_range, signed
from preflab.stats.intervals import Interval, seed_interval

TITLE = "3D-Properties"
SOURCE = "Yan et al., 2024, 3D-Properties: Identifying Challenges in DPO and Charting a Path Forward, arXiv:2406.07327"
SCENARIOS = ("s1", "s2", "s3", "s4")
STRICT = "dialogue"
"""Family of the pocket world whose answers have a form that a program checks."""

FASTER = Claim(
    "rejected-faster",
    "DPO's rejected response falls much faster than the chosen one; later both fall.",
    "property 1 and figure 2",
    "Change of the log-prob of held-out responses under DPO, nats: reproduced when, in every scenario, rejected "
    "falls by more than twice what chosen falls (interval over seeds) and chosen falls in most runs; different "
    "when rejected falls less than chosen in some scenario, told apart.",
)
ON_POLICY = Claim(
    "on-policy-best",
    "Pairs that are both on-policy are best.",
    "tables 1 and 8: 13B 37.1 % right against 26.8 to 32.9 %, base 32.2 %",
    "Gain over the start point, mean of the methods: reproduced when S1 is told apart above every other scenario, "
    "different when another one is told apart above S1.",
)
SLOWER = Claim(
    "rejected-slower",
    "The rejected likelihood falls least from on-policy pairs.",
    "table 7: −0.059 nats per token in S1 against −0.116 to −0.306 (13B)",
    "Change of the rejected responses under DPO, paired over seeds: reproduced when S1 falls less than every other "
    "scenario, told apart; different when another one falls less than S1, told apart.",
)
FLEX = Claim(
    "flex",
    "A moderately smaller beta for the rejected side helps.",
    "table 9 and figure 4: best at 0.08 or below, with 0.1 for the chosen side",
    "Flex-DPO at the setting that validation chooses against DPO, mean over the scenarios: reproduced when told "
    "apart above, different when below.",
)
FLEX_SFT = Claim(
    "flex-too-small",
    "A beta that is too small for the rejected side turns DPO into SFT.",
    "figure 4: at 0.01 all five scores lie below DPO's",
    "Validation score of Flex-DPO at its smallest beta against the middle one, mean over the scenarios: reproduced "
    "when told apart below (interval over seeds), different when above.",
)
SFT_DPO = Claim(
    "sft-dpo",
    "SFT-DPO keeps the gradient of the chosen response alive.",
    "section 4",
    "Log-prob of held-out chosen responses at the end, SFT-DPO less DPO, mean over the scenarios: reproduced when "
    "told apart above zero (interval over seeds), different when below.",
)
REWARD_MODEL = Claim(
    "reward-model",
    "A reward model trained on the same pairs is more accurate and steadier than DPO's implicit reward.",
    "figures 5, 7 and 8: on MATH 0.82 against 0.71 to 0.75, after DPO began at 0.83 to 0.92",
    "Validation pairs in the right order at the end, and fall from the best look to the end, mean over the "
    "scenarios: reproduced when the reward model is more accurate and falls less, both told apart (interval over "
    "seeds); different when either is told apart the other way.",
)
PPO = Claim(
    "ppo-form",
    "PPO beats DPO where the form is strict.",
    "table 2: poems 0.79 to 1 against 0.75 to 0.93",
    "PPO less DPO on prompts with a checkable form, mean over the scenarios: reproduced when told apart above "
    "zero, different when below.",
)
EPOCH = Claim(
    "second-epoch",
    "A second epoch of DPO overfits.",
    "figures 5 and 7: from 0.83 to 0.92 down to 0.71 to 0.75 on MATH",
    "Validation accuracy of the implicit reward, end of the second epoch less end of the first, mean over the "
    "scenarios: reproduced when told apart below zero (interval over seeds), different when above.",
)
CLAIMS = (FASTER, ON_POLICY, SLOWER, FLEX, FLEX_SFT, SFT_DPO, REWARD_MODEL, PPO, EPOCH)


def findings(studies: Mapping[str, StudyTables]) -> list[Finding]:
    """Return what the studies of the four scenarios say to every claim.

    Args:
        studies: `s1` to `s4`, as loaded.
    """
    if set(studies) != set(SCENARIOS):
        return [untestable(claim, "Not all four scenarios have been run.") for claim in CLAIMS]
    tables = {name: completed(studies[name]) for name in SCENARIOS}
    return [_faster(tables), _on_policy(tables), _slower(tables), _flex(tables), _flex_sft(tables), _sft_dpo(tables),
            _reward_model(tables), _ppo(tables), _epoch(tables)]  # fmt: skip


def changes(tables: StudyTables, method: str) -> pd.DataFrame:
    """Return the change of mean log-probs from the first to the last look, nats: a row per seed, a column per role."""
    course = _course(tables, method)
    if course.empty:
        return pd.DataFrame(columns=["chosen", "rejected", "unseen"])
    by_seed = course.sort_values("step").groupby("seed")
    return pd.DataFrame({
        role: by_seed[f"{role}_total"].last() - by_seed[f"{role}_total"].first()
        for role in ("chosen", "rejected", "unseen")
    })  # fmt: skip


def _course(tables: StudyTables, method: str) -> pd.DataFrame:
    cells = final_cells(tables)
    return tables.dynamics.merge(cells.loc[cells["method"] == method, ["cell", "seed"]], on="cell")


def _faster(tables: Mapping[str, StudyTables]) -> Finding:
    lines, verdicts = [], []
    for name, found in tables.items():
        moved = changes(found, "dpo")
        if len(moved) < 2:
            return untestable(FASTER, "DPO has fewer than two seeds.")
        much = seed_interval(moved["rejected"] - 2 * np.minimum(moved["chosen"], 0))
        less = seed_interval(moved["rejected"] - moved["chosen"])
        fell = int((moved["chosen"] < 0).sum())
        verdicts.append(1 if much.high < 0 and fell > len(moved) / 2 else -1 if less.low > 0 else 0)
        lines.append(f"{name.upper()}: rejected {_nats(seed_interval(moved['rejected']))}, chosen "
                     f"{_nats(seed_interval(moved['chosen']))}, negative in {fell} of {len(moved)} runs.")  # fmt: skip
    verdict: Verdict = "reproduced" if min(verdicts) == 1 else "different" if -1 in verdicts else "not told"
    return Finding(FASTER, verdict, tuple(lines))


def _on_policy(tables: Mapping[str, StudyTables]) -> Finding:
    scores = {name: measure(found, "test", "reward") for name, found in tables.items()}
    means = {name: _mean_gain(found) for name, found in scores.items()}
    if any(mean is None for mean in means.values()) or len({len(s.rows) for s in scores.values()}) != 1:
        return untestable(ON_POLICY, "The scenarios have no rewards on the same test prompts.")
    first = means["s1"]
    assert first is not None
    lines, signs = [], []
    for name in SCENARIOS[1:]:
        other = means[name]
        assert other is not None
        found = compared(first, other, scores["s1"])
        signs.append(told(found))
        lines.append(f"S1 less {name.upper()}: {phrase(found, rate=False)}")
    gains = ", ".join(f"{name.upper()} {signed(float(m.mean()))}" for name, m in means.items() if m is not None)
    verdict: Verdict = "different" if -1 in signs else "reproduced" if min(signs) == 1 else "not told"
    return Finding(ON_POLICY, verdict, (f"Mean gain: {gains}.", "; ".join(lines) + "."))


def _mean_gain(scores: Measure) -> FloatArray | None:
    """Return the gain over the start point, mean of the methods, `[seed, item]`."""
    groups = [group for group in scores.values if group.method]
    starts = {group.start for group in groups}
    base = next((scores.values.get(Group(start, "", 0)) for start in starts), None)
    if not groups or base is None:
        return None
    n = min(len(scores.values[group]) for group in groups)
    return np.asarray(np.mean([scores.values[group][:n] for group in groups], axis=0) - base.mean(axis=0))


def _slower(tables: Mapping[str, StudyTables]) -> Finding:
    falls = {name: changes(found, "dpo")["rejected"] for name, found in tables.items()}
    if min(map(len, falls.values())) < 2:
        return untestable(SLOWER, "DPO has fewer than two seeds.")
    signs = []
    for name in SCENARIOS[1:]:
        found = seed_interval((falls["s1"] - falls[name]).dropna())
        signs.append(int(found.low > 0) - int(found.high < 0))
    verdict: Verdict = "different" if -1 in signs else "reproduced" if min(signs) == 1 else "not told"
    line = ", ".join(f"{name.upper()} {_nats(seed_interval(fall))}" for name, fall in falls.items())
    return Finding(SLOWER, verdict, (f"Rejected responses under DPO: {line}.",))


def _flex(tables: Mapping[str, StudyTables]) -> Finding:
    return _better(FLEX, tables, "flex_dpo", "dpo")


def _better(claim: Claim, tables: Mapping[str, StudyTables], first: str, second: str, family: str = "") -> Finding:
    """Judge by the reward of one method less another, mean over the scenarios."""
    pairs: list[tuple[FloatArray, FloatArray]] = []
    parts: list[str] = []
    scores = Measure("test", {}, {}, (), (), ())
    for name, found in tables.items():
        scores = measure(found, "test", "reward")
        own = np.array([not family or each == family for each in scores.families])
        by_method = {group.method: values[:, own] for group, values in scores.values.items()}
        if first not in by_method or second not in by_method or not own.any():
            return untestable(claim, f"{name.upper()} has no {first}, {second} or prompts to compare them on.")
        pairs.append((by_method[first], by_method[second]))
        parts.append(f"{name.upper()} {signed(float(by_method[first].mean() - by_method[second].mean()))}")
    n = min(len(table) for pair in pairs for table in pair)
    a, b = (np.mean([pair[k][:n] for pair in pairs], axis=0) for k in (0, 1))
    own_clusters = tuple(c for c, f in zip(scores.clusters, scores.families, strict=True) if not family or f == family)
    found_ = compared(a, b, Measure("test", {}, {}, own_clusters, (), ()))
    lines = (f"{phrase(found_, rate=False)[0].upper()}{phrase(found_, rate=False)[1:]}; {', '.join(parts)}.",)
    return Finding(claim, by_sign(told(found_), wanted=1), lines)


def _flex_sft(tables: Mapping[str, StudyTables]) -> Finding:
    gaps = []
    for found in tables.values():
        cells = found.cells[(found.cells["method"] == "flex_dpo") & found.cells["validation"].notna()]
        betas = [h.get("beta_rejected") if isinstance(h, Mapping) else None for h in cells["hyperparameters"]]
        values = cells.assign(beta=betas).pivot_table(index="seed", columns="beta", values="validation")
        if values.shape[1] < 3:
            return untestable(FLEX_SFT, "Flex-DPO was not tried at three values of its beta for the rejected side.")
        gaps.append(values.iloc[:, 0] - values.iloc[:, values.shape[1] // 2])
    return _over_seeds(FLEX_SFT, gaps, wanted=-1, what="Smallest less middle beta, validation score")


def _sft_dpo(tables: Mapping[str, StudyTables]) -> Finding:
    gaps = [changes(found, "sft_dpo")["chosen"] - changes(found, "dpo")["chosen"] for found in tables.values()]
    return _over_seeds(SFT_DPO, gaps, wanted=1, what="SFT-DPO less DPO, nats per response")


def _reward_model(tables: Mapping[str, StudyTables]) -> Finding:
    ends, falls = [], []
    for found in tables.values():
        implicit, judged = _accuracy(_course(found, "dpo"), "seed"), _accuracy(found.judges, "judge")
        if implicit.empty or judged.empty or implicit.shape[1] != judged.shape[1]:
            return untestable(REWARD_MODEL, "The scenarios have no reward model per seed, or no DPO.")
        # Reward models are listed in the order of their seeds.
        judged = judged.set_axis(implicit.columns, axis=1)
        ends.append(judged.iloc[-1] - implicit.iloc[-1])
        falls.append((judged.max() - judged.iloc[-1]) - (implicit.max() - implicit.iloc[-1]))
    accurate = _over_seeds(REWARD_MODEL, ends, wanted=1, what="Accuracy at the end, reward model less DPO", rate=True)
    steady = _over_seeds(
        REWARD_MODEL, falls, wanted=-1, what="Fall from the best look, reward model less DPO", rate=True
    )
    verdicts = {accurate.verdict, steady.verdict}
    verdict: Verdict = (
        "different" if "different" in verdicts else "reproduced" if verdicts == {"reproduced"} else "not told"
    )
    return Finding(REWARD_MODEL, verdict, (*accurate.evidence, *steady.evidence))


def _accuracy(course: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return accuracy by step and run."""
    if course.empty:
        return pd.DataFrame()
    return course[course["step"] > 0].pivot_table(index="step", columns=key, values="accuracy", sort=False).sort_index()


def _ppo(tables: Mapping[str, StudyTables]) -> Finding:
    return _better(PPO, tables, "ppo", "dpo", STRICT)


def _epoch(tables: Mapping[str, StudyTables]) -> Finding:
    gaps = []
    for found in tables.values():
        wide = _accuracy(_course(found, "dpo"), "seed")
        if wide.empty or wide.index[-1] // 2 not in wide.index:
            return untestable(EPOCH, "There was no look at the end of the first of two epochs.")
        gaps.append(wide.iloc[-1] - wide.loc[wide.index[-1] // 2])
    return _over_seeds(EPOCH, gaps, wanted=-1, what="Second epoch less first, validation accuracy", rate=True)


def _over_seeds(claim: Claim, gaps: Sequence[pd.Series], *, wanted: int, what: str, rate: bool = False) -> Finding:
    """Judge by the mean over the scenarios, seed by seed."""
    by_seed = pd.concat(gaps, axis=1).dropna().mean(axis=1)
    if len(by_seed) < 2:
        return untestable(claim, "There are fewer than two seeds that all scenarios share.")
    found = seed_interval(by_seed)
    show: Callable[[float], str] = (lambda v: score(v, rate=True, sign=True)) if rate else signed
    parts = ", ".join(f"{name.upper()} {show(float(gap.mean()))}" for name, gap in zip(SCENARIOS, gaps, strict=True))
    unit = " points" if rate else ""
    bounds = score_range(found, rate=rate, sign=True)
    line = f"{what}: {show(found.estimate)}{unit} ({bounds}; {percent(found.level)} over seeds); {parts}."
    return Finding(claim, by_sign(int(found.low > 0) - int(found.high < 0), wanted=wanted), (line,))


def _nats(interval: Interval) -> str:
    return f"{signed(interval.estimate, 2)} ({score_range(interval, rate=False, sign=True)})"

"""The claims of "Insights into Alignment: Evaluating DPO and its Variants Across Multiple Tasks".

References:
    Saeidi et al., 2024, arXiv:2404.14723 (ACL Student Research Workshop 2025). Its tables could not be read; the claims
    are those of its abstract and of summaries, the numbers on TruthfulQA those of an audit of its tables.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.claims.rules import (
    Claim,
    Finding,
    averaged,
    by_sign,
    compared,
    phrase,
    told,
    untestable,
)
from preflab.report.tables import FloatArray, Group, Measure
from preflab.report.tasks import task_scores
from preflab.report.wording import count, names, percent, probability, score, size_of
from preflab.stats.comparisons import holm, paired_comparison
from preflab.stats.ranking import rank

TITLE = "Insights into Alignment"
SOURCE = (
    "Saeidi et al., 2024, Insights into Alignment: Evaluating DPO and its Variants Across Multiple Tasks, "
    "arXiv:2404.14723"
)
PREFERENCE = ("dpo", "ipo", "kto", "cpo")
_SHARE = 0.2  # of the gain: what counts as near

SMALL = Claim(
    "small-subsets",
    "Alignment is near its best already with small subsets of the preference data.",
    "abstract; subset sizes not found",
    "Headline score of all preference methods from all start points: a quarter of the pairs or fewer (the largest "
    "such size) against all of them. Reproduced when the interval of the difference lies above minus "
    f"{percent(_SHARE)} of the gain with all pairs, different when it lies below.",
)
MATHEMATICS = Claim(
    "mathematics",
    "Little gain on reasoning, clear gain on mathematics.",
    "abstract",
    "Gain over the start point, all preference methods from all start points: reproduced when the gain on "
    "mathematics is told apart from zero and is larger than that on reasoning, also told apart; different when "
    "reasoning gains more, told apart, or mathematics is told apart below zero.",
)
TRUTH = Claim(
    "instruct-truth",
    "Starting from an instruction-tuned model matters most for truthfulness.",
    "abstract",
    "What instruct leads to over base, mean of the preference methods, by family of tasks: reproduced when the lead on "
    "truthfulness is the largest and above the mean of the other families, told apart; different when it is told apart "
    "below that mean.",
)
KTO = Claim(
    "kto-best",
    "KTO is best across the tasks, except for multi-task understanding, where plain SFT stays best.",
    "summaries of the paper",
    "Mean over all other families and start points: reproduced when KTO has the highest score and is told apart "
    "from every other method (Holm); different when another method is told apart above KTO. Of multi-task "
    "understanding the same is asked of SFT, and told beside it.",
)
CPO = Claim(
    "cpo-dialogue",
    "With SFT first, CPO falls below SFT on dialogue.",
    "summaries of the paper, MT-Bench",
    "CPO from the SFT model against that model on dialogue: reproduced when told apart below, different when above.",
)
WITHOUT_SFT = Claim(
    "without-sft",
    "KTO and CPO without SFT reach about what they reach with it; DPO and IPO need the SFT stage.",
    "summaries of the paper, figure 1, MT-Bench",
    "What the SFT stage adds to the dialogue score (headline score where no dialogue is scored), DPO and IPO less "
    "KTO and CPO: reproduced when that difference is told apart above zero, different when below.",
)
NUMBERS = (
    Claim("kto-sft", "KTO on SFT gains on TruthfulQA.", "+2.17 points (43.73 to 45.90, mc2), audited",
          "KTO from sft against sft on truthfulness: reproduced when told apart above, different when below."),
    Claim("ipo-sft", "IPO on SFT loses on TruthfulQA.", "−2.36 points (43.73 to 41.37, mc2), audited",
          "IPO from sft against sft on truthfulness: reproduced when told apart below, different when above."),
    Claim("kto-base", "KTO on the pretrained model is far above SFT on TruthfulQA.",
          "+9.25 points (43.73 to 52.98, mc2), audited",
          "KTO from base against sft on truthfulness: reproduced when told apart above, different when below."),
)  # fmt: skip


def findings(analysis: Analysis) -> list[Finding]:
    """Return what a study says to every claim; split `test`, or benchmarks where it has them."""
    tasks = task_scores(analysis.tables)
    headline = analysis.scores.get("test")
    return [
        _small(analysis, headline),
        _mathematics(analysis, tasks),
        _truth(analysis, tasks),
        _kto(analysis, tasks),
        _cpo(analysis, tasks.get("dialogue")),
        _without_sft(analysis, tasks.get("dialogue") or headline),
        *_numbers(analysis, tasks.get("truthfulness")),
    ]


def _small(analysis: Analysis, scores: Measure | None) -> Finding:
    sizes = [size for size in analysis.sizes if size * 4 <= analysis.size]
    if scores is None or not sizes:
        return untestable(SMALL, "The study has no size of a quarter of its largest or less.")
    cells = [(s, m) for s in analysis.starts for m in PREFERENCE if Group(s, m, analysis.size) in scores.values]
    curve = {size: averaged(scores, [Group(s, m, size) for s, m in cells]) for size in (*analysis.sizes,)}
    few, most = curve[sizes[-1]], curve[analysis.size]
    start = averaged(scores, [Group(s, "", 0) for s, _ in cells])
    if few is None or most is None or start is None:
        return untestable(SMALL, "Not every method has finished at these sizes.")
    rate = scores.is_rate
    gap, gain = compared(few, most, scores), compared(most, start, scores)
    margin = _SHARE * gain.difference.estimate
    course = [f"{count(n, 'pair')} {score(float(c.mean()), rate=rate)}" for n, c in curve.items() if c is not None]
    lines = [
        f"Mean score: start point {score(float(start.mean()), rate=rate)}, {', '.join(course)}.",
        f"{count(sizes[-1], 'pair')} against {analysis.size:,}: {phrase(gap, rate=rate)}; {percent(_SHARE)} of the "
        f"whole gain are {score(margin, rate=rate)}.",
    ]  # fmt: skip
    if told(gain) != 1:
        return Finding(SMALL, "not told", (*lines, "The whole data bring no gain that could be kept."))
    low, high = gap.difference.low, gap.difference.high
    return Finding(
        SMALL, "reproduced" if low > -margin else "different" if high < -margin else "not told", tuple(lines)
    )


def _gain(analysis: Analysis, scores: Measure, methods: Sequence[str] = PREFERENCE) -> FloatArray | None:
    """Return the mean gain over the start point of methods from all start points, `[seed, item]`."""
    cells = [(s, m) for s in analysis.starts for m in methods if Group(s, m, analysis.size) in scores.values]
    after = averaged(scores, [Group(s, m, analysis.size) for s, m in cells])
    before = averaged(scores, [Group(s, "", 0) for s, _ in cells])
    return None if after is None or before is None else after - before


def _mathematics(analysis: Analysis, tasks: Mapping[str, Measure]) -> Finding:
    found = {name: _gain(analysis, tasks[name]) for name in ("mathematics", "reasoning") if name in tasks}
    if len(found) < 2 or any(each is None for each in found.values()):
        return untestable(MATHEMATICS, "The study scores no mathematics or no reasoning.")
    lines, means = [], {}
    for name, gain in found.items():
        assert gain is not None
        comparison = compared(gain, np.zeros((1, gain.shape[1])), tasks[name])
        means[name] = comparison
        lines.append(f"Gain on {name}: {phrase(comparison, rate=tasks[name].is_rate)}.")
    # The families have different prompts, so the difference has the variance of both.
    a, b = means["mathematics"].difference, means["reasoning"].difference
    se = float(np.hypot(a.se, b.se))
    gap = a.estimate - b.estimate
    lines.append(
        f"Mathematics gains {score(gap, rate=True, sign=True)} points more (± {size_of(1.96 * se, rate=True)})."
    )
    more = int(gap > 1.96 * se) - int(gap < -1.96 * se)
    clear = told(means["mathematics"])
    verdict = "different" if more < 0 or clear < 0 else "reproduced" if more > 0 and clear > 0 else "not told"
    return Finding(MATHEMATICS, verdict, tuple(lines))  # type: ignore[arg-type]


def _truth(analysis: Analysis, tasks: Mapping[str, Measure]) -> Finding:
    leads: dict[str, tuple[float, float]] = {}
    lines = []
    for name, scores in tasks.items():
        pair = [averaged(scores, [Group(s, m, analysis.size) for m in PREFERENCE]) for s in ("instruct", "base")]
        if pair[0] is None or pair[1] is None:
            continue
        found = compared(pair[0], pair[1], scores)
        leads[name] = (found.difference.estimate, found.difference.se)
        lines.append(f"{name}: {phrase(found, rate=scores.is_rate)}")
    if "truthfulness" not in leads or len(leads) < 3:
        return untestable(TRUTH, "The study lacks truthfulness, other families, or one of the start points.")
    own, own_se = leads.pop("truthfulness")
    mean = float(np.mean([lead for lead, _ in leads.values()]))
    se = float(np.hypot(own_se, np.sqrt(sum(s**2 for _, s in leads.values())) / len(leads)))
    evidence = (
        f"Instruct over base by family: {'; '.join(lines)}.",
        f"Truthfulness less the mean of the others: {score(own - mean, rate=True, sign=True)} points (± "
        f"{size_of(1.96 * se, rate=True)}).",
    )
    above = int(own - mean > 1.96 * se) - int(own - mean < -1.96 * se)
    largest = own > max(lead for lead, _ in leads.values())
    verdict = "different" if above < 0 else "reproduced" if above > 0 and largest else "not told"
    return Finding(TRUTH, verdict, evidence)  # type: ignore[arg-type]


def _kto(analysis: Analysis, tasks: Mapping[str, Measure]) -> Finding:
    others = {name: scores for name, scores in tasks.items() if name != "multi-task understanding"}
    methods = [m for m in ("sft", *PREFERENCE) if m in analysis.methods]
    if "kto" not in methods or len(methods) < 3 or len(others) < 2:
        return untestable(KTO, "The study lacks KTO, other methods, or families of tasks.")
    table = _stacked(analysis, others, methods)
    if table is None:
        return untestable(KTO, "Not every method has finished.")
    means = {m: float(values.mean()) for m, values in table.items()}
    ranks = {each.name: each.probability_best for each in rank(table)}
    tests = {m: paired_comparison(table["kto"], table[m]) for m in methods if m != "kto"}
    adjusted = dict(zip(tests, holm([t.p for t in tests.values()]), strict=True))
    order = sorted(methods, key=lambda m: -means[m])
    lines = ["Mean over families and start points: "
             + ", ".join(f"{analysis.title(m)} {score(means[m], rate=True)}" for m in order)
             + f"; probability of being best: KTO {probability(ranks['kto'])}."]  # fmt: skip
    told_apart = {m: int(np.sign(t.difference.estimate)) for m, t in tests.items() if adjusted[m] < 0.05}
    above = [analysis.title(m) for m, sign in told_apart.items() if sign < 0]
    lines.append(f"Told apart above KTO (Holm): {names(above) if above else 'none'}; below it: "
                 f"{names([analysis.title(m) for m, sign in told_apart.items() if sign > 0]) or 'none'}.")  # fmt: skip
    if "multi-task understanding" in tasks and "sft" in methods:
        own = _stacked(analysis, {"x": tasks["multi-task understanding"]}, methods)
        if own is not None:
            best = max(own, key=lambda m: float(own[m].mean()))
            lines.append(f"Multi-task understanding: {analysis.title(best)} is highest "
                         f"({score(float(own[best].mean()), rate=True)}), SFT "
                         f"{score(float(own['sft'].mean()), rate=True)}.")  # fmt: skip
    wins = all(sign > 0 for sign in told_apart.values()) and len(told_apart) == len(tests)
    return Finding(KTO, "different" if above else "reproduced" if wins else "not told", tuple(lines))


def _stacked(analysis: Analysis, tasks: Mapping[str, Measure], methods: Sequence[str]) -> dict[str, FloatArray] | None:
    """Return scores `[seed, item]` of each method, mean over start points; families count alike."""
    total = sum(len(scores.rows) for scores in tasks.values())
    result = {}
    for method in methods:
        parts = []
        for scores in tasks.values():
            mean = averaged(scores, [Group(s, method, analysis.size) for s in analysis.starts])
            if mean is None:
                return None
            parts.append(mean * total / (len(tasks) * len(scores.rows)))
        n = min(len(part) for part in parts)
        result[method] = np.concatenate([part[:n] for part in parts], axis=1)
    return result


def _cpo(analysis: Analysis, scores: Measure | None) -> Finding:
    if scores is None:
        return untestable(CPO, "The study scores no dialogue.")
    after, before = scores.values.get(Group("sft", "cpo", analysis.size)), scores.values.get(Group("sft", "", 0))
    if after is None or before is None:
        return untestable(CPO, "The study has no CPO from an SFT model.")
    found = compared(after, before, scores)
    line = f"CPO from sft less sft on dialogue: {phrase(found, rate=scores.is_rate)}."
    return Finding(CPO, by_sign(told(found), wanted=-1), (line,))


def _without_sft(analysis: Analysis, scores: Measure | None) -> Finding:
    if scores is None or not {"base", "sft"} <= set(analysis.starts):
        return untestable(WITHOUT_SFT, "The study does not start from both base and sft.")
    gaps: dict[str, FloatArray] = {}
    lines = []
    for method in PREFERENCE:
        pair = [scores.values.get(Group(start, method, analysis.size)) for start in ("sft", "base")]
        if pair[0] is None or pair[1] is None:
            return untestable(WITHOUT_SFT, f"{method} has not finished from both base and sft.")
        n = min(map(len, (pair[0], pair[1])))
        gaps[method] = pair[0][:n] - pair[1][:n]
        found = compared(pair[0], pair[1], scores)
        lines.append(f"{analysis.title(method)} {phrase(found, rate=scores.is_rate)}")
    n = min(map(len, gaps.values()))
    needing, free = ((gaps[a][:n] + gaps[b][:n]) / 2 for a, b in (("dpo", "ipo"), ("kto", "cpo")))
    found = compared(needing, free, scores)
    evidence = (f"SFT first adds: {'; '.join(lines)}.",
                f"DPO and IPO gain more from it than KTO and CPO by {phrase(found, rate=scores.is_rate)}.")  # fmt: skip
    return Finding(WITHOUT_SFT, by_sign(told(found), wanted=1), evidence)


def _numbers(analysis: Analysis, scores: Measure | None) -> list[Finding]:
    cases = ((NUMBERS[0], "sft", "kto", 1), (NUMBERS[1], "sft", "ipo", -1), (NUMBERS[2], "base", "kto", 1))
    found = []
    for claim, start, method, wanted in cases:
        after = scores.values.get(Group(start, method, analysis.size)) if scores else None
        before = scores.values.get(Group("sft", "", 0)) if scores else None
        if scores is None or after is None or before is None:
            found.append(untestable(claim, "The study scores no truthfulness of these models."))
            continue
        comparison = compared(after, before, scores)
        level = score(float(before.mean()), rate=scores.is_rate)
        line = f"On truthfulness, from {level}: {phrase(comparison, rate=scores.is_rate)}."
        found.append(Finding(claim, by_sign(told(comparison), wanted=wanted), (line,)))
    return found

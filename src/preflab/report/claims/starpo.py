"""The claims of "A Practical Analysis of Human Alignment with *PO", first "The Hitchhiker's Guide to ... *PO".

References:
    Ahrabian et al., 2024, arXiv:2407.15229 (Findings of NAACL 2025). Its tables and grids could not be read; the claims
    are those of its two abstracts.
"""

from collections.abc import Mapping

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.claims.rules import Claim, Finding, Verdict, untestable
from preflab.report.settings import SettingScores, setting_scores
from preflab.report.tables import Metric
from preflab.report.wording import difference_unit, number, score, size_of
from preflab.stats.robustness import resampled_means

TITLE = "A Practical Analysis of Human Alignment with *PO"
SOURCE = "Ahrabian et al., 2024, A Practical Analysis of Human Alignment with *PO, arXiv:2407.15229"
METHODS = ("dpo", "ln_dpo", "simpo")
_NAMES = {"dpo": "DPO", "ln_dpo": "LN-DPO", "simpo": "SimPO"}

EQUAL_AT_BEST = Claim(
    "equal-at-best",
    "At their best settings SimPO, LN-DPO and DPO are about equal.",
    "abstract of the last version",
    "Score of the settings that validation chooses: reproduced when every pair differs by less than half of the "
    "gain of the best over the start point (whole interval); different when a pair differs by more (whole "
    "interval).",
)
APART_ELSEWHERE = Claim(
    "apart-elsewhere",
    "Away from the best point they differ clearly.",
    "abstract of the last version",
    "Score of the middle setting: reproduced when some pair is told apart; different when every pair differs by "
    "less than a quarter of the gain of the best middle setting over the start point (whole interval).",
)
STEADIER = Claim(
    "ln-dpo-steadier",
    "LN-DPO is steadier over its grid than DPO.",
    "abstract of the last version",
    "Standard deviation of the score over the settings, LN-DPO less DPO: reproduced when told apart below zero, "
    "different when above.",
)
SHORTER = Claim(
    "ln-dpo-shorter",
    "LN-DPO's answers are shorter than DPO's.",
    "both abstracts",
    "Mean length over all settings, LN-DPO less DPO, tokens: reproduced when told apart below zero, different when "
    "above.",
)
CLOSER = Claim(
    "ln-dpo-closer",
    "LN-DPO stays closer to the SFT model than DPO.",
    "abstract of the last version; the first one says that DPO stays near",
    "Mean KL over all settings, LN-DPO less DPO, nats per response: reproduced when told apart below zero, "
    "different when above.",
)
SIMPO = Claim(
    "simpo-default",
    "SimPO is a good default: robust, with short answers.",
    "abstract of the last version",
    "Against DPO: reproduced when SimPO's middle setting scores more and its answers are shorter on average over "
    "all settings, both told apart; different when either is told apart the other way.",
)
DPO_LONG = Claim(
    "dpo-long",
    "DPO gives long answers of lower quality.",
    "abstract of the first version",
    "Against LN-DPO, mean over all settings: reproduced when DPO's answers are longer and score less, both told "
    "apart; different when either is told apart the other way.",
)


def findings(analysis: Analysis) -> list[Finding]:
    """Return what a study says to every claim, on out-of-distribution prompts where it has them."""
    claims = (EQUAL_AT_BEST, APART_ELSEWHERE, STEADIER, SHORTER, CLOSER, SIMPO, DPO_LONG)
    split = next((s for s in ("ood", "test") if s in analysis.scores), None)
    start = next((s for s in ("sft", *analysis.starts) if s in analysis.starts), "")
    why = "The study has not evaluated every setting of DPO, LN-DPO and SimPO (evaluate.settings: all)."
    if split is None:
        return [untestable(claim, why) for claim in claims]
    found = {
        name: setting_scores(analysis.tables, Metric(name, name, False, ""), start, analysis.size, split)
        for name in (analysis.metric.name, "n_tokens", "kl_k3")
    }
    scores = found[analysis.metric.name]
    if scores is None or scores.start_values is None or not set(METHODS) <= set(scores.methods):
        return [untestable(claim, why) for claim in claims]
    rate, base = analysis.metric.is_rate, float(scores.start_values.mean())
    value = _Draws(scores)
    length, kl = (_Draws(each) if each is not None and set(METHODS) <= set(each.methods) else None
                  for each in (found["n_tokens"], found["kl_k3"]))  # fmt: skip
    return [
        _equal(value, base, rate=rate),
        _apart(value, base, rate=rate),
        _one(STEADIER, value.difference("spread", "ln_dpo", "dpo"), "spread over the settings", wanted=-1, rate=rate),
        _amount(SHORTER, length, "tokens"),
        _amount(CLOSER, kl, "nats per response"),
        _both(SIMPO, value.difference("middle", "simpo", "dpo"), "the middle setting",
              length.difference("mean", "simpo", "dpo") if length else None, (1, -1), rate=rate),
        _both(DPO_LONG, value.difference("mean", "dpo", "ln_dpo"), "the mean over settings",
              length.difference("mean", "dpo", "ln_dpo") if length else None, (-1, 1), rate=rate),
    ]  # fmt: skip


class _Draws:
    """Statistics over a method's settings with draws of seeds and prompts that all methods share."""

    def __init__(self, scores: SettingScores) -> None:
        grids = {name: scores.methods[name].grid for name in METHODS}
        drawn = resampled_means(list(grids.values()), clusters=scores.clusters or None, n_resamples=2000)
        self._grids, self._drawn = grids, dict(zip(grids, drawn, strict=True))

    def of(self, what: str, method: str) -> tuple[float, np.ndarray]:
        """Return a statistic and its draws: `chosen`, `middle`, `mean` or `spread` over the settings."""
        grid = self._grids[method]
        tables = [grid.means[None], self._drawn[method]]
        if what == "chosen":
            best = grid.chosen_by == grid.chosen_by.max()
            point, draws = (table[:, best].mean(axis=1) for table in tables)
        elif what == "middle":
            point, draws = (np.median(table, axis=1) for table in tables)
        elif what == "mean":
            point, draws = (table.mean(axis=1) for table in tables)
        else:
            point, draws = (table.std(axis=1, ddof=1) for table in tables)
        return float(point[0]), draws

    def difference(self, what: str, first: str, second: str) -> tuple[float, float, float]:
        """Return the difference of two methods in a statistic, with the bounds of its 95 % interval."""
        (a, draws_a), (b, draws_b) = self.of(what, first), self.of(what, second)
        low, high = np.quantile(draws_a - draws_b, [0.025, 0.975])
        return a - b, float(low), float(high)

    def pairs(self, what: str) -> dict[tuple[str, str], tuple[float, float, float]]:
        """Return the difference of every pair of methods."""
        return {(a, b): self.difference(what, a, b) for k, a in enumerate(METHODS) for b in METHODS[k + 1 :]}


def _equal(value: _Draws, base: float, *, rate: bool) -> Finding:
    best = max(value.of("chosen", name)[0] for name in METHODS)
    margin = (best - base) / 2
    pairs = value.pairs("chosen")
    if margin <= 0:
        verdict: Verdict = "not told"
    elif all(-margin < low and high < margin for _, low, high in pairs.values()):
        verdict = "reproduced"
    else:
        verdict = "different" if any(low > margin or high < -margin for _, low, high in pairs.values()) else "not told"
    lines = (
        _levels(value, "chosen", base, rate=rate),
        f"{_pairs(pairs, rate=rate)}; half of the gain is {_size(margin, rate)}.",
    )
    return Finding(EQUAL_AT_BEST, verdict, lines)


def _apart(value: _Draws, base: float, *, rate: bool) -> Finding:
    best = max(value.of("middle", name)[0] for name in METHODS)
    margin = (best - base) / 4
    pairs = value.pairs("middle")
    if any(low > 0 or high < 0 for _, low, high in pairs.values()):
        verdict: Verdict = "reproduced"
    else:
        close = all(-margin < low and high < margin for _, low, high in pairs.values())
        verdict = "different" if close and margin > 0 else "not told"
    return Finding(
        APART_ELSEWHERE, verdict, (_levels(value, "middle", base, rate=rate), f"{_pairs(pairs, rate=rate)}.")
    )


def _levels(value: _Draws, what: str, base: float, *, rate: bool) -> str:
    title = "Chosen setting" if what == "chosen" else "Middle setting"
    parts = [f"{_NAMES[name]} {score(value.of(what, name)[0], rate=rate)}" for name in METHODS]
    return f"{title}: {', '.join(parts)}; start point {score(base, rate=rate)}."


def _pairs(pairs: Mapping[tuple[str, str], tuple[float, float, float]], *, rate: bool) -> str:
    return "; ".join(f"{_NAMES[a]} less {_NAMES[b]} {_text(found, rate=rate)}" for (a, b), found in pairs.items())


def _text(found: tuple[float, float, float], *, rate: bool = False) -> str:
    value, low, high = (score(each, rate=rate, sign=True) for each in found)
    return f"{value}{difference_unit(rate=rate)} ({low} to {high})"


def _size(value: float, rate: bool) -> str:
    return size_of(value, rate=rate)


def _sign(found: tuple[float, float, float]) -> int:
    return int(found[1] > 0) - int(found[2] < 0)


def _one(claim: Claim, found: tuple[float, float, float], what: str, *, wanted: int, rate: bool) -> Finding:
    verdict: Verdict = "not told" if not _sign(found) else "reproduced" if _sign(found) == wanted else "different"
    return Finding(claim, verdict, (f"LN-DPO less DPO, {what}: {_text(found, rate=rate)}.",))


def _amount(claim: Claim, draws: _Draws | None, unit: str) -> Finding:
    if draws is None:
        return untestable(claim, "The study did not measure this of every setting.")
    finding = _one(
        claim, draws.difference("mean", "ln_dpo", "dpo"), f"mean over the settings, {unit}", wanted=-1, rate=False
    )
    means = ", ".join(f"{_NAMES[name]} {number(draws.of('mean', name)[0], 2)}" for name in METHODS)
    return Finding(claim, finding.verdict, (*finding.evidence, f"Means: {means}."))


def _both(
    claim: Claim,
    quality: tuple[float, float, float],
    what: str,
    length: tuple[float, float, float] | None,
    wanted: tuple[int, int],
    *,
    rate: bool,
) -> Finding:
    if length is None:
        return untestable(claim, "The study did not measure lengths.")
    signs = _sign(quality), _sign(length)
    if signs == wanted:
        verdict: Verdict = "reproduced"
    else:
        verdict = "different" if any(s == -w for s, w in zip(signs, wanted, strict=True)) else "not told"
    first, second = ("SimPO", "DPO") if claim is SIMPO else ("DPO", "LN-DPO")
    return Finding(claim, verdict, (
        f"{first} less {second}, score of {what}: {_text(quality, rate=rate)}.",
        f"{first} less {second}, tokens per answer: {_text(length)}.",
    ))  # fmt: skip

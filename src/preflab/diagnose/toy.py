"""What the toy model says about the claims of "3D-Properties", each with the share of seeds in which it holds.

A claim is judged at every width and learning rate of the study, so that none hangs on one of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from preflab.stats.intervals import Interval, seed_interval

DPO = "dpo"
REMEDIES = ("flex_dpo", "sft_dpo", "ipo", "slic_hf")
"""What the paper tries against the effect."""
BOTH_ON, CHOSEN_ON, REJECTED_ON, BOTH_OFF = "both_on", "chosen_on", "rejected_on", "both_off"
ALWAYS, NEVER = 0.9, 0.1
"""Shares of seeds from which on a claim counts as held, and down to which as failed."""
COLLAPSED = 0.01
"""Part of its first probability at which the rejected answer counts as gone."""
MOVED = 0.01
"""Probability by which an answer must rise or fall to have done so."""
EXPLODED = 10.0
"""log10 of the ratio of gradients from which on it counts as exploded."""
EXACT = 1e-6
"""Relative difference below which a measured gradient is the theory's; weights are float32, gradients float64."""

Verdict = Literal["reproduced", "not reproduced", "differs between runs", "not tested here"]
PLACE = ["width", "learning_rate"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper and what happened here.

    Args:
        code: stable name.
        text: the claim, in one sentence, with its place in the paper.
        verdict: whether it held.
        found: what was found, in a sentence.
        evidence: numbers, one line for each width and learning rate.
    """

    code: str
    text: str
    verdict: Verdict
    found: str
    evidence: tuple[str, ...] = ()


def claims(curves: pd.DataFrame) -> tuple[Claim, ...]:
    """Return every claim with its verdict.

    Args:
        curves: one row per run, seed and recorded step: method, setting, label, scenario, width, learning_rate, seed,
            step and the columns of `preflab.pocket.toy`.
    """
    curves = curves.sort_values("step", kind="stable")
    dpo = curves[curves["method"] == DPO]
    if dpo.empty:
        return ()
    # Several values of beta would be several experiments; the first one declared stands for DPO.
    dpo = dpo[dpo["label"] == dpo["label"].iloc[0]]
    whole = _whole(dpo)
    n, n_whole = len(list(_runs(dpo))), len(list(_runs(whole)))
    left_out = f" {n - n_whole} of {n} runs of DPO ended before that and are left out." if n_whole < n else ""
    too_short = f"None of {n} runs of DPO went on until the rejected answer was down to a hundredth; raise `steps`."
    first = [
        Claim(code, text, *(check(whole) if n_whole else ("not tested here", too_short, ())))
        for code, (text, check) in _OF_WHOLE.items()
    ]
    first = [replace(claim, found=claim.found + left_out) for claim in first] if n_whole else first
    others = curves[curves["method"] != DPO]
    return (*first, _follows_theory(dpo), _both_on_is_best(dpo), _remedies_help(others, dpo))


def _whole(dpo: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that went on until the rejected answer was gone; shorter ones say nothing of what follows."""
    key = ["scenario", *PLACE, "seed"]
    lost = dpo["rejected_total"] - dpo.groupby(key)["rejected_total"].transform("first")
    gone = (lost <= -_nats(COLLAPSED)).groupby([dpo[name] for name in key]).transform("any")
    return dpo[gone]


Judged = tuple[Verdict, str, tuple[str, ...]]
"""Verdict, what was found, and evidence."""


def _falls_first(dpo: pd.DataFrame) -> Judged:
    """Compare what both sides lost or won when the rejected answer was down to a hundredth."""
    ends = []
    for key, run in _runs(dpo):
        lost = run["rejected_total"] - run["rejected_total"].iloc[0]
        gone = run[lost <= -_nats(COLLAPSED)].iloc[0]
        chosen = gone["chosen_total"] - run["chosen_total"].iloc[0]
        ends.append((*key, gone["step"], abs(chosen) < _nats(COLLAPSED) / 2))
    frame = _frame(ends, "step", "holds")
    found = (
        "When the rejected answer is down to a hundredth, the chosen one has moved less than half as far in "
        f"log-probability in {_share(frame['holds'])}: {_by_scenario(frame)}."
    )
    evidence = _lines(
        frame, lambda part: f"after {part['step'].median():,.0f} steps (median), holds in {_share(part['holds'])}"
    )
    return _verdict(frame), found, evidence


def _rises_then_falls(dpo: pd.DataFrame) -> Judged:
    ends = []
    for key, run in _runs(dpo):
        first, peak, end = run["chosen"].iloc[0], run["chosen"].max(), run["chosen"].iloc[-1]
        ends.append((*key, peak, end, peak - first > MOVED and peak - end > MOVED))
    frame = _frame(ends, "peak", "end", "holds")
    found = (
        f"It rises and then falls, by more than {MOVED:g} each, in {_share(frame['holds'])}: {_by_scenario(frame)}. On "
        f"average from a peak of {_mean(frame['peak'])} to {_mean(frame['end'])}."
    )
    evidence = _lines(
        frame, lambda part: f"peak {_pm(part, 'peak')}, end {_pm(part, 'end')}, holds in {_share(part['holds'])}"
    )
    return _verdict(frame), found, evidence


def _gradients_explode(dpo: pd.DataFrame) -> Judged:
    ends = [
        (*key, run["log10_ratio"].iloc[-1], (run["slope_rejected"] / run["slope_chosen"] + 1).abs().max())
        for key, run in _runs(dpo)
    ]
    frame = _frame(ends, "ratio", "asymmetry")
    frame["holds"] = frame["ratio"] > EXPLODED
    found = (
        f"With respect to the probabilities the ratio is above 10^{EXPLODED:.0f} at the end of "
        f"{_share(frame['holds'])}, 10^{_mean(frame['ratio'], 0)} on average. With respect to the log-probabilities "
        f"both stay equal{_to(frame['asymmetry'].max())}: the ratio is that of the probabilities, and no reason for "
        "numbers to overflow."
    )
    return _verdict(frame), found, _lines(frame, lambda part: f"log10 of the ratio {_pm(part, 'ratio', 1)}")


def _disperses(dpo: pd.DataFrame) -> Judged:
    """Compare the mass outside the pair at the chosen answer's peak and at the end, and say where it ends."""
    ends = []
    for key, run in _runs(dpo):
        outside = 1 - run["chosen"] - run["rejected"]
        peak, end = run.loc[run["chosen"].idxmax()], run.iloc[-1]
        gained = outside.iloc[-1] - outside.loc[run["chosen"].idxmax()]
        shares = [end[column] / outside.iloc[-1] for column in ("others_chosen", "others_rejected", "never")]
        ends.append((*key, gained, *shares, peak["chosen"] - end["chosen"] > MOVED and gained > MOVED))
    frame = _frame(ends, "gained", "others_chosen", "others_rejected", "never", "holds")
    found = (
        f"From the chosen answer's peak to the end it falls and answers outside the pair gain, by more than {MOVED:g} "
        f"each, in {_share(frame['holds'])}: {_by_scenario(frame)}. At the end the mass outside the pair is on answers "
        f"that are chosen for other prompts ({frame['others_chosen'].mean():.0%}), rejected for other prompts "
        f"({frame['others_rejected'].mean():.0%}) and in no pair ({frame['never'].mean():.0%})."
    )
    evidence = _lines(
        frame,
        lambda part: (
            f"gained {_pm(part, 'gained')}; other prompts' chosen {part['others_chosen'].mean():.1%}, in no pair "
            f"{part['never'].mean():.1%}; holds in {_share(part['holds'])}"
        ),
    )
    return _verdict(frame), found, evidence


_OF_WHOLE: dict[str, tuple[str, Callable[[pd.DataFrame], Judged]]] = {
    "falls_first": (
        "The rejected answer's likelihood moves much faster than the chosen one's (property 1, drastic drop).",
        _falls_first,
    ),
    "rises_then_falls": (
        "The chosen answer's probability rises first and falls later (figures 2 and 3).",
        _rises_then_falls,
    ),
    "gradients_explode": (
        "The gradient of the rejected answer outgrows the chosen one's without bound (corollary 2, property 2).",
        _gradients_explode,
    ),
    "disperses": (
        "Late in training the chosen answer falls too, and answers outside the pair gain (property 3, dispersion).",
        _disperses,
    ),
}
"""Claims on runs that went on until the rejected answer was gone: code to text and judge."""


def _follows_theory(dpo: pd.DataFrame) -> Claim:
    frame = dpo.assign(gap=(dpo["log10_ratio"] - dpo["log10_odds"]).abs() / dpo["log10_odds"].abs().clip(lower=1))
    frame["holds"] = frame["gap"] < EXACT
    return Claim(
        "follows_theory",
        "The ratio of the two gradients is pi(chosen) / pi(rejected) (corollary 1).",
        _verdict(frame),
        f"At every recorded step, within {frame['gap'].max():.0e} of the logarithm. For DPO it is an identity, so this "
        "checks the arithmetic.",
        tuple(f"{place}: largest difference {part['gap'].max():.1e}" for place, part in _places(frame)),
    )


def _both_on_is_best(dpo: pd.DataFrame) -> Claim:
    text = "Pairs that are both on-policy give the highest peak and the least dispersion (figure 3)."
    wanted = {BOTH_ON, CHOSEN_ON, REJECTED_ON, BOTH_OFF}
    if not wanted <= set(dpo["scenario"]):
        return Claim("both_on_is_best", text, "not tested here", f"Needs the scenarios {', '.join(sorted(wanted))}.")
    ends = [(*key, run["chosen"].max(), run["unseen"].iloc[-1]) for key, run in _runs(dpo)]
    frame = _frame(ends, "peak", "unseen")
    peaks = frame.pivot_table(index=[*PLACE, "seed"], columns="scenario", values="peak")
    unseen = frame.pivot_table(index=[*PLACE, "seed"], columns="scenario", values="unseen")
    best = ((peaks.idxmax(axis=1) == BOTH_ON) & (unseen.idxmin(axis=1) == BOTH_ON)).rename("holds").reset_index()
    mean = peaks.mean().sort_values(ascending=False)
    return Claim(
        "both_on_is_best",
        text,
        _verdict(best),
        f"It does in {_share(best['holds'])}. By mean peak: {', '.join(f'{s} {v:.2f}' for s, v in mean.items())}.",
        tuple(
            f"{place}: "
            + ", ".join(f"{s} {_pm(v, 'peak')}" for s, v in part.groupby("scenario", sort=False))
            + f"; both_on first in {_share(best.merge(part[[*PLACE]].drop_duplicates(), on=PLACE)['holds'])}"
            for place, part in _places(frame)
        ),
    )


def _remedies_help(others: pd.DataFrame, dpo: pd.DataFrame) -> Claim:
    text = "With Flex-DPO, SFT-DPO, IPO and SLiC the chosen answer keeps more than under DPO (after section 4)."
    if not set(REMEDIES) & set(others["method"]):
        return Claim("remedies_help", text, "not tested here", f"Needs one of {', '.join(REMEDIES)}.")
    key = ["scenario", *PLACE, "seed"]
    last = others.groupby(["method", "label", *key], sort=False)["chosen"].last().rename("end").reset_index()
    base = dpo.groupby(key, sort=False)["chosen"].last().rename("dpo").reset_index()
    both = last.merge(base, on=key)
    both = both.assign(gain=both["end"] - both["dpo"])
    both["holds"] = both["gain"] > 0
    lines, verdicts = [], list[Verdict]()
    for (method, label), part in both.groupby(["method", "label"], sort=False):
        gain = _interval(part.groupby("seed")["gain"].mean())
        tried = method in REMEDIES
        lines.append(
            f"{label}: {_text(gain, sign=True)} against DPO, more in {_share(part['holds'])}"
            + ("" if tried else " (not tried in the paper)")
        )
        verdicts += [_verdict(part)] if tried else []
    alone = sorted(set(last["label"]) - set(both["label"]))
    lines += [f"{label}: no run of DPO at its width and learning rate to compare with" for label in alone]
    if not verdicts:
        return Claim(
            "remedies_help", text, "not tested here", "No remedy ran at a learning rate of DPO's.", tuple(lines)
        )
    held = verdicts.count("reproduced")
    return Claim(
        "remedies_help",
        text,
        verdicts[0] if len(set(verdicts)) == 1 else _MIXED,
        f"The chosen answer ends higher than under DPO in nearly every run for {held} of {len(verdicts)} settings.",
        tuple(lines),
    )


_MIXED: Verdict = "differs between runs"


def _runs(frame: pd.DataFrame) -> Iterator[tuple[tuple[object, ...], pd.DataFrame]]:
    """Yield every run as far as it did not diverge: (scenario, width, learning rate, seed) and its records."""
    yield from frame.dropna(subset=["chosen"]).groupby(["scenario", *PLACE, "seed"], sort=False)


def _frame(rows: Sequence[tuple[object, ...]], *columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["scenario", *PLACE, "seed", *columns])


def _places(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (width, rate), part in frame.groupby(PLACE):
        yield f"width {width:.0f}, learning rate {rate:g}", part


def _by_scenario(frame: pd.DataFrame) -> str:
    parts = frame.groupby("scenario", sort=False)["holds"]
    return ", ".join(f"{scenario} {int(holds.sum())} of {len(holds)}" for scenario, holds in parts)


def _lines(frame: pd.DataFrame, say: Callable[[pd.DataFrame], str]) -> tuple[str, ...]:
    """Return a line for each width, learning rate and scenario."""
    return tuple(
        f"{place}, {scenario}: {say(part)}"
        for place, whole in _places(frame)
        for scenario, part in whole.groupby("scenario", sort=False)
    )


def _verdict(frame: pd.DataFrame) -> Verdict:
    shares = frame.groupby(PLACE)["holds"].mean()
    return "reproduced" if shares.min() >= ALWAYS else "not reproduced" if shares.max() <= NEVER else _MIXED


def _interval(values: pd.Series) -> Interval:
    return seed_interval(values.to_numpy(dtype=float))


def _text(interval: Interval, *, digits: int = 3, sign: bool = False) -> str:
    estimate = f"{interval.estimate:{'+' if sign else ''}.{digits}f}"
    return estimate if interval.n < 2 else f"{estimate} ± {interval.half_width:.{digits}f}"


def _pm(runs: pd.DataFrame, column: str, digits: int = 3) -> str:
    """Return a mean over runs with its 95 % interval over seeds; runs of one seed from several scenarios count once."""
    return _text(_interval(runs.groupby("seed")[column].mean()), digits=digits)


def _mean(values: pd.Series, digits: int = 2) -> str:
    return f"{values.mean():.{digits}f}"


def _to(difference: float) -> str:
    return f" to {difference:.0e}" if difference else ""


def _share(holds: pd.Series) -> str:
    return f"{int(holds.sum())} of {len(holds)} runs"


def _nats(fraction: float) -> float:
    """Return the nats by which a log-prob falls when its probability falls to a fraction."""
    return -math.log(fraction)

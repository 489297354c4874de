"""What a method did to a model: a verdict on each checkpoint from its log-probs, samples and gradients."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from preflab.stats.intervals import Interval, mean_interval

DEGENERATE = ("shuffled", "repeated")
UNSEEN = ("mismatched", "paraphrase", "greedy", "sampled", *DEGENERATE)
FAR = 8.2
"""Nats of KL per answer beyond which training has mostly done harm: chosen on 30 runs of the pocket world, whose true
reward is known, judged on others (docs/results/diagnosis.md). Answers there have about ten tokens."""
REPEATED = 0.5
"""Share of the start point's distinct word pairs below which answers count as repeating themselves."""
LENGTH_RATIO = 1.25
"""Ratio of mean lengths from which on answers count as longer or shorter."""
SHARED_DIRECTION = 0.5
"""Cosine of the two sides' gradients above which pushing one down pushes the other too."""

Code = Literal["broken", "displacement", "collapse", "suppression", "learning", "reversed", "unchanged"]

MEANING: dict[Code, str] = {
    "broken": "broken: some log-probs are not finite",
    "displacement": "displacement: the chosen responses fell while the margin grew",
    "collapse": "collapse: far from the start point, strings that mean nothing gained probability",
    "suppression": "suppression: the rejected responses fell and the chosen ones stayed",
    "learning": "learning: the chosen responses rose and the margin grew",
    "reversed": "reversal: the margin shrank",
    "unchanged": "no change that these rows can show",
}
REMEDIES: dict[Code, tuple[str, ...]] = {
    "broken": ("take an earlier checkpoint, and train with a smaller learning rate or in float32",),
    "displacement": (
        "a term that holds the chosen responses up: `sft_dpo`, `dpo_nll`, `rpo` or `dpop`",
        "a slower fall of the rejected ones: `flex_dpo` with a smaller beta_rejected",
        "fewer pairs whose responses are alike: leave those with the highest CHES scores out",
        "fewer steps, or a smaller learning rate: choose the checkpoint on held-out chosen log-probs",
    ),
    "collapse": ("a smaller learning rate or fewer steps", "a larger beta, which holds the policy to its start point"),
    "suppression": ("`sft_dpo` or `dpop`, if the chosen responses should rise",),
    "reversed": ("check that chosen and rejected are not exchanged",),
    "learning": (),
    "unchanged": ("more steps, a larger learning rate, or more rows to see smaller changes (`--rows`)",),
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdict on one checkpoint.

    Args:
        checkpoint: its name.
        code: what happened, a key of `MEANING`.
        headline: the verdict in a sentence, with its numbers.
        evidence: further sentences, each with its numbers.
        remedies: what is known to help.
    """

    checkpoint: str
    code: Code
    headline: str
    evidence: tuple[str, ...]
    remedies: tuple[str, ...]


def diagnose_checkpoints(probes: pd.DataFrame, samples: pd.DataFrame, gradients: pd.DataFrame) -> tuple[Diagnosis, ...]:
    """Return a verdict on every checkpoint, in the order of `probes`.

    A change counts when its 95 % interval over rows, which are clustered by prompt, excludes zero.

    Args:
        probes: one row per checkpoint, row and role: total, start_total, length, first_change, tail_change, prompt.
        samples: one row per checkpoint and answer; the start point's have an empty checkpoint: kind (`greedy`,
            `sampled`), text, n_tokens, entropy, kl_exact.
        gradients: one row per checkpoint and pair: grad_chosen, grad_rejected, cosine; may be empty.
    """
    return tuple(
        _diagnose(str(name), part, samples, gradients) for name, part in probes.groupby("checkpoint", sort=False)
    )


def _diagnose(name: str, probes: pd.DataFrame, samples: pd.DataFrame, gradients: pd.DataFrame) -> Diagnosis:
    if not is_finite(probes):
        n = int((~np.isfinite(probes["total"])).sum())
        headline = f"Broken: {n} of {len(probes)} log-probs are not finite."
        return Diagnosis(name, "broken", headline, (), REMEDIES["broken"])
    change = changes(probes)
    chosen, rejected, margin = change["chosen"], change["rejected"], change["margin"]
    own, first = _answers(samples, name), _answers(samples, "")
    gained = any(role in change and _rose(change[role]) for role in DEGENERATE)
    repeats = _distinct(own) < REPEATED * _distinct(first)
    # Strings that mean nothing gain a little in many good runs too; far from the start point they are a symptom.
    if repeats or (gained and _kl(own).estimate > FAR):
        code: Code = "collapse"
    elif _fell(margin):
        code = "reversed"
    elif _rose(margin):
        code = "displacement" if _fell(chosen) else "learning" if _rose(chosen) else "suppression"
    else:
        code = "unchanged"
    headline = (
        f"{MEANING[code][0].upper()}{MEANING[code][1:]}. Chosen {_nats(chosen)}, rejected {_nats(rejected)}, margin "
        f"{_nats(margin)} per response."
    )
    evidence = [_distance(own), *_where(change), *_parts(probes), _answering(own, first)]
    mine = gradients[gradients["checkpoint"] == name] if len(gradients) else gradients
    if len(mine):
        evidence.append(_direction(mine))
    return Diagnosis(name, code, headline, tuple(evidence), REMEDIES[code])


def is_finite(probes: pd.DataFrame) -> bool:
    """Return whether every log-prob of a checkpoint is a number; nothing can be said of one that is broken."""
    return bool(np.isfinite(probes["total"]).all())


def changes(probes: pd.DataFrame) -> dict[str, Interval]:
    """Return the mean change of each role's log-prob since the start point, and of the margin, nats per response."""
    wide = (probes["total"] - probes["start_total"]).groupby([probes["row"], probes["role"]]).first().unstack("role")
    prompts = probes.groupby("row")["prompt"].first().reindex(wide.index)
    wide["margin"] = wide["chosen"] - wide["rejected"]
    order = [role for role in ("chosen", "rejected", "margin", *UNSEEN) if role in wide]
    return {role: _mean(wide[role], prompts) for role in order}


def _mean(values: pd.Series, prompts: pd.Series) -> Interval:
    known = values.notna()
    return mean_interval(values[known].to_numpy(dtype=float), clusters=prompts[known].tolist())


def _where(change: dict[str, Interval]) -> Iterator[str]:
    """Say which unseen answers gained and which lost."""
    rose = sorted((r for r in UNSEEN if r in change and _rose(change[r])), key=lambda r: -change[r].estimate)
    fell = sorted((r for r in UNSEEN if r in change and _fell(change[r])), key=lambda r: change[r].estimate)
    if rose:
        yield f"More likely now: {', '.join(f'{_NAMES[r]} ({_nats(change[r])})' for r in rose)}."
    if fell:
        yield f"Less likely now: {', '.join(f'{_NAMES[r]} ({_nats(change[r])})' for r in fell)}."
    if not rose and _fell(change["chosen"]):
        yield "No unseen answer gained: the probability went to answers that no probe stands for; read them below."


_NAMES = {
    "mismatched": "answers to other prompts",
    "paraphrase": "paraphrases of the chosen response",
    "greedy": "the start point's greedy answers",
    "sampled": "the start point's own samples",
    "shuffled": "shuffled words",
    "repeated": "one token repeated",
}


def _parts(probes: pd.DataFrame) -> Iterator[str]:
    """Say how much of a side's change is its first token's: what follows it may be as likely as before."""
    for role in ("chosen", "rejected"):
        part = probes[probes["role"] == role]
        first, tail = part["first_change"].mean(), part["tail_change"].mean()
        tokens = part["length"].mean()
        yield (
            f"{role.capitalize()}: {first:+.2f} nats on the first token, {tail:+.2f} on the other {tokens - 1:.0f}; "
            f"{(first + tail) / tokens:+.3f} per token."
        )


def _kl(own: pd.DataFrame) -> Interval:
    """Return KL(checkpoint || start point), nats per sampled answer."""
    return mean_interval(own[own["kind"] == "sampled"]["kl_exact"].to_numpy(dtype=float))


def _distance(own: pd.DataFrame) -> str:
    kl = _kl(own)
    if kl.estimate > FAR:
        meaning = f"more than {FAR:g}, where training had mostly made models of the pocket world worse"
    else:
        meaning = f"below {FAR:g}, where training had seldom made models of the pocket world worse"
    return f"KL from the start point {_plain(kl)} nats per sampled answer: {meaning}."


def _answering(own: pd.DataFrame, first: pd.DataFrame) -> str:
    drawn, before = own[own["kind"] == "sampled"], first[first["kind"] == "sampled"]
    ratio = drawn["n_tokens"].mean() / before["n_tokens"].mean()
    how = ", longer" if ratio > LENGTH_RATIO else ", shorter" if ratio < 1 / LENGTH_RATIO else ""
    return (
        f"Sampled answers have {drawn['n_tokens'].mean():.1f} tokens (start point "
        f"{before['n_tokens'].mean():.1f}{how}), {drawn['entropy'].mean():.2f} nats of entropy per token "
        f"({before['entropy'].mean():.2f}), and {_distinct(drawn):.0%} of their word pairs are distinct "
        f"({_distinct(before):.0%})."
    )


def _direction(gradients: pd.DataFrame) -> str:
    ratio = (gradients["grad_rejected"] / gradients["grad_chosen"]).median()
    cosine = mean_interval(gradients["cosine"].to_numpy(dtype=float))
    shared = "; pushing one side moves the other with it" if cosine.estimate > SHARED_DIRECTION else ""
    return (
        f"Gradients of the two log-probs by the weights, {len(gradients)} pairs: the rejected side's is {ratio:.1f} "
        f"times the chosen side's (median), their cosine is {_plain(cosine)}{shared}."
    )


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Return the share of distinct word n-grams within each text, averaged over the texts that have any (distinct-n).

    Within texts and not over all of them together, so that the number does not depend on how many there are.
    """
    shares = []
    for text in texts:
        words = text.split()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if grams:
            shares.append(len(set(grams)) / len(grams))
    return float(np.mean(shares)) if shares else 1.0


def _distinct(answers: pd.DataFrame) -> float:
    return distinct(answers["text"].tolist())


def _answers(samples: pd.DataFrame, checkpoint: str) -> pd.DataFrame:
    return samples[samples["checkpoint"] == checkpoint]


def _rose(interval: Interval) -> bool:
    return interval.low > 0


def _fell(interval: Interval) -> bool:
    return interval.high < 0


def _nats(interval: Interval) -> str:
    return f"{interval.estimate:+.1f}{_spread(interval, 1)} nats"


def _plain(interval: Interval) -> str:
    return f"{interval.estimate:.2f}{_spread(interval, 2)}"


def _spread(interval: Interval, digits: int) -> str:
    """Return the half-width; one unit has none."""
    return f" ± {interval.half_width:.{digits}f}" if interval.n > 1 else ""

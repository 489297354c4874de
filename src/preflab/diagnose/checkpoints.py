"""What a method did to a model: a verdict on each checkpoint from its log-probs, samples and gradients."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from preflab.stats.intervals import Interval, mean_interval

NAMES = {
    "mismatched": "answers to other prompts",
    "paraphrase": "paraphrases of the chosen response",
    "greedy": "the start point's greedy answers",
    "sampled": "the start point's samples",
    "shuffled": "shuffled words",
    "repeated": "one token repeated",
}
"""Unseen answers, for people."""
DEGENERATE = ("shuffled", "repeated")
"""Strings that mean nothing; their first token may be the chosen response's, so only what follows it is judged."""
SMALL = 0.01
"""Nats per token below which a change is none, however many rows show it."""
FAR = 1.0
"""Nats of KL per sampled token beyond which training has mostly done harm: chosen on runs of the pocket world, whose
true reward is known, and judged on others (docs/results/diagnosis.md)."""
REPEATED = 0.5
"""Share of the start point's distinct token pairs below which answers count as repeating themselves."""
SAME = 0.5
"""Share of answers that are one and the same from which on a model counts as answering everything alike."""
LENGTH_RATIO = 1.25
"""Ratio of mean lengths from which on answers count as longer or shorter."""
SHARED_DIRECTION = 0.5
"""Cosine of the two sides' gradients above which pushing one down pushes the other too."""

Code = Literal[
    "broken",
    "collapse",
    "reversed",
    "retreat",
    "displacement",
    "learning",
    "suppression",
    "separation",
    "imitation",
    "unchanged",
]

MEANING: dict[Code, str] = {
    "broken": "broken: numbers that are not finite",
    "collapse": "collapse",
    "reversed": "reversal: the margin shrank",
    "retreat": "retreat: both sides fell, and the margin did not clearly grow",
    "displacement": "displacement: the chosen responses fell while the margin grew",
    "learning": "learning: the chosen responses rose and the margin grew",
    "suppression": "suppression: the rejected responses fell, and the chosen ones moved too little to tell",
    "separation": "separation: the margin grew, and neither side alone moved enough to tell",
    "imitation": "imitation: both sides rose, and the margin did not clearly grow",
    "unchanged": "no growth of the margin that these rows can show",
}
HARMFUL: tuple[Code, ...] = ("broken", "collapse", "reversed")
"""Verdicts that say something went wrong, whatever a reward may say."""
SYMPTOMS: tuple[Code, ...] = ("broken", "collapse")
"""Verdicts that are seen in weights and answers, not in how far log-probs moved."""
REMEDIES: dict[Code, tuple[str, ...]] = {
    "broken": ("take an earlier checkpoint, and train with a smaller learning rate or in float32",),
    "collapse": ("a smaller learning rate or fewer steps", "a larger beta, which holds the policy to its start point"),
    "reversed": ("check that chosen and rejected are not exchanged",),
    "retreat": (
        "a term that holds the chosen responses up: `sft_dpo`, `dpo_nll`, `rpo` or `dpop`",
        "fewer steps, or a smaller learning rate",
    ),
    "displacement": (
        "a term that holds the chosen responses up: `sft_dpo`, `dpo_nll`, `rpo` or `dpop`",
        "a slower fall of the rejected ones: `flex_dpo` with a smaller beta_rejected",
        "fewer pairs whose responses are alike: leave those with the highest CHES scores out",
        "fewer steps, or a smaller learning rate: choose the checkpoint on held-out chosen log-probs",
    ),
    "learning": (),
    "suppression": ("`sft_dpo` or `dpop`, if the chosen responses should rise",),
    "separation": (),
    "imitation": (
        "more weight for the rejected side, such as a larger beta_rejected, or less for a term that only raises the "
        "chosen one",
    ),
    "unchanged": (
        "more steps, a larger learning rate, or for smaller changes more rows (`--rows`; in a study more test pairs or "
        "seeds)",
    ),
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


@dataclass(frozen=True, slots=True)
class Change:
    """How the log-prob of one kind of response changed since the start point.

    Args:
        total: nats per response, with a 95 % interval.
        per_token: nats per token, over all tokens of all responses.
    """

    total: Interval
    per_token: float

    @property
    def rose(self) -> bool:
        """Whether the interval lies above zero and the change is worth a word."""
        return self.total.low > 0 and self.per_token > SMALL

    @property
    def fell(self) -> bool:
        """Whether the interval lies below zero and the change is worth a word."""
        return self.total.high < 0 and self.per_token < -SMALL

    def __str__(self) -> str:
        """Return `+1.2 ± 0.3 nats`."""
        return f"{self.total.estimate:+.1f}{_spread(self.total, 1)} nats"


def diagnose(
    name: str,
    probes: pd.DataFrame,
    samples: pd.DataFrame,
    gradients: pd.DataFrame,
    more: Mapping[str, Change] | None = None,
) -> Diagnosis:
    """Return the verdict on one checkpoint.

    Args:
        name: of the checkpoint.
        probes: one row per row and role of this checkpoint: prompt, length, total, start_total, first_change,
            tail_change; none where its weights are not finite.
        samples: answers of the start point (`of` is `start`) and of this checkpoint (`checkpoint`), one to a prompt:
            of, kind (`sampled`, and `greedy` where those were asked for), text, n_tokens, truncated, distinct, entropy,
            kl_exact.
        gradients: one row per pair: of, grad_chosen, grad_rejected, cosine; may be empty.
        more: changes over more rows than those of the probes, which they replace.
    """
    own, first = _of("checkpoint", samples), _of("start", samples)
    if probes.empty or not all(np.isfinite(v).all() for v in (probes["total"], own["kl_exact"], own["entropy"])):
        return Diagnosis(name, "broken", "Broken: weights or log-probs are not finite.", (), REMEDIES["broken"])
    change = changes(probes) | dict(more or {})
    code, why = _verdict(change, own, first)
    headline = (
        f"{MEANING[code][0].upper()}{MEANING[code][1:]}{why}. Chosen {change['chosen']}, rejected "
        f"{change['rejected']}, margin {change['margin']} per response."
    )
    evidence = [_distance(own, change), *_where(change), *_parts(probes), _answering(own, first)]
    return Diagnosis(name, code, headline, (*evidence, *_direction(gradients)), REMEDIES[code])


def changes(probes: pd.DataFrame) -> dict[str, Change]:
    """Return the mean change of each role's log-prob since the start point, and of the margin.

    Of shuffled and repeated tokens only what follows the first token counts. Rows of unpaired data, which have one
    response, lend each other the other side for the margin, as in an evaluation: first to first, second to second.
    """
    moved = (probes["total"] - probes["start_total"]).where(~probes["role"].isin(DEGENERATE), probes["tail_change"])
    wide = moved.groupby([probes["row"], probes["role"]]).first().unstack("role")
    tokens = probes.groupby("role")["length"].mean()
    prompts = probes.groupby("row")["prompt"].first().reindex(wide.index)
    wide["margin"] = wide["chosen"] - wide["rejected"].fillna(_partners(wide))
    tokens["margin"] = (tokens["chosen"] + tokens["rejected"]) / 2
    found = {}
    for role in ("chosen", "rejected", "margin", *NAMES):
        if role in wide:
            known = wide[role].notna()
            total = mean_interval(wide[role][known].to_numpy(dtype=float), clusters=prompts[known].tolist())
            found[role] = Change(total, total.estimate / float(tokens[role]))
    return found


def _partners(wide: pd.DataFrame) -> "pd.Series[float]":
    """Return, for rows without a rejected response, that of the rows without a chosen one, in order."""
    lone = wide.index[wide["rejected"].isna() & wide["chosen"].notna()]
    lent = wide["rejected"][wide["chosen"].isna()].dropna()
    n = min(len(lone), len(lent))
    return pd.Series(lent.to_numpy()[:n], index=lone[:n], dtype=float)


def commonest(codes: Sequence[Code]) -> Code:
    """Return the verdict on most seeds; of several the worst."""
    return max(MEANING, key=codes.count)


def agreement(codes: Sequence[Code], n_diverged: int = 0) -> str:
    """Return how far seeds agree: `displacement in 2 of 3 seeds, learning in 1`.

    Args:
        codes: verdict on each seed that finished.
        n_diverged: seeds that did not.
    """
    found = Counter([*sorted(codes, key=list(MEANING).index), *["divergence"] * n_diverged]).most_common()
    (first, n), total = found[0], len(codes) + n_diverged
    if total == 1:
        return f"{first}, one seed"
    return ", ".join([f"{first} in {n} of {total} seeds", *(f"{word} in {k}" for word, k in found[1:])])


def kl_per_token(own: pd.DataFrame) -> float:
    """Return KL(checkpoint || start point) in nats per sampled token."""
    drawn = own[own["kind"] == "sampled"]
    return float(drawn["kl_exact"].sum() / drawn["n_tokens"].sum())


def _verdict(change: dict[str, Change], own: pd.DataFrame, first: pd.DataFrame) -> tuple[Code, str]:
    """Return what happened, and what the word does not say."""
    if own["distinct"].mean() < REPEATED * first["distinct"].mean():
        return "collapse", ": answers repeat themselves"
    if _same(own) > SAME > _same(first):
        return "collapse", ": most prompts get the same answer"
    # Strings that mean nothing gain a little in good runs too; far from the start point they are a symptom.
    gained = [NAMES[role] for role in DEGENERATE if role in change and change[role].rose]
    if gained and kl_per_token(own) > FAR:
        return "collapse", f": far from the start point, and {' and '.join(gained)} gained probability"
    return moved(change), ""


def moved(change: Mapping[str, Change]) -> Code:
    """Return what changes of chosen, rejected and margin say."""
    margin, chosen, rejected = change["margin"], change["chosen"], change["rejected"]
    if margin.fell:
        return "reversed"
    if not margin.rose:
        both_rose, both_fell = chosen.rose and rejected.rose, chosen.fell and rejected.fell
        return "imitation" if both_rose else "retreat" if both_fell else "unchanged"
    if chosen.fell:
        return "displacement"
    if chosen.rose:
        return "learning"
    return "suppression" if rejected.fell else "separation"


def _same(answers: pd.DataFrame) -> float:
    """Return the share of the commonest greedy answer; of the commonest sample where there are none."""
    greedy = answers[answers["kind"] == "greedy"]
    return float((greedy if len(greedy) else answers)["text"].value_counts(normalize=True).max())


def _distance(own: pd.DataFrame, change: dict[str, Change]) -> str:
    drawn = own[own["kind"] == "sampled"]
    kl, each = mean_interval(drawn["kl_exact"].to_numpy(dtype=float)), kl_per_token(own)
    side, worse = ("more", "most") if each > FAR else ("less", "few")
    back = ""
    if "sampled" in change:
        back = f", and {-change['sampled'].total.estimate:.1f} the other way on the start point's samples"
    return (
        f"KL from the start point {kl.estimate:.2f}{_spread(kl, 2)} nats per sampled answer{back}. That is {each:.2f} "
        f"per token. In the pocket world, the only place where this was measured, {worse} models with {side} than "
        f"{FAR:g} had become worse."
    )


def _where(change: dict[str, Change]) -> Iterator[str]:
    """Say which unseen answers gained and which lost; the start point's samples can only lose, so they are left out."""
    unseen = [role for role in NAMES if role in change and role != "sampled"]
    rose = sorted((r for r in unseen if change[r].rose), key=lambda r: -change[r].total.estimate)
    fell = sorted((r for r in unseen if change[r].fell), key=lambda r: change[r].total.estimate)
    if rose:
        yield f"More likely now: {', '.join(f'{NAMES[r]} ({change[r]})' for r in rose)}."
    if fell:
        yield f"Less likely now: {', '.join(f'{NAMES[r]} ({change[r]})' for r in fell)}."
    if not rose and change["chosen"].fell:
        yield "No unseen answer clearly gained, so none of them shows where the probability went; the answers may."


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


def _answering(own: pd.DataFrame, first: pd.DataFrame) -> str:
    drawn, before = own[own["kind"] == "sampled"], first[first["kind"] == "sampled"]
    ratio = drawn["n_tokens"].mean() / before["n_tokens"].mean()
    how = ", longer" if ratio > LENGTH_RATIO else ", shorter" if ratio < 1 / LENGTH_RATIO else ""
    cut = drawn["truncated"].mean(), before["truncated"].mean()
    limit = f"; {cut[0]:.0%} hit the limit ({cut[1]:.0%})" if max(cut) > 0 else ""
    return (
        f"Sampled answers have {drawn['n_tokens'].mean():.1f} tokens (start point {before['n_tokens'].mean():.1f}{how})"
        f"{limit}, {drawn['entropy'].mean():.2f} nats of entropy per token ({before['entropy'].mean():.2f}), and "
        f"{drawn['distinct'].mean():.0%} of their token pairs are distinct ({before['distinct'].mean():.0%})."
    )


def _direction(gradients: pd.DataFrame) -> Iterator[str]:
    own, first = _of("checkpoint", gradients), _of("start", gradients)
    if own.empty or first.empty:
        return
    ratio, before = ((g["grad_rejected"] / g["grad_chosen"]).median() for g in (own, first))
    cosine = mean_interval(own["cosine"].to_numpy(dtype=float))
    shared = "; pushing one side moves the other with it" if cosine.estimate > SHARED_DIRECTION else ""
    yield (
        f"Gradients of the two log-probs per token by the weights, {len(own)} pairs: the rejected side's is "
        f"{ratio:.1f} times the chosen side's (start point {before:.1f}, medians), their cosine is "
        f"{cosine.estimate:.2f}{_spread(cosine, 2)} ({first['cosine'].mean():.2f}){shared}."
    )


def _of(of: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the start point or of the checkpoint."""
    return frame[frame["of"] == of]


def _spread(interval: Interval, digits: int) -> str:
    """Return the half-width; one unit has none."""
    return f" ± {interval.half_width:.{digits}f}" if interval.n > 1 else ""

"""Sampled responses with everything later tables need: text, length, log-probs under policy and start, rewards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.data.examples import Example, TokenRow
from preflab.data.tokens import response_text
from preflab.evals.rewards import Scorer
from preflab.sampling.generate import GenerationSettings, Response, generate
from preflab.scoring.logps import score


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to answer: the example it comes from and its tokens, int64 `[tokens]`."""

    example: Example
    prompt: NDArray[np.int64]
    shown: str
    """The prompt as people read it, without the control tokens of a template."""


def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: GenerationSettings,
    *,
    end_ids: Sequence[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Response]:
    """Sample one response to each question; a prompt's random stream depends on the seed and the prompt alone."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return generate(
        model,
        [q.prompt for q in questions],
        [q.prompt.tobytes().hex() for q in questions],
        end_ids=end_ids,
        pad_id=int(pad),
        settings=settings,
        progress=progress,
    )


def score_responses(
    model: PreTrainedModel,
    questions: Sequence[Question],
    responses: Sequence[Response],
    *,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float32]]:
    """Return the token log-probs of each response under a model, float32 `[token]` each, nats."""
    rows = [
        TokenRow(q.example.row, q.prompt, {"response": r.tokens}) for q, r in zip(questions, responses, strict=True)
    ]
    scores = score(model, rows, ("response",), budget=budget, progress=progress)["response"]
    return [values for values in scores if values is not None]


def describe_responses(
    questions: Sequence[Question],
    responses: Sequence[Response],
    policy_scores: Sequence[NDArray[np.float32]],
    start_scores: Sequence[NDArray[np.float32]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    scorer: Scorer | None,
) -> list[dict[str, Any]]:
    """Return one record per response.

    `policy_total - reference_total` is an unbiased one-sample estimate (k1) of the KL from the start point, in
    nats per response; `kl_k3` sums r - 1 - log r with r = start/policy over tokens (Schulman, 2020), which has the same
    mean and is never negative.

    Args:
        questions: what was asked.
        responses: what was answered.
        policy_scores: token log-probs of each response under the model that sampled it, nats.
        start_scores: the same under its start point.
        tokenizer: turns tokens into text.
        scorer: scores texts, or None.
    """
    records = []
    texts = [response_text(response.tokens, tokenizer) for response in responses]
    rewards = _rewards(questions, texts, scorer)
    for question, response, text, ours, theirs, own in zip(
        questions, responses, texts, policy_scores, start_scores, rewards, strict=True
    ):
        log_ratio = ours.astype(np.float64) - theirs
        records.append(
            {
                "row": question.example.row,
                "family": question.example.family,
                "prompt": question.shown,
                "chosen": question.example.chosen or "",
                "rejected": question.example.rejected or "",
                "response": text,
                "n_tokens": len(response.tokens),
                "truncated": response.truncated,
                "policy_total": float(ours.sum(dtype=np.float64)),
                "reference_total": float(theirs.sum(dtype=np.float64)),
                "kl_k3": float(np.sum(np.exp(-log_ratio) - 1 + log_ratio)),
                **own,
            }
        )
    return records


def rewards_of(
    questions: Sequence[Question], responses: Sequence[Response], tokenizer: PreTrainedTokenizerBase, scorer: Scorer
) -> list[float]:
    """Return the reward of each response."""
    asked = [(q.example, response_text(r.tokens, tokenizer)) for q, r in zip(questions, responses, strict=True)]
    return [float(found["reward"]) for found in scorer.scores(asked)]


def _rewards(
    questions: Sequence[Question], texts: Sequence[str], scorer: Scorer | None
) -> list[dict[str, float | None]]:
    """Return each response's reward with its parts, and the reward of the data's chosen response."""
    if scorer is None:
        return [{"reward": None, "chosen_reward": None} for _ in questions]
    own = scorer.scores([(q.example, text) for q, text in zip(questions, texts, strict=True)])
    given = [(i, q.example, q.example.chosen) for i, q in enumerate(questions) if q.example.chosen is not None]
    theirs = scorer.scores([(example, chosen) for _, example, chosen in given])
    chosen = {i: float(found["reward"]) for (i, _, _), found in zip(given, theirs, strict=True)}
    return [
        {
            "reward": float(found["reward"]),
            "chosen_reward": chosen.get(i),
            **{f"reward_{name}": float(value) for name, value in found.items() if name != "reward"},
        }
        for i, found in enumerate(own)
    ]

"""Sampled responses with everything later tables need: text, length, log-probs under policy and start, rewards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.data.examples import Example, TokenRow
from preflab.data.tokens import response_text
from preflab.evals.rewards import Reward
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
    reward: Reward | None,
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
        reward: scores texts, or None.
    """
    records = []
    for question, response, ours, theirs in zip(questions, responses, policy_scores, start_scores, strict=True):
        log_ratio = ours.astype(np.float64) - theirs
        text = response_text(response.tokens, tokenizer)
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
                **_rewards(question.example, text, reward),
            }
        )
    return records


def rewards_of(
    questions: Sequence[Question], responses: Sequence[Response], tokenizer: PreTrainedTokenizerBase, reward: Reward
) -> list[float]:
    """Return the reward of each response."""
    return [
        float(reward(q.example.prompt, response_text(r.tokens, tokenizer), q.example.meta)["reward"])
        for q, r in zip(questions, responses, strict=True)
    ]


def _rewards(example: Example, text: str, reward: Reward | None) -> dict[str, float | None]:
    """Return the response's reward with its parts, and the reward of the data's chosen response."""
    if reward is None:
        return {"reward": None, "chosen_reward": None}
    scores = reward(example.prompt, text, example.meta)
    parts = {f"reward_{name}": float(value) for name, value in scores.items() if name != "reward"}
    chosen = None if example.chosen is None else float(reward(example.prompt, example.chosen, example.meta)["reward"])
    return {"reward": float(scores["reward"]), "chosen_reward": chosen, **parts}

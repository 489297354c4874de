"""Sampling responses with transformers' generation, one random stream per prompt.

The token at step t of a prompt is decided by one uniform number drawn from (seed, prompt key, t) through the inverse
cumulative distribution. Neither the batch size nor the order of the prompts changes what a prompt's numbers are.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from preflab.core.errors import ConfigError
from preflab.core.seeds import derive
from preflab.sampling.stops import TextStops


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How responses are made: ancestral sampling, at temperature 1 unless asked otherwise.

    Log-probs and KL speak of the distribution at temperature 1; responses at another one are samples of another
    distribution, to be read or judged, and say nothing about either.

    Args:
        max_new_tokens: longest response, in tokens; longer ones are cut and marked truncated.
        batch_size: prompts decoded together; it changes no result beyond rounding.
        seed: of the random streams.
        temperature: what logits are divided by, (0, inf); 1 leaves them as they are, bit for bit.
        greedy: take the likeliest token every time instead, the limit at temperature 0.
        stops: texts that end a response too; needs the tokenizer.

    Raises:
        ConfigError: a temperature out of its range.
    """

    max_new_tokens: int
    batch_size: int
    seed: int
    temperature: float = 1.0
    greedy: bool = False
    stops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature: must be in (0, inf); got {self.temperature}; greedy samples at 0.")


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response.

    Args:
        tokens: int64 `[n]`, at least 1, ending in an end token, or in the one that completes a stop, unless truncated.
        truncated: whether it reached `max_new_tokens` without ending.
    """

    tokens: NDArray[np.int64]
    truncated: bool


class _InverseTransform(LogitsProcessor):
    """Replaces logits by a point mass on the token that a given uniform number selects."""

    def __init__(self, uniforms_BT: Tensor, prompt_length: int, temperature: float) -> None:
        self._uniforms = uniforms_BT
        self._temperature = temperature
        self._start = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = self._uniforms[:, input_ids.shape[1] - self._start]
        # float64 sums: in float32 the tail of a large vocabulary would be rounded away.
        cumulative = (scores.double() / self._temperature).softmax(-1).cumsum(-1)
        token = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
        token = token.clamp_(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


def generate(
    model: PreTrainedModel,
    prompts: Sequence[NDArray[np.int64]],
    keys: Sequence[str],
    *,
    end_ids: Sequence[int],
    pad_id: int,
    settings: GenerationSettings,
    tokenizer: PreTrainedTokenizerBase | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Response]:
    """Sample one response to each prompt.

    Args:
        model: the model, adapters inside it where there are any.
        prompts: token ids, int64 `[tokens]` each.
        keys: what a prompt's random stream is named by, one per prompt.
        end_ids: tokens that end a response.
        pad_id: token that fills prompts on the left; masked, so its choice changes nothing.
        settings: lengths, batch and seed.
        tokenizer: turns tokens into text, for `settings.stops`.
        progress: called with prompts done and prompts to do.
    """
    responses: list[Response | None] = [None] * len(prompts)
    # Prompts of similar length decode together: less padding, same numbers.
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    for start in range(0, len(order), settings.batch_size):
        batch = order[start : start + settings.batch_size]
        found = _decode(
            [prompts[i] for i in batch], [keys[i] for i in batch], model, end_ids, pad_id, settings, tokenizer
        )
        for index, response in zip(batch, found, strict=True):
            responses[index] = response
        progress(min(start + settings.batch_size, len(order)), len(order))
    return [r for r in responses if r is not None]


@torch.no_grad()
def _decode(
    prompts: Sequence[NDArray[np.int64]],
    keys: Sequence[str],
    model: PreTrainedModel,
    end_ids: Sequence[int],
    pad_id: int,
    settings: GenerationSettings,
    tokenizer: PreTrainedTokenizerBase | None,
) -> list[Response]:
    device = next(model.parameters()).device
    longest = max(map(len, prompts))
    ids = np.full((len(prompts), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :] = prompt
        mask[i, longest - len(prompt) :] = 1
    processors = LogitsProcessorList()
    if not settings.greedy:
        uniforms = np.stack([_stream(settings.seed, key).random(settings.max_new_tokens) for key in keys])
        processors.append(_InverseTransform(torch.from_numpy(uniforms).to(device), longest, settings.temperature))
    stops = TextStops(tokenizer, settings.stops, longest) if settings.stops and tokenizer is not None else None
    with _plain_defaults(model):
        output = model.generate(  # type: ignore[operator]
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,  # the processor leaves one token; greedy search takes it
            use_cache=True,
            eos_token_id=list(end_ids) or None,
            pad_token_id=pad_id,
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([] if stops is None else [stops]),
        )
    ended = {} if stops is None else stops.ended
    return [cut(row, end_ids, ended.get(i)) for i, row in enumerate(output[:, longest:].cpu().numpy())]


@contextlib.contextmanager
def _plain_defaults(model: PreTrainedModel) -> Iterator[None]:
    """Set the model's own generation defaults aside: they would bend the distribution that log-probs speak of."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def cut(tokens: NDArray[np.int64], end_ids: Sequence[int], stopped: int | None = None) -> Response:
    """Return the response up to and with its first end token, or its first `stopped` tokens."""
    if stopped is not None:
        return Response(tokens[:stopped].copy(), truncated=False)
    ends = np.flatnonzero(np.isin(tokens, end_ids))
    if len(ends):
        return Response(tokens[: ends[0] + 1].copy(), truncated=False)
    return Response(tokens.copy(), truncated=True)


def _stream(seed: int, key: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=derive(seed, "sample", key)))

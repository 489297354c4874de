"""Who samples: transformers in this process, or vLLM where it is installed. Both are called alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from preflab.core.errors import ConfigError
from preflab.core.seeds import derive
from preflab.sampling.generate import GenerationSettings, Response, cut, generate

Engine = Literal["transformers", "vllm"]


class Sampler(Protocol):
    """Samples responses."""

    def __call__(
        self,
        prompts: Sequence[NDArray[np.int64]],
        keys: Sequence[str],
        max_new_tokens: int,
        temperature: float = 1.0,
    ) -> list[Response]:
        """Return one response to each prompt.

        Args:
            prompts: token ids, int64 `[tokens]` each.
            keys: what their random streams are named by.
            max_new_tokens: longest response.
            temperature: what logits are divided by, [0, inf); at 0 the likeliest token is taken.
        """


def transformers_sampler(
    model: PreTrainedModel, *, end_ids: Sequence[int], pad_id: int, batch_size: int, seed: int
) -> Sampler:
    """Return a sampler over a loaded model."""

    def sample(
        prompts: Sequence[NDArray[np.int64]], keys: Sequence[str], max_new_tokens: int, temperature: float = 1.0
    ) -> list[Response]:
        settings = GenerationSettings(
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed,
            temperature=temperature or 1.0,
            greedy=temperature == 0,
        )
        return generate(model, prompts, keys, end_ids=end_ids, pad_id=pad_id, settings=settings)

    return sample


def vllm_sampler(folder: Path, *, end_ids: Sequence[int], seed: int) -> Sampler:
    """Return a sampler over vLLM's offline engine, which batches by itself.

    Same distribution as `transformers_sampler` (nothing cut off), other numbers: vLLM draws from a seed
    of its own for each request.

    Args:
        folder: the model; vLLM loads it itself.
        end_ids: tokens that end a response.
        seed: of the random streams.

    Raises:
        ConfigError: vLLM is not installed.
    """
    try:
        from vllm import LLM, SamplingParams
    except ImportError:
        raise ConfigError(
            "--engine vllm: vLLM is not installed; pip install 'preflab[vllm]' on a GPU machine."
        ) from None
    # The model's own generation defaults would bend the distribution that log-probs speak of.
    engine = LLM(model=str(folder), dtype="auto", generation_config="vllm", seed=derive(seed, "vllm") % 2**31)

    def sample(
        prompts: Sequence[NDArray[np.int64]], keys: Sequence[str], max_new_tokens: int, temperature: float = 1.0
    ) -> list[Response]:
        params = [
            SamplingParams(
                temperature=temperature,
                top_p=1.0,
                top_k=0,
                max_tokens=max_new_tokens,
                stop_token_ids=list(end_ids),
                seed=derive(seed, "sample", key) % 2**31,
                detokenize=False,
            )
            for key in keys
        ]
        asked = [{"prompt_token_ids": prompt.tolist()} for prompt in prompts]
        found = [each.outputs[0] for each in engine.generate(asked, params, use_tqdm=False)]
        return [_finished(list(each.token_ids), each.finish_reason == "stop", end_ids) for each in found]

    return sample


def _finished(tokens: list[int], stopped: bool, end_ids: Sequence[int]) -> Response:
    """Return a response with its end token, which vLLM leaves out in some versions."""
    if stopped and (not tokens or tokens[-1] not in end_ids):
        tokens = [*tokens, end_ids[0]]
    return cut(np.asarray(tokens, dtype=np.int64), end_ids)

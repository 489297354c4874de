"""Stop texts in batched generation: a row ends where its new text first holds one of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

_SLACK = 8
"""Tokens beyond a stop's bytes that are read again: some tokenizers change a text's beginning."""


class TextStops(StoppingCriteria):
    """Ends each row on its own; what other rows of the batch do changes nothing.

    Args:
        tokenizer: turns tokens into text.
        stops: texts that end a row.
        n_prompt: prompt tokens of every row, padding included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], n_prompt: int) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._n_prompt = n_prompt
        # A stop that ends in the newest token spans at most as many tokens as it has bytes.
        self._window = max(len(stop.encode()) for stop in stops) + _SLACK
        self.ended: dict[int, int] = {}
        """Row to its new tokens up to the stop, the token that completes it included."""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return which rows are done, bool `[row]`."""
        new = input_ids[:, self._n_prompt :]
        running = [row for row in range(len(new)) if row not in self.ended]
        tails = self._tokenizer.batch_decode(
            [new[row, -self._window :].tolist() for row in running], skip_special_tokens=True
        )
        for row, tail in zip(running, tails, strict=True):
            if any(stop in tail for stop in self._stops):
                self.ended[row] = new.shape[1]
        return torch.tensor([row in self.ended for row in range(len(new))], device=input_ids.device)


def before_stop(text: str, stops: Sequence[str]) -> str:
    """Return a text up to its first stop, or all of it."""
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text

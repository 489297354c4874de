"""Log-probs of answers to choose from: a question and its n options are one prompt with n responses."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from preflab.data.examples import TokenRow
from preflab.scoring.logps import score

Ids = NDArray[np.int64]


class Choice(NamedTuple):
    """A question with its options: `prompt`, int64 `[tokens]`, and `options`, int64 `[tokens]` each, at least 1."""

    prompt: Ids
    options: tuple[Ids, ...]


def option_logps(
    model: PreTrainedModel,
    choices: Sequence[Choice],
    *,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float64]]:
    """Return the log-prob of every option of every question, float64 `[option]` each, nats.

    Args:
        model: the model.
        choices: questions.
        budget: flat tokens per forward.
        progress: called with questions done and questions to do.
    """
    rows = [
        TokenRow(i, choice.prompt, {str(k): option for k, option in enumerate(choice.options)})
        for i, choice in enumerate(choices)
    ]
    roles = [str(k) for k in range(max((len(choice.options) for choice in choices), default=0))]
    found = score(model, rows, roles, budget=budget, progress=progress)
    sums = [
        [values.sum(dtype=np.float64) for role in roles if (values := found[role][i]) is not None]
        for i in range(len(rows))
    ]
    return [np.array(each) for each in sums]

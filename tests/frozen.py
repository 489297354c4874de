"""Losses whose detached terms stand still, so that central differences of the loss are its gradient."""

import contextlib
import functools
import itertools
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import torch

from preflab.methods import Method

DETACHES = {"kto", "bco", "bco_unpaired", "beta_dpo", "alpha_dpo", "wpo", "tdpo2", "mpo"}
"""Methods whose equation holds a part of the loss constant; golden gradients show that it is not too much."""


def frozen(method: Method) -> Callable[..., Any]:
    """Return the method's loss; where its equation holds a part constant, that part stays as at the first call.

    Every `detach()` answers what it answered then: a loss detaches in the same order every time, so the answers are
    told apart by their number.
    """
    if method.name not in DETACHES:
        return method.loss
    loss = method.loss
    kept: list[torch.Tensor] = []

    @functools.wraps(loss)
    def standing(*args: Any, **hyperparameters: Any) -> Any:
        with _replayed(kept):
            return loss(*args, **hyperparameters)

    return standing


@contextlib.contextmanager
def _replayed(kept: list[torch.Tensor]) -> Iterator[None]:
    plain, fresh, calls = torch.Tensor.detach, not kept, itertools.count()

    def replayed(tensor: torch.Tensor) -> torch.Tensor:
        if fresh:
            kept.append(plain(tensor).clone())
        return kept[next(calls)]

    with unittest.mock.patch.object(torch.Tensor, "detach", replayed):
        yield

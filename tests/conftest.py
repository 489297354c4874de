"""What several rooms' tests share: one table of tolerances, and batches of log-probs for any input type."""

import signal
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import torch

from preflab.methods import Leaf, Part, parts_of
from preflab.methods._trial import random_input

# The same examples on every run and machine: a red test can be repeated.
hypothesis.settings.register_profile("preflab", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.load_profile("preflab")

# A shell script's background jobs inherit that Ctrl-C is ignored, and so would the commands that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOLERANCES = {torch.float64: {"rtol": 1e-10, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 1e-6}}


@pytest.fixture(scope="session")
def tolerances() -> dict[torch.dtype, dict[str, float]]:
    """`torch.testing.assert_close` settings by dtype."""
    return TOLERANCES


@pytest.fixture(scope="session")
def random_batch() -> Callable[..., Any]:
    """Build `random_batch(inputs, n=4, seed=0, sizes={})`: plausible float64 log-probs.

    `sizes` gives roles another number of examples than `n`. Policy totals require a gradient.
    """
    return random_input


@pytest.fixture(scope="session")
def leaves_of() -> Callable[[Any], dict[Leaf, Part]]:
    """Take a batch apart: `leaves_of(batch)[Leaf(quantity, role)]`."""
    return parts_of

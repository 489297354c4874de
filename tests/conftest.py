"""What several rooms' tests share: one table of tolerances, and batches of log-probs for any input type."""

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import torch

from preflab.methods import Leaf, Logps, Moments, Part, Values, assemble, n_states, parts_of

# The same examples on every run and machine: a red test can be repeated.
hypothesis.settings.register_profile("preflab", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.load_profile("preflab")

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

    def build(inputs: Any, *, n: int = 4, seed: int = 0, sizes: dict[str, int] | None = None) -> Any:
        generator = torch.Generator().manual_seed(seed)
        lengths: dict[str, torch.Tensor] = {}
        made: dict[Leaf, Part] = {}

        def get(leaf: Leaf) -> Part:
            """A leaf that several parts of a mixture ask for is the same in all of them."""
            return made.setdefault(leaf, draw(leaf))

        def draw(leaf: Leaf) -> Part:
            size = (sizes or {}).get(leaf.role, n)
            if leaf.kind is Values:
                low = 1.0 if leaf.role == "chosen" and leaf.quantity == "score" else 0.0
                return Values(low + torch.rand(size, generator=generator, dtype=torch.float64))
            if leaf.role not in lengths:
                lengths[leaf.role] = torch.randint(2, 12, (size,), generator=generator).double()
            length = lengths[leaf.role]
            count = size if leaf.kind is Logps else int(length.sum())
            per_token = torch.rand(count, generator=generator, dtype=torch.float64)
            if leaf.quantity != "noise":
                per_token = (0.3 + per_token) * (1 if leaf.quantity == "divergence" else -1)
            values = per_token * length if leaf.kind is Logps else per_token
            return leaf.kind(values.requires_grad_(leaf.quantity in ("policy", "divergence")), length)

        return assemble(inputs, get, (Moments(0.4, 1.5, 3.0),) * n_states(inputs))

    return build


@pytest.fixture(scope="session")
def leaves_of() -> Callable[[Any], dict[Leaf, Part]]:
    """Take a batch apart: `leaves_of(batch)[Leaf(quantity, role)]`."""
    return parts_of

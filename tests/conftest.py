"""What several rooms' tests share: one table of tolerances, and batches of log-probs for any input type."""

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import torch

from preflab.methods import (
    Leaf,
    Moments,
    Part,
    RankedLogps,
    RankedValues,
    TokenLogps,
    Values,
    assemble,
    n_states,
    parts_of,
)

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

        prompts: list[torch.Tensor] = []

        def listed() -> torch.Tensor:
            """Two to four responses to each prompt, the same for every leaf."""
            if not prompts:
                counts = torch.randint(2, 5, (n,), generator=generator)
                prompts.append(torch.repeat_interleave(torch.arange(n), counts))
            return prompts[0]

        def draw(leaf: Leaf) -> Part:
            if leaf.kind is RankedValues:
                # Best first: falling by more than the random part can undo.
                places = torch.arange(len(listed()), dtype=torch.float64)
                return RankedValues(torch.rand(len(places), generator=generator).double() - 2 * places, listed())
            size = len(listed()) if leaf.role == "ranked" else (sizes or {}).get(leaf.role, n)
            if leaf.kind is Values:
                low = 1.0 if leaf.role == "chosen" and leaf.quantity == "score" else 0.0
                return Values(low + torch.rand(size, generator=generator, dtype=torch.float64))
            if leaf.role not in lengths:
                lengths[leaf.role] = torch.randint(2, 12, (size,), generator=generator).double()
            length = lengths[leaf.role]
            count = int(length.sum()) if leaf.kind is TokenLogps else size
            per_token = torch.rand(count, generator=generator, dtype=torch.float64)
            if leaf.quantity != "noise":
                per_token = (0.3 + per_token) * (1 if leaf.quantity == "divergence" else -1)
            values = per_token if leaf.kind is TokenLogps else per_token * length
            values.requires_grad_(leaf.quantity in ("policy", "divergence"))
            return leaf.kind(values, length, *([listed()] if leaf.kind is RankedLogps else []))

        return assemble(inputs, get, (Moments(0.4, 1.5, 3.0),) * n_states(inputs))

    return build


@pytest.fixture(scope="session")
def leaves_of() -> Callable[[Any], dict[Leaf, Part]]:
    """Take a batch apart: `leaves_of(batch)[Leaf(quantity, role)]`."""
    return parts_of

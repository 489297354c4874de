"""The fixed batches of the golden values, and the check of one golden value."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from preflab.methods import Leaf, Logps, Method, Part, RankedLogps, RankedValues, Values, assemble

# (side, role) -> totals, lengths. Pairs 1 and 2 are one-pair batches; "peer" is the batch given to other packages.
_REFERENCE = {"chosen": (-13.0,), "rejected": (-14.0,), "mismatched": (-20.5,)}
_PEER_REFERENCE = {
    "chosen": (-13.0, -13.0, -28.0),
    "rejected": (-14.0, -14.0, -25.5),
    "mismatched": (-41.0, -37.0, -50.25),
}
_COMMON = {
    "reference": _REFERENCE,
    "moving_reference": _REFERENCE,
    "length": {"chosen": (8.0,), "rejected": (12.0,), "mismatched": (10.0,), "gold": (5.0,)},
    "divergence": {"chosen": (0.3,), "rejected": (0.7,)},
    # Per token -1.5 - log 0.5 and -1.25 - log 0.4: in pair 1 the weights of WPO are 0.5 and 0.4.
    "collision": {"chosen": (-6.454822555520437,), "rejected": (-4.0045112175081396,)},
    "noise": {"chosen": (0.5,), "rejected": (0.5,)},
    "score": {"chosen": (9.0,), "rejected": (6.5,)},
}
_BATCHES: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "pair 1": {
        "policy": {"chosen": (-12.0,), "rejected": (-15.0,), "mismatched": (-20.0,), "gold": (-4.0,)},
        **_COMMON,
    },
    "pair 2": {
        "policy": {"chosen": (-14.0,), "rejected": (-12.0,), "mismatched": (-20.0,), "gold": (-9.0,)},
        **_COMMON,
    },
    "peer": {
        "policy": {
            "chosen": (-12.0, -14.0, -30.5),
            "rejected": (-15.0, -12.0, -22.25),
            "mismatched": (-40.0, -35.5, -50.0),
            "gold": (-9.0, -16.0, -11.5),
        },
        "reference": _PEER_REFERENCE,
        "moving_reference": _PEER_REFERENCE,
        "length": {
            "chosen": (8.0, 8.0, 20.0),
            "rejected": (12.0, 12.0, 10.0),
            "mismatched": (16.0, 14.0, 20.0),
            "gold": (6.0, 10.0, 7.0),
        },
        "score": {"chosen": (1.0, 1.0, 1.0), "rejected": (0.0, 0.0, 0.0)},
        # length * log(p^2 + (1 - p)^2) with p the probability of a token: a vocabulary of two tokens.
        "collision": {
            "chosen": (-3.4055815093562822, -2.7079090901441734, -8.3262020089619),
            "rejected": (-6.308014656399471, -7.50784346525549, -2.1415618808545824),
        },
    },
}


_SINGLE = {RankedLogps: Logps, RankedValues: Values}
"""What a list is made of, response by response."""


@pytest.fixture(scope="session")
def fixed_batch() -> Callable[[Any, str], Any]:
    """Build `fixed_batch(inputs, name)` in float64; policy totals require a gradient."""

    def build(inputs: Any, name: str) -> Any:
        values = _BATCHES[name]

        @functools.cache
        def get(leaf: Leaf) -> Part:
            if leaf.role == "ranked":
                sides = [get(Leaf(leaf.quantity, role, _SINGLE[leaf.kind])) for role in ("chosen", "rejected")]
                both = [torch.stack(pair, dim=1).flatten().detach() for pair in zip(*sides, strict=True)]
                both[0].requires_grad_(leaf.quantity == "policy")
                return leaf.kind(*both, torch.arange(len(both[0]) // 2).repeat_interleave(2))
            total = torch.tensor(values[leaf.quantity][leaf.role], dtype=torch.float64)
            if leaf.kind is Values:
                return Values(total)
            length = torch.tensor(values["length"][leaf.role], dtype=torch.float64)
            # Where tokens are asked for, every token of a response has the same share of its total.
            parts = total if leaf.kind is Logps else (total / length).repeat_interleave(length.long())
            return leaf.kind(parts.requires_grad_(leaf.quantity in ("policy", "divergence")), length)

        return assemble(inputs, get)

    return build


@pytest.fixture(scope="session")
def check_golden(fixed_batch: Any, leaves_of: Any) -> Callable[..., None]:
    """Check a row `(hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected))`."""

    def check(method: Method, hyperparameters: Mapping[str, float], name: str, loss: float, *gradients: float) -> None:
        batch = fixed_batch(method.inputs, name)
        found = method.loss(batch, **hyperparameters).loss.sum()
        assert found.item() == pytest.approx(loss, abs=1e-6)
        table = leaves_of(batch)
        if (ranked := table.get(Leaf("policy", "ranked", RankedLogps))) is not None:
            assert torch.autograd.grad(found, ranked.total)[0].tolist() == pytest.approx(gradients, abs=1e-5)
            return
        by_role = {leaf.role: logps for leaf, logps in table.items() if leaf.quantity == "policy"}
        wanted = [by_role[role] for role in ("chosen", "rejected") if role in by_role]
        # The mean over tokens is the derivative in the total, moved equally in all tokens.
        measured = [torch.autograd.grad(found, logps[0], retain_graph=True)[0].mean().item() for logps in wanted]
        assert measured == pytest.approx(gradients, abs=1e-5)

    return check

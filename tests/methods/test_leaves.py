"""Which log-probs an input type asks for."""

from typing import NamedTuple

import pytest
import torch

from preflab.core.errors import ConfigError
from preflab.methods import (
    Chosen,
    Leaf,
    Logps,
    Pair,
    Referenced,
    ReferencedPair,
    Unpaired,
    assemble,
    leaves,
)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (Chosen, "policy/chosen"),
        (Pair, "policy/chosen policy/rejected"),
        (ReferencedPair, "policy/chosen policy/rejected reference/chosen reference/rejected"),
        (
            Unpaired,
            "policy/chosen reference/chosen policy/rejected reference/rejected policy/mismatched reference/mismatched",
        ),
    ],
)
def test_leaves_are_listed_in_field_order(inputs, expected):
    assert [f"{leaf.side}/{leaf.role}" for leaf in leaves(inputs)] == expected.split()


@pytest.mark.parametrize("inputs", [Chosen, Pair, ReferencedPair, Unpaired])
def test_assemble_puts_every_leaf_in_its_place(inputs, leaves_of):
    made = {leaf: Logps(torch.zeros(1), torch.ones(1)) for leaf in leaves(inputs)}
    batch = assemble(inputs, lambda leaf: made[leaf])
    assert type(batch) is inputs
    assert all(leaves_of(batch)[leaf] is logps for leaf, logps in made.items())


def test_a_type_made_elsewhere_needs_no_registration():
    class Anchored(NamedTuple):
        pair: Pair
        reference: Chosen

    with pytest.raises(ConfigError, match="must name exactly one response"):
        leaves(Anchored)

    class Half(NamedTuple):
        policy: Pair
        reference: Chosen

    assert leaves(Half)[-1] == Leaf("reference", "chosen")


def test_a_field_that_is_no_logps_is_refused_by_its_path():
    class Scored(NamedTuple):
        policy: Pair
        scores: torch.Tensor

    with pytest.raises(ConfigError, match=r"Scored\.scores: must be Logps, TokenLogps or a NamedTuple"):
        leaves(Scored)


def test_a_response_without_a_role_is_refused():
    with pytest.raises(ConfigError, match=r"Referenced\.policy: .* exactly one response"):
        leaves(Referenced)

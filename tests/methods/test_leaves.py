"""Which log-probs an input type asks for."""

from typing import NamedTuple

import pytest
import torch

from preflab.core.errors import ConfigError
from preflab.methods import (
    Chosen,
    Leaf,
    Logps,
    Moments,
    Pair,
    Referenced,
    ReferencedPair,
    Unpaired,
    ValuePair,
    Values,
    assemble,
    compares_pairs,
    leaves,
    n_states,
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
    assert [f"{leaf.quantity}/{leaf.role}" for leaf in leaves(inputs)] == expected.split()


@pytest.mark.parametrize("inputs", [Chosen, Pair, ReferencedPair, Unpaired])
def test_assemble_puts_every_leaf_in_its_place(inputs, leaves_of):
    made = {leaf: Logps(torch.zeros(1), torch.ones(1)) for leaf in leaves(inputs)}
    batch = assemble(inputs, lambda leaf: made[leaf])
    assert type(batch) is inputs
    assert all(leaves_of(batch)[leaf] is logps for leaf, logps in made.items())


def test_a_type_made_elsewhere_needs_no_registration():
    class Half(NamedTuple):
        policy: Pair
        reference: Chosen

    assert leaves(Half)[-1] == Leaf("reference", "chosen")


def test_other_names_only_say_what_a_part_is_for():
    class Mixed(NamedTuple):
        contrast: ReferencedPair
        likelihood: Chosen

    assert leaves(Mixed) == (*leaves(ReferencedPair), Leaf("policy", "chosen"))
    assert compares_pairs(Mixed) and not compares_pairs(Chosen) and not compares_pairs(Unpaired)


def test_state_comes_in_the_order_of_its_fields_and_begins_with_zeros():
    class Tracked(NamedTuple):
        good: Moments
        pair: Pair
        bad: Moments

    logps = Logps(torch.zeros(1), torch.ones(1))
    first = assemble(Tracked, lambda leaf: logps)
    assert n_states(Tracked) == 2 and first.good == first.bad == Moments(0.0, 0.0, 0.0)
    later = assemble(Tracked, lambda leaf: logps, (Moments(1.0), Moments(2.0)))
    assert (later.good.mean, later.bad.mean) == (1.0, 2.0)
    with pytest.raises(ValueError, match="Tracked keeps 2 Moments; got 1"):
        assemble(Tracked, lambda leaf: logps, (Moments(),))


def test_a_quantity_comes_only_in_forms_that_it_has():
    class Scored(NamedTuple):
        score: Pair

    with pytest.raises(ConfigError, match=r"Scored\.score\.chosen: score comes as Values or RankedValues; got Logps"):
        leaves(Scored)

    class Drawn(NamedTuple):
        noise: ValuePair

    assert [leaf.kind for leaf in leaves(Drawn)] == [Values, Values]


def test_a_misspelt_response_is_refused():
    class Wrong(NamedTuple):
        choosen: Logps

    with pytest.raises(ConfigError, match=r"Wrong\.choosen: .* exactly one response \(chosen, rejected"):
        leaves(Wrong)


def test_a_field_that_is_no_logps_is_refused_by_its_path():
    class Scored(NamedTuple):
        policy: Pair
        scores: torch.Tensor

    with pytest.raises(ConfigError, match=r"Scored\.scores: must be Logps, TokenLogps, Values, "):
        leaves(Scored)


def test_a_response_without_a_role_is_refused():
    with pytest.raises(ConfigError, match=r"Referenced\.policy: .* exactly one response"):
        leaves(Referenced)

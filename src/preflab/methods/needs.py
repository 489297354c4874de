"""What a method needs from the data and the engine, read from its input type."""

from collections.abc import Iterable

from preflab.data.examples import RANKED
from preflab.methods import Leaf, Method, leaves


def roles_of(method: Method) -> tuple[str, ...]:
    """Return the responses that a method's input type asks for, in a fixed order; rows need not have all of a list."""
    return _roles(leaves(method.inputs))


def stored_roles(method: Method) -> tuple[str, ...]:
    """Return the responses whose log-probs under the frozen reference a method asks for; they are scored once."""
    return _roles(leaf for leaf in leaves(method.inputs) if leaf.quantity == "reference")


def _roles(found: Iterable[Leaf]) -> tuple[str, ...]:
    expanded = (RANKED if leaf.role == "ranked" else (leaf.role,) for leaf in found)
    return tuple(dict.fromkeys(role for roles in expanded for role in roles))


def reads_scores(method: Method) -> bool:
    """Return whether a method looks at scores that the data give."""
    return any(leaf.quantity == "score" for leaf in leaves(method.inputs))


def reads_pair_scores(method: Method) -> bool:
    """Return whether a method compares the scores of a pair, which every row must have then."""
    return any(leaf.quantity == "score" and leaf.role != "ranked" for leaf in leaves(method.inputs))


def needs_live_reference(method: Method) -> bool:
    """Return whether a method needs the reference model at every step: its whole vocabulary, or one that moves."""
    return any(leaf.quantity in ("moving_reference", "divergence") for leaf in leaves(method.inputs))


def moves_reference(method: Method) -> bool:
    """Return whether a method changes its reference model while it trains."""
    return any(leaf.quantity == "moving_reference" for leaf in leaves(method.inputs))

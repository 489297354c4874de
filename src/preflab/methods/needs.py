"""What a method needs from the data and the engine, read from its input type."""

from collections.abc import Iterable, Mapping

from preflab.data.examples import RANKED, SAMPLED
from preflab.methods import Leaf, Method, leaves


def roles_of(method: Method) -> tuple[str, ...]:
    """Return the responses that a method's input type asks for, in a fixed order; rows need not have all of a list."""
    return _roles(leaves(method.inputs))


def stored_roles(method: Method) -> tuple[str, ...]:
    """Return the data's responses whose log-probs under the frozen reference a method asks for; scored once."""
    if method.is_online:
        return ()
    return _roles(leaf for leaf in leaves(method.inputs) if leaf.quantity == "reference")


def _roles(found: Iterable[Leaf]) -> tuple[str, ...]:
    expanded = ({"ranked": RANKED, "sampled": SAMPLED}.get(leaf.role, (leaf.role,)) for leaf in found)
    return tuple(dict.fromkeys(role for roles in expanded for role in roles))


def reads_scores(method: Method) -> bool:
    """Return whether a method looks at scores that the data give."""
    return any(leaf.quantity == "score" for leaf in leaves(method.inputs))


def reads_pair_scores(method: Method) -> bool:
    """Return whether a method compares the scores of a pair, which every row must have then."""
    return any(leaf.quantity == "score" and leaf.role != "ranked" for leaf in leaves(method.inputs))


def needs_values(method: Method) -> bool:
    """Return whether a method trains a value head beside the policy."""
    return any(leaf.quantity == "value" for leaf in leaves(method.inputs))


def needs_live_reference(method: Method) -> bool:
    """Return whether a method needs the reference itself: for its whole vocabulary, to move it, or for new answers."""
    asked = {leaf.quantity for leaf in leaves(method.inputs)}
    return method.is_online or not asked.isdisjoint(("moving_reference", "divergence"))


def passes_of(method: Method, hyperparameters: Mapping[str, float]) -> int:
    """Return how often each batch of prompts is used in an epoch: more than once only where answers are its own."""
    return round(hyperparameters.get("passes", 1)) if method.is_online else 1


def moves_reference(method: Method) -> bool:
    """Return whether a method changes its reference model while it trains."""
    return any(leaf.quantity == "moving_reference" for leaf in leaves(method.inputs))

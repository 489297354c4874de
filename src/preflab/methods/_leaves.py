"""What an input type asks for, read from its fields, so that nothing else switches on the type."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args, get_type_hints

from preflab.core.errors import ConfigError
from preflab.methods._types import Logps, Moments, RankedLogps, RankedValues, TokenLogps, Values

Quantity = Literal[
    "policy", "reference", "moving_reference", "divergence", "collision", "noise", "score",
    "value", "behaviour", "advantage", "returns", "old_value",
]  # fmt: skip
Role = Literal["chosen", "rejected", "mismatched", "gold", "sampled"]
Part = Logps | TokenLogps | Values | RankedLogps | RankedValues

_KINDS: dict[str, tuple[type[Part], ...]] = {
    "noise": (TokenLogps, Values),
    "score": (Values, RankedValues),
    "value": (TokenLogps, Values),
    **dict.fromkeys(("behaviour", "advantage", "returns", "old_value"), (TokenLogps,)),
}
_OF_MODELS = (Logps, TokenLogps, RankedLogps)
_LISTS = (RankedLogps, RankedValues)
Inputs = TypeVar("Inputs", bound=tuple[Any, ...])


class Leaf(NamedTuple):
    """One `Logps`, `TokenLogps` or `Values` of an input type."""

    quantity: Quantity
    """What of the response is asked for; under no such name it is the policy's log-probs."""
    role: str
    """Which response: `chosen`, `rejected`, `mismatched` or `gold`; `ranked` for all of a list; `sampled` for all
    answers that the policy gave."""
    kind: type[Part] = Logps
    """Whether its sum over tokens is asked for, or every token, or one number, or those of a list."""


def leaves(inputs: type[tuple[Any, ...]]) -> tuple[Leaf, ...]:
    """List what must be known to build an input type, in order of its fields, without its state.

    Args:
        inputs: a NamedTuple of `Logps`, `TokenLogps`, `Values`, `RankedLogps`, `RankedValues`, `Moments` or of further
            NamedTuples, such as `ReferencedPair`.

    Raises:
        ConfigError: a field is none of them, or the path to it does not name exactly one response.

    Examples:
        >>> from preflab.methods import Pair, Unpaired
        >>> [(leaf.quantity, leaf.role) for leaf in leaves(Pair)]
        [('policy', 'chosen'), ('policy', 'rejected')]
        >>> leaves(Unpaired)[-1].role
        'mismatched'
    """
    return tuple(_leaf(path, inputs, kind) for path, kind in _paths(inputs, inputs, ()) if kind is not Moments)


def n_states(inputs: type[tuple[Any, ...]]) -> int:
    """Return how many `Moments` an input type asks for."""
    return sum(kind is Moments for _, kind in _paths(inputs, inputs, ()))


def compares_pairs(inputs: type[tuple[Any, ...]]) -> bool:
    """Return whether an input type holds several responses to the same prompt side by side, row by row."""

    def pairs(kind: Any) -> bool:
        if kind is Moments or kind in get_args(Part):
            return kind in _LISTS
        hints = get_type_hints(kind)
        both = all(hints.get(role) in get_args(Part) for role in ("chosen", "rejected"))
        return both or any(pairs(field) for field in hints.values())

    return pairs(inputs)


def assemble(inputs: type[Inputs], get: Callable[[Leaf], Part], state: tuple[Moments, ...] = ()) -> Inputs:
    """Build an input from its leaves.

    Args:
        inputs: the type to build.
        get: returns what a leaf asks for.
        state: what the method returned the step before; zeros where there was none.

    Raises:
        ConfigError: as in `leaves`.
        ValueError: another number of `Moments` than the type asks for.
    """
    known = state or (Moments(),) * n_states(inputs)
    if len(known) != n_states(inputs):
        raise ValueError(f"{inputs.__name__} keeps {n_states(inputs)} Moments; got {len(known)}.")
    return cast(Inputs, _build(inputs, inputs, (), get, iter(known)))


def parts_of(batch: tuple[Any, ...]) -> dict[Leaf, Part]:
    """Take an input apart into what its leaves are, without its state."""

    def flat(part: Any) -> Iterator[Part]:
        if isinstance(part, Part):
            yield part
        elif not isinstance(part, Moments):
            for field in part:
                yield from flat(field)

    return dict(zip(leaves(type(batch)), flat(batch), strict=True))


def _build(kind: Any, inputs: Any, path: tuple[str, ...], get: Callable[[Leaf], Part], state: Iterator[Moments]) -> Any:
    if kind is Moments:
        return next(state)
    if kind in get_args(Part):
        return get(_leaf(path, inputs, kind))
    fields = _fields(kind, inputs, path)
    return kind(*(_build(field, inputs, (*path, name), get, state) for name, field in fields.items()))


def _paths(kind: Any, inputs: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if kind is Moments or kind in get_args(Part):
        return [(path, kind)]
    fields = _fields(kind, inputs, path)
    return [found for name, field in fields.items() for found in _paths(field, inputs, (*path, name))]


def _fields(kind: Any, inputs: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if not (isinstance(kind, type) and issubclass(kind, tuple) and "_fields" in vars(kind)):
        where = ".".join([inputs.__name__, *path]) if isinstance(inputs, type) else repr(inputs)
        raise ConfigError(
            f"{where}: must be Logps, TokenLogps, Values, RankedLogps, RankedValues, Moments or a NamedTuple made of "
            f"them; got {kind!r}."
        )
    return _hints(kind)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the fields of a type; the same few are asked for at every step."""
    return get_type_hints(kind)


def _leaf(path: tuple[str, ...], inputs: Any, kind: Any) -> Leaf:
    quantities = [name for name in path if name in get_args(Quantity)]
    roles = [name for name in path if name in get_args(Role)]
    where = ".".join([inputs.__name__, *path])
    if kind in _LISTS:
        roles = [*roles, "ranked"]
    if len(quantities) > 1 or len(roles) != 1:
        raise ConfigError(
            f"{where}: the path must name exactly one response ({', '.join(get_args(Role))}) and at most one quantity "
            f"({', '.join(get_args(Quantity))})."
        )
    quantity = cast(Quantity, quantities[0]) if quantities else "policy"
    kinds = _KINDS.get(quantity, _OF_MODELS)
    if kind not in kinds:
        raise ConfigError(
            f"{where}: {quantity} comes as {' or '.join(k.__name__ for k in kinds)}; got {kind.__name__}."
        )
    return Leaf(quantity, roles[0], kind)

"""Which log-probs an input type asks for, read from its fields, so that nothing else switches on the type."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_type_hints

from preflab.core.errors import ConfigError
from preflab.methods._types import Logps, TokenLogps

Side = Literal["policy", "reference"]
_SIDES = ("policy", "reference")
_KINDS = (Logps, TokenLogps)
Inputs = TypeVar("Inputs", bound=tuple[Any, ...])


class Leaf(NamedTuple):
    """One `Logps` or `TokenLogps` of an input type."""

    side: Side
    """Which model scores the response. Log-probs under no `policy` or `reference` field are the policy's."""
    role: str
    """Which response is scored: `chosen`, `rejected` or `mismatched`."""
    kind: type[Logps] | type[TokenLogps] = Logps
    """Whether its sum is asked for, or every token."""


def leaves(inputs: type[tuple[Any, ...]]) -> tuple[Leaf, ...]:
    """List what must be scored to build an input type, in order of its fields.

    Args:
        inputs: a NamedTuple of `Logps`, of `TokenLogps` or of further NamedTuples, such as `ReferencedPair`.

    Raises:
        ConfigError: a field is none of them, or the path to a `Logps` does not name exactly one response.

    Examples:
        >>> from preflab.methods import Pair, Unpaired
        >>> [(leaf.side, leaf.role) for leaf in leaves(Pair)]
        [('policy', 'chosen'), ('policy', 'rejected')]
        >>> leaves(Unpaired)[-1].role
        'mismatched'
    """
    return tuple(_leaf(path, inputs, kind) for path, kind in _paths(inputs, inputs, ()))


def assemble(inputs: type[Inputs], get: Callable[[Leaf], Logps | TokenLogps]) -> Inputs:
    """Build an input from its leaves.

    Args:
        inputs: the type to build.
        get: returns the log-probs that a leaf asks for.

    Raises:
        ConfigError: as in `leaves`.
    """
    return cast(Inputs, _build(inputs, inputs, (), get))


def _build(kind: Any, inputs: Any, path: tuple[str, ...], get: Callable[[Leaf], Logps | TokenLogps]) -> Any:
    if kind in _KINDS:
        return get(_leaf(path, inputs, kind))
    return kind(*(_build(field, inputs, (*path, name), get) for name, field in _fields(kind, inputs, path).items()))


def _paths(kind: Any, inputs: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if kind in _KINDS:
        return [(path, kind)]
    fields = _fields(kind, inputs, path)
    return [found for name, field in fields.items() for found in _paths(field, inputs, (*path, name))]


def _fields(kind: Any, inputs: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if not (isinstance(kind, type) and issubclass(kind, tuple) and "_fields" in vars(kind)):
        where = ".".join([inputs.__name__, *path]) if isinstance(inputs, type) else repr(inputs)
        raise ConfigError(f"{where}: must be Logps, TokenLogps or a NamedTuple made of them; got {kind!r}.")
    return get_type_hints(kind)


def _leaf(path: tuple[str, ...], inputs: Any, kind: Any) -> Leaf:
    sides = [name for name in path if name in _SIDES]
    roles = [name for name in path if name not in _SIDES]
    if len(sides) > 1 or len(roles) != 1:
        where = ".".join([inputs.__name__, *path])
        raise ConfigError(
            f"{where}: the path to a Logps must name exactly one response (chosen, rejected or mismatched) "
            f"and at most one model (policy or reference)."
        )
    return Leaf(cast(Side, sides[0]) if sides else "policy", roles[0], kind)

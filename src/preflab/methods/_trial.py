"""Random inputs of any type, and the trial that a stranger's method goes through before anything is trained with it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from preflab.core.errors import ConfigError
from preflab.methods._leaves import Leaf, Part, assemble, compares_pairs, leaves, n_states, parts_of
from preflab.methods._types import Logps, LossOutput, Method, Moments, RankedLogps, RankedValues, TokenLogps, Values

_TOLERANCE = 1e-8


def random_input(
    inputs: type[tuple[Any, ...]], *, n: int = 4, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> Any:
    """Return plausible float64 values for an input type; what a loss is differentiated in requires a gradient.

    Args:
        inputs: the type.
        n: examples.
        seed: of the values.
        sizes: role to another number of examples than `n`, where groups need not be of one size.
    """
    draw = _Draw(n, torch.Generator().manual_seed(seed), dict(sizes or {}))
    return assemble(inputs, draw.part, (Moments(0.4, 1.5, 3.0),) * n_states(inputs))


def picked(part: Part, index: Tensor | slice) -> Part:
    """Return some examples of a leaf, in the order of the index."""
    if isinstance(part, RankedLogps | RankedValues):
        prompts = torch.arange(int(part.prompt[-1]) + 1)[index]
        places = torch.cat([(part.prompt == prompt).nonzero()[:, 0] for prompt in prompts])
        again = torch.repeat_interleave(torch.arange(len(prompts)), torch.bincount(part.prompt)[prompts])
        if isinstance(part, RankedValues):
            return RankedValues(part.value[places], again)
        return RankedLogps(part.total[places], part.length[places], again)
    if isinstance(part, TokenLogps):
        parts = torch.split(part.token, part.length.long().tolist())
        numbers = torch.arange(len(parts))[index].tolist()
        return TokenLogps(torch.cat([parts[i] for i in numbers]), part.length[index])
    return type(part)(*(values[index] for values in part))


def remade(batch: Any, change: Callable[[Leaf, Part], Part]) -> Any:
    """Return the input with every leaf changed and its state kept."""
    table = parts_of(batch)
    return assemble(type(batch), lambda leaf: change(leaf, table[leaf]), tuple(_moments(batch)))


def trial(method: Method) -> None:
    """Run a method on random inputs and compare what it does with what it declares.

    Raises:
        ConfigError: the loss fails, is not one finite value per example, returns rewards of other sizes, keeps another
            number of `Moments` than its inputs ask for, couples examples without saying so, or differs from its own
            `loss_at_reference`.
    """
    where = f"method {method.name!r}"
    batch = random_input(method.inputs, n=6)
    output = _run(method, batch)
    n = 6 if compares_pairs(method.inputs) else 6 * len(_groups(method))
    if output.loss.shape != (n,):
        raise ConfigError(
            f"{where}: the loss must be one value per example, not reduced, {n} here; got shape "
            f"{tuple(output.loss.shape)}."
        )
    if not bool(output.loss.isfinite().all()):
        raise ConfigError(f"{where}: the loss of plausible log-probs must be finite; got {output.loss.tolist()}.")
    if not output.loss.requires_grad:
        raise ConfigError(f"{where}: the loss has no gradient; it must not detach the policy's log-probs.")
    if not all(isinstance(moments, Moments) for moments in output.state):
        raise ConfigError(f"{where}: its state must be a tuple of Moments, such as (Moments(mean=0.5),).")
    if len(output.state) != n_states(method.inputs):
        raise ConfigError(
            f"{where}: must return {n_states(method.inputs)} Moments as its state; got {len(output.state)}."
        )
    for name, values in (("chosen_reward", output.chosen_reward), ("rejected_reward", output.rejected_reward)):
        if values.shape not in ((6,), (0,)) or values.requires_grad:
            raise ConfigError(f"{where}: {name} must be detached, one value per response, or empty.")
    _check_split(method, batch, output.loss)
    _check_at_reference(method, batch)


def _run(method: Method, batch: Any) -> LossOutput:
    try:
        output = method.loss(batch, **dataclasses.asdict(method.hyperparameters()))
    except Exception as error:
        raise ConfigError(
            f"method {method.name!r}: its loss fails on random log-probs with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(output, LossOutput):
        raise ConfigError(f"method {method.name!r}: its loss must return a LossOutput; got {type(output).__name__}.")
    return output


def _groups(method: Method) -> list[str]:
    """Return the roles whose examples each have a loss, where they are not compared row by row."""
    roles = dict.fromkeys(leaf.role for leaf in leaves(method.inputs))
    return [role for role in roles if role != "mismatched"]


def _check_split(method: Method, batch: Any, whole: Tensor) -> None:
    """Refuse a loss that couples examples although it is declared not to: its micro-batches would change it."""
    if not method.invariances.batch_split:
        return
    parts = [remade(batch, lambda _, part, i=i: picked(part, slice(i, i + 1))) for i in range(6)]  # type: ignore[misc]
    losses = [_run(method, part).loss for part in parts]
    joined = torch.stack(losses, dim=1).flatten() if len(losses[0]) > 1 else torch.cat(losses)
    if not torch.allclose(joined, whole, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise ConfigError(
            f"method {method.name!r}: the loss of an example changes with the rest of the batch; declare "
            "invariances=Invariances(batch_split=False), and the engine gives it the whole optimizer batch."
        )


def _check_at_reference(method: Method, batch: Any) -> None:
    if method.loss_at_reference is None:
        return
    table = parts_of(batch)
    same = remade(batch, lambda leaf, part: at_reference(table, leaf, part))
    found = float(_run(method, same).loss.detach().mean())
    expected = method.loss_at_reference(batch, **dataclasses.asdict(method.hyperparameters()))
    if not math.isclose(found, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        raise ConfigError(
            f"method {method.name!r}: loss_at_reference says {expected:.6g}, but with the policy at the reference the "
            f"mean loss is {found:.6g}."
        )


def at_reference(table: Mapping[Leaf, Part], leaf: Leaf, part: Part) -> Part:
    """Return what a leaf is where the policy equals its reference."""
    if leaf.quantity == "policy":
        own = leaf._replace(quantity="reference")
        return table[own] if own in table else table.get(leaf._replace(quantity="moving_reference"), part)
    return type(part)(torch.zeros_like(part[0]), *part[1:]) if leaf.quantity == "divergence" else part


def _moments(part: Any) -> list[Moments]:
    if isinstance(part, Moments):
        return [part]
    return [found for field in part for found in _moments(field)] if isinstance(part, tuple) else []


class _Draw:
    """Draws the leaves of one batch; a leaf that is asked for twice is the same."""

    def __init__(self, n: int, generator: torch.Generator, sizes: dict[str, int]) -> None:
        self.n, self.generator, self.sizes = n, generator, sizes
        self.lengths: dict[str, Tensor] = {}
        self.made: dict[Leaf, Part] = {}
        self.prompts: Tensor | None = None

    def part(self, leaf: Leaf) -> Part:
        """Return a leaf."""
        if leaf not in self.made:
            self.made[leaf] = self._drawn(leaf)
        return self.made[leaf]

    def _uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.generator, dtype=torch.float64)

    def _listed(self) -> Tensor:
        """Return two to four responses to each prompt, the same for every leaf."""
        if self.prompts is None:
            counts = torch.randint(2, 5, (self.n,), generator=self.generator)
            self.prompts = torch.repeat_interleave(torch.arange(self.n), counts)
        return self.prompts

    def _drawn(self, leaf: Leaf) -> Part:
        size = len(self._listed()) if leaf.role == "ranked" else self.sizes.get(leaf.role, self.n)
        if leaf.kind is RankedValues:
            # Best first: they fall by more than the random part can undo.
            return RankedValues(self._uniform(size) - 2 * torch.arange(size), self._listed())
        if leaf.kind is Values:
            best = leaf.role == "chosen" and leaf.quantity == "score"
            return Values((self._uniform(size) + (1.0 if best else 0.0)).requires_grad_(leaf.quantity == "value"))
        if leaf.role not in self.lengths:
            self.lengths[leaf.role] = torch.randint(2, 12, (size,), generator=self.generator).double()
        length = self.lengths[leaf.role]
        values = self._uniform(int(length.sum()) if leaf.kind is TokenLogps else size)
        if leaf.quantity != "noise":
            values = (0.3 + values) * (1 if leaf.quantity == "divergence" else -1)
        if leaf.kind is not TokenLogps:
            values = values * length
        values.requires_grad_(leaf.quantity in ("policy", "divergence", "value"))
        if leaf.kind is RankedLogps:
            return RankedLogps(values, length, self._listed())
        return TokenLogps(values, length) if leaf.kind is TokenLogps else Logps(values, length)

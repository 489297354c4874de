"""Weighted sums of methods: one method whose parts keep their inputs, hyper-parameters and state."""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper, specs
from preflab.core.errors import ConfigError
from preflab.core.sources import Source
from preflab.methods._leaves import Leaf, Part, assemble, compares_pairs, leaves, n_states, parts_of
from preflab.methods._types import Invariances, LossOutput, Method


def mixture(
    name: str,
    title: str,
    parts: Mapping[Method, float],
    source: Source,
    *,
    defaults: Mapping[str, float] = MappingProxyType({}),
    learning_rates: tuple[float, ...] = (),
) -> Method:
    """Return the method whose loss is a weighted sum of the losses of others.

    Its hyper-parameters are `<part>_weight` and `<part>_<hyper-parameter>` for every part. A part that looks at the
    responses of a pair one by one, such as KTO, counts with the mean over the two.

    Args:
        name: identifier.
        title: name for people.
        parts: methods and their default weights, the first of which gives the implicit rewards.
        source: where the mixture comes from.
        defaults: of `<part>_<hyper-parameter>`, where they differ from the part's own.
        learning_rates: published ones; those of the first part where there are none.

    Raises:
        ConfigError: no part compares pairs, so that the losses have no common examples, or a part moves the reference
            or learns from its own answers.
    """
    made = _Mixture(tuple(parts))
    if online := next((part.name for part in parts if part.is_online), None):
        raise ConfigError(f"{name}: {online} learns from its own answers, which the other parts know nothing of.")
    if not any(compares_pairs(part.inputs) for part in parts):
        raise ConfigError(f"{name}: a mixture needs a method that compares pairs, such as dpo, among its parts.")
    if moving := next((part.name for part in parts if part.reference_update is not None), None):
        raise ConfigError(f"{name}: {moving} moves the reference, which the other parts need to stand still.")
    needs_reference = any(part.loss_at_reference is not None for part in parts)
    inputs = NamedTuple(f"{name}_inputs", [(part.name, part.inputs) for part in parts])  # type: ignore[misc]
    hyperparameters = _hyperparameters(name, parts, defaults)
    loss = _declared(made.loss, inputs, hyperparameters, LossOutput, _loss_doc(parts, hyperparameters, source))
    at_reference = _declared(
        made.at_reference, inputs, hyperparameters, float, "Weighted sum of the parts' losses at the reference."
    )
    return Method(
        name=name,
        title=title,
        summary="Weighted sum of " + " and ".join(part.title for part in parts) + ".",
        inputs=inputs,
        loss=loss,
        hyperparameters=hyperparameters,
        loss_at_reference=at_reference if needs_reference else None,
        learning_rates=learning_rates or next(iter(parts)).learning_rates,
        invariances=Invariances(
            permutation=all(part.invariances.permutation for part in parts),
            constant_shift=all(part.invariances.constant_shift for part in parts),
            batch_split=all(part.invariances.batch_split for part in parts),
        ),
        source=source,
    )


def plain_mixture(parts: tuple[Method, ...]) -> Method:
    """Return the mixture that a study names by its parts, such as `dpo+sft`, with weights of 1.

    Raises:
        ConfigError: as in `mixture`, or a method named twice.
    """
    names = [part.name for part in parts]
    if len(set(names)) != len(names):
        raise ConfigError(f"{'+'.join(names)}: each method of a mixture must be named once.")
    title = " + ".join(part.title for part in parts)
    source = Source(
        paper="; ".join(part.source.paper for part in parts),
        title=title,
        arxiv="",
        equation="weighted sum of " + "; ".join(f"{part.title}: arXiv:{part.source.arxiv}" for part in parts),
        bibtex="\n\n".join(dict.fromkeys(part.source.bibtex.strip() for part in parts)),
    )
    return mixture("_plus_".join(names), title, dict.fromkeys(parts, 1.0), source)


@dataclasses.dataclass(frozen=True, slots=True)
class _Mixture:
    """The functions of a mixture, before they are declared."""

    parts: tuple[Method, ...]

    def loss(self, batch: Any, **hyperparameters: float) -> LossOutput:
        outputs = [part.loss(getattr(batch, part.name), **self._own(part, hyperparameters)) for part in self.parts]
        n = min(len(output.loss) for output in outputs)
        weights = [hyperparameters[f"{part.name}_weight"] for part in self.parts]
        terms = [w * _per_pair(output.loss, n) for w, output in zip(weights, outputs, strict=True)]
        clamped = [_per_pair(o.clamped.float(), n) > 0 for o in outputs if o.clamped is not None]
        return LossOutput(
            torch.stack(terms).sum(0),
            outputs[0].chosen_reward,
            outputs[0].rejected_reward,
            tuple(moments for output in outputs for moments in output.state),
            torch.stack(clamped).any(0) if clamped else None,
        )

    def at_reference(self, batch: Any, **hyperparameters: float) -> float:
        total = 0.0
        known = parts_of(batch)
        for part in self.parts:
            own = getattr(batch, part.name)
            setting = self._own(part, hyperparameters)
            if part.loss_at_reference is not None:
                value = part.loss_at_reference(own, **setting)
            else:
                value = _free_at_reference(part, own, known, setting)
            total += hyperparameters[f"{part.name}_weight"] * value
        return total

    def _own(self, part: Method, hyperparameters: Mapping[str, float]) -> dict[str, float]:
        return {name: hyperparameters[f"{part.name}_{name}"] for name in specs(part.hyperparameters)}


def _per_pair(loss: Tensor, n: int) -> Tensor:
    """Return losses per pair: those of both responses of a pair, which come one after the other, averaged."""
    return loss.reshape(-1, n).mean(0)


def _free_at_reference(part: Method, own: Any, known: Mapping[Leaf, Part], setting: Mapping[str, float]) -> float:
    """Return the loss of a part without a reference on the log-probs that another part's reference gives."""
    asked = [leaf._replace(quantity="reference") for leaf in leaves(part.inputs)]
    if not all(leaf in known for leaf in asked) or n_states(part.inputs):
        return math.nan
    same = assemble(type(own), lambda leaf: known[leaf._replace(quantity="reference")])
    return float(part.loss(same, **setting).loss.mean())


def _hyperparameters(name: str, parts: Mapping[Method, float], changed: Mapping[str, float]) -> type[Hyperparameters]:
    fields: list[tuple[str, Any, Any]] = []
    for part, weight in parts.items():
        doc = f"Weight of {part.title}; 0 removes it."
        fields.append(
            (f"{part.name}_weight", float, hyper(weight, domain=NON_NEGATIVE, grid=(weight,), unit="", doc=doc))
        )
        defaults = part.hyperparameters()
        for own, declared in specs(part.hyperparameters).items():
            default = changed.get(f"{part.name}_{own}", getattr(defaults, own))
            again = hyper(
                default,
                domain=declared.domain,
                grid=declared.grid,
                unit=declared.unit,
                doc=f"{part.title}: {declared.doc[0].lower()}{declared.doc[1:]}",
                log_scale=declared.log_scale,
            )
            fields.append((f"{part.name}_{own}", float, again))
    return dataclasses.make_dataclass(
        f"{name}_hyperparameters", fields, bases=(Hyperparameters,), frozen=True, slots=True, kw_only=True
    )


def _loss_doc(parts: Mapping[Method, float], kind: type[Hyperparameters], source: Source) -> str:
    terms = " + ".join(f"{part.name}_weight * {part.name}" for part in parts)
    arguments = "\n".join(f"    {name}: {spec.doc}" for name, spec in specs(kind).items())
    return (
        "Weighted sum of losses.\n\n"
        f"loss = {terms}\n\n"
        f"Args:\n    batch: the inputs of every part.\n{arguments}\n\n"
        "Returns:\n    loss [pair]; rewards of the first part, detached. Where policy and reference agree, the loss is "
        "the same\n    sum of the parts' losses there.\n\n"
        f"References:\n    {source.paper}, {source.title}, {source.arxiv or source.equation}."
    )


def _declared(function: Any, inputs: Any, kind: type[Hyperparameters], returns: Any, doc: str) -> Any:
    """Give a function of any keywords the signature and docstring that a hand-written one would have."""

    def declared(batch: Any, **hyperparameters: float) -> Any:
        return function(batch, **hyperparameters)

    keyword = inspect.Parameter.KEYWORD_ONLY
    first = inspect.Parameter("batch", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=inputs)
    rest = [inspect.Parameter(name, keyword, annotation=float) for name in specs(kind)]
    declared.__signature__ = inspect.Signature([first, *rest], return_annotation=returns)  # type: ignore[attr-defined]
    declared.__doc__ = doc
    return declared

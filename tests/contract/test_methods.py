"""What every method promises, checked for every entry of `methods.ALL`; nobody adds a case by hand."""

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.frozen import frozen

from preflab.core.domains import Hyperparameters, hyper, specs
from preflab.core.errors import ConfigError
from preflab.core.ids import canonical_json
from preflab.methods import (
    ALL,
    Leaf,
    Logps,
    Method,
    Part,
    RankedLogps,
    RankedValues,
    Values,
    assemble,
    compares_pairs,
    leaves,
    validate,
)
from preflab.methods._ops import ends
from preflab.methods._trial import at_reference, picked, remade, trial
from preflab.methods.cards import bibtex, card, card_text

METHODS = pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
HYPERPARAMETERS = [(method, name) for method in ALL for name in specs(method.hyperparameters)]
EACH_HYPERPARAMETER = pytest.mark.parametrize(
    ("method", "name"), HYPERPARAMETERS, ids=[f"{method.name}.{name}" for method, name in HYPERPARAMETERS]
)
GOLDENS = Path(__file__).parent.parent / "methods"

LOWER_BOTH = {"apo_down"}
"""Objectives that lower even the chosen response, by design."""


def defaults(method: Method) -> dict[str, float]:
    return dataclasses.asdict(method.hyperparameters())


def settings(method: Method) -> Iterator[dict[str, float]]:
    """Every point of the published grid."""
    grids = {name: spec.grid for name, spec in specs(method.hyperparameters).items()}
    for values in itertools.product(*grids.values()):
        yield dict(zip(grids, values, strict=True))


Table = dict[Leaf, Part]
LOG_PROBS = ("policy", "reference", "moving_reference")


def shifted_by(leaf: Leaf, part: Part, constant: torch.Tensor) -> Part:
    """The same responses, the log-prob of each moved by its constant."""
    if leaf.quantity not in LOG_PROBS:
        return part
    if isinstance(part, Logps):
        return part._replace(total=part.total + constant)
    if isinstance(part, RankedLogps):
        return part._replace(total=part.total + constant[part.prompt])
    return part._replace(token=part.token + (constant / part.length)[part.response])


def with_values(part: Part, values: torch.Tensor) -> Part:
    """The same responses with other values."""
    return type(part)(values, *part[1:])


def trained(table: Table) -> dict[Leaf, torch.Tensor]:
    """What the loss is differentiated in: not responses that only feed a baseline."""
    return {
        leaf: part[0]
        for leaf, part in table.items()
        if leaf.quantity in ("policy", "divergence") and leaf.role != "mismatched"
    }


@METHODS
def test_declaration_and_functions_agree(method):
    """Signature equals fields, first argument equals inputs, defaults and grids inside their domains."""
    validate(method)


@METHODS
def test_the_trial_of_a_strangers_method_accepts_it(method):
    trial(method)


@METHODS
def test_goldens_and_a_peers_value_exist(method):
    tree = ast.parse((GOLDENS / f"test_{method.name}.py").read_text())
    assigned = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert len(assigned["GOLDENS"].elts) >= 2
    if "NO_PEER" in assigned:
        assert "PEER" not in assigned and len(assigned["NO_PEER"].value) > 10, "says why there is none"
    else:
        named = assigned["PEER"].elts[0].value
        assert any(character.isdigit() for character in named), "a peer is named with its version"


@EACH_HYPERPARAMETER
@pytest.mark.parametrize("bad", ["below", "above", math.nan, math.inf, -math.inf, True, "0.1", None])
def test_values_just_outside_the_domain_are_refused(method, name, bad):
    domain = specs(method.hyperparameters)[name].domain
    if bad == "below":
        bad = domain.low if domain.low_open else math.nextafter(domain.low, -math.inf)
    elif bad == "above":
        bad = domain.high if domain.high_open else math.nextafter(domain.high, math.inf)
    with pytest.raises(ConfigError, match=rf"^{name}: must be in .*; got .*\. Published values: "):
        method.hyperparameters(**{name: bad})


@EACH_HYPERPARAMETER
def test_hyperparameters_explain_themselves(method, name):
    spec = specs(method.hyperparameters)[name]
    assert spec.doc.endswith(".") and len(spec.grid) == len(set(spec.grid)) >= 1
    assert not spec.log_scale or min(spec.grid) > 0, "a logarithmic axis has no place for 0"


@METHODS
def test_output_is_per_example_and_rewards_are_detached(method, random_batch):
    sizes = {"chosen": 4, "rejected": 3, "mismatched": 5} if has_groups(method) else {}
    batch = random_batch(method.inputs, sizes=sizes)
    output = method.loss(batch, **defaults(method))
    assert output.loss.requires_grad
    assert not output.chosen_reward.requires_grad and not output.rejected_reward.requires_grad
    roles = {role for leaf in leaves(method.inputs) for role in sides_of(leaf)}
    assert output.chosen_reward.shape == (4,)
    assert output.rejected_reward.shape == ((sizes.get("rejected", 4),) if "rejected" in roles else (0,))
    assert output.loss.shape == ((7,) if has_groups(method) else (4,))


@METHODS
def test_anything_that_would_broadcast_is_refused(method, random_batch, leaves_of):
    batch = random_batch(method.inputs)
    table = leaves_of(batch)
    for broken in table:
        for shape in ((4, 1), (1,), (5,), ()):

            def change(leaf: Leaf, part: Part, broken: Leaf = broken, shape: Any = shape) -> Part:
                return with_values(part, -torch.ones(shape, dtype=torch.float64)) if leaf == broken else part

            with pytest.raises(ValueError, match="log-probs and lengths must all be"):
                method.loss(remade(batch, change), **defaults(method))


def sides_of(leaf: Leaf) -> tuple[str, ...]:
    return ("chosen", "rejected") if leaf.role == "ranked" else (leaf.role,)


def extremes(leaf: Leaf) -> tuple[float, float]:
    if leaf.quantity == "score":
        return (1.0, 1000.0) if leaf.role == "chosen" else (0.0, 0.5)
    return {"noise": (1e-9, 1 - 1e-9), "divergence": (0.0, 1000.0)}.get(leaf.quantity, (0.0, -1000.0))


@METHODS
def test_extreme_log_probs_give_finite_losses_and_gradients(method, leaves_of):
    """Every combination of log-probs 0 and -1000 at length 1: log-ratios and margins of +-1000, in float32."""
    # A list has two responses here: two columns, whose numbers alternate.
    kinds = list(dict.fromkeys(leaves(method.inputs)))
    columns = [leaf._replace(role=role) for leaf in kinds for role in sides_of(leaf)]
    rows = torch.tensor(list(itertools.product(*map(extremes, columns))))
    made: Table = {}
    for leaf in kinds:
        own = [columns.index(leaf._replace(role=role)) for role in sides_of(leaf)]
        values = rows[:, own].flatten().requires_grad_(leaf.quantity in ("policy", "divergence"))
        more = [] if leaf.kind in (Values, RankedValues) else [torch.ones(len(values))]
        prompt = [torch.arange(len(rows)).repeat_interleave(2)] if leaf.role == "ranked" else []
        made[leaf] = leaf.kind(values, *more, *prompt)
    clamped = []
    for setting in settings(method):
        batch = assemble(method.inputs, made.__getitem__)
        output = method.loss(batch, **setting)
        gradients = torch.autograd.grad(output.loss.sum(), list(trained(leaves_of(batch)).values()), allow_unused=True)
        found = [output.loss, output.chosen_reward, output.rejected_reward, *(g for g in gradients if g is not None)]
        assert all(values.isfinite().all() for values in found), setting
        assert all(math.isfinite(value) for moments in output.state for value in moments), setting
        clamped.append(output.clamped)
        assert output.clamped is None or output.clamped.shape == output.loss.shape
    declares = any(name.endswith(("clamp", "bound")) for name in specs(method.hyperparameters))
    assert declares == any(found is not None and found.any() for found in clamped), "what is clamped here is counted"


@METHODS
def test_gradients_are_those_of_the_loss(method, random_batch, leaves_of):
    """Central differences in float64; terms that the loss detaches are frozen."""
    batch = random_batch(method.inputs, seed=3)
    table = leaves_of(batch)
    wanted = trained(table)
    standing = frozen(method)

    def loss(*values: torch.Tensor) -> torch.Tensor:
        moved = dict(zip(wanted, values, strict=True))
        change = remade(batch, lambda leaf, part: with_values(part, moved.get(leaf, part[0])))
        return standing(change, **defaults(method)).loss

    loss(*wanted.values())
    assert torch.autograd.gradcheck(loss, tuple(wanted.values()))


@METHODS
def test_every_trained_response_gets_a_gradient_and_no_baseline_does(method, random_batch, leaves_of):
    batch = random_batch(method.inputs, n=16, seed=5)
    table = leaves_of(batch)
    totals = [part[0] for leaf, part in table.items() if leaf.quantity == "policy"]
    gradients = torch.autograd.grad(
        method.loss(batch, **defaults(method)).loss.sum(), totals, allow_unused=True, materialize_grads=True
    )
    moved = {id(total): bool(gradient.any()) for total, gradient in zip(totals, gradients, strict=True)}
    expected = {id(total) for leaf, total in trained(table).items() if leaf.quantity == "policy"}
    assert {key for key, value in moved.items() if value} == expected


@METHODS
def test_loss_falls_as_the_chosen_response_becomes_likelier(method, random_batch, leaves_of):
    """The direction of every objective at a plain point: down in chosen, and up in rejected where it has one."""
    batch = random_batch(method.inputs, n=16, seed=7)
    table = leaves_of(batch)
    mean = method.loss(batch, **defaults(method)).loss.mean()
    for leaf, values in trained(table).items():
        if leaf.quantity == "policy":
            (gradient,) = torch.autograd.grad(mean, values, retain_graph=True)
            if leaf.role == "ranked":
                best, worst = ends(table[leaf].prompt)
                assert gradient[best].sum() < 0 < gradient[worst].sum()
                continue
            rises = leaf.role == "gold" or (leaf.role == "chosen" and method.name not in LOWER_BOTH)
            assert (gradient.sum() < 0) if rises else (gradient.sum() > 0)


@METHODS
def test_loss_at_reference_is_true(method, random_batch, leaves_of):
    """The number that a run checks at step 0; methods with a reference have one, others cannot."""
    assert (method.loss_at_reference is not None) == card(method)["needs_reference"]
    if method.loss_at_reference is None:
        return
    for sizes in ({}, {"rejected": 2, "mismatched": 3}) if has_groups(method) else ({},):
        batch = random_batch(method.inputs, sizes=sizes)
        table = leaves_of(batch)
        same = remade(batch, functools.partial(at_reference, table))
        for setting in settings(method):
            found = method.loss(same, **setting).loss.mean().item()
            assert method.loss_at_reference(batch, **setting) == pytest.approx(found, rel=1e-12)


@METHODS
def test_permutation_is_exactly_as_declared(method, random_batch, leaves_of, tolerances):
    sizes = {"chosen": 4, "rejected": 3, "mismatched": 5} if has_groups(method) else {}
    batch = random_batch(method.inputs, sizes=sizes)
    orders = {
        role: torch.arange(sizes.get(role, 4)).roll(1)
        for role in ("chosen", "rejected", "mismatched", "gold", "ranked")
    }
    moved = remade(
        batch,
        lambda leaf, part: picked(part, orders[leaf.role]),
    )
    order = torch.cat([orders["chosen"], 4 + orders["rejected"]]) if has_groups(method) else orders["chosen"]
    before, after = (method.loss(each, **defaults(method)).loss for each in (batch, moved))
    assert torch.allclose(after, before[order], **tolerances[torch.float64]) == method.invariances.permutation


@METHODS
def test_constant_shift_is_exactly_as_declared(method, random_batch, leaves_of, tolerances):
    batch = random_batch(method.inputs)
    constant = torch.tensor([-3.0, 0.5, -11.0, -1.25], dtype=torch.float64)
    shifted = remade(batch, lambda leaf, part: shifted_by(leaf, part, constant))
    before, after = (method.loss(each, **defaults(method)).loss for each in (batch, shifted))
    assert torch.allclose(after, before, **tolerances[torch.float64]) == method.invariances.constant_shift


@METHODS
def test_batch_split_is_exactly_as_declared(method, random_batch, tolerances):
    """Where it is declared, one batch of 8 is 8 of 1; where not, splitting must really change the loss."""
    batch = random_batch(method.inputs, n=8, seed=2)
    # A policy that has drifted upwards: at a clamped baseline every split of KTO would agree by accident.
    batch = remade(batch, lambda leaf, part: with_values(part, part[0] / 2) if leaf.quantity == "policy" else part)

    def loss_of(rows: slice) -> torch.Tensor:
        part = remade(batch, lambda _, part: picked(part, rows))
        return method.loss(part, **defaults(method)).loss

    whole = loss_of(slice(None))
    parts = [loss_of(slice(i, i + 1)) for i in range(8)]
    joined = torch.stack(parts, dim=1).flatten() if has_groups(method) else torch.cat(parts)
    assert torch.allclose(whole, joined, **tolerances[torch.float64]) == method.invariances.batch_split
    assert method.couples_batch != method.invariances.batch_split


@METHODS
def test_float32_is_close_to_float64(method, random_batch, tolerances):
    batch = random_batch(method.inputs, n=8)
    single = remade(batch, lambda _, part: type(part)(*(v.float() if v.is_floating_point() else v for v in part)))
    output = method.loss(single, **defaults(method))
    assert output.loss.dtype == torch.float32
    expected = method.loss(batch, **defaults(method)).loss.float()
    torch.testing.assert_close(output.loss, expected, **tolerances[torch.float32])


@METHODS
def test_card_renders_and_cites(method):
    found = card(method)
    assert canonical_json(found)
    assert found["formula"].startswith("loss") and found["summary"].endswith(".")
    text = card_text(method)
    assert method.title in text and found["formula"] in text
    assert all(f"| `{name}` |" in text for name in found["hyperparameters"])
    entry = bibtex([method])
    assert entry.count("{") == entry.count("}") and (
        f"eprint = {{{method.source.arxiv}}}" in entry if method.source.arxiv else method.source.url in entry
    )
    title = method.source.title.split(": ")[-1]
    assert title.lower() in " ".join(entry.replace("{", "").replace("}", "").lower().split())
    assert method.learning_rates == tuple(sorted(method.learning_rates)) and min(method.learning_rates) > 0


@METHODS
def test_loss_docstring_states_arguments_returns_and_references(method):
    text = inspect.getdoc(method.loss)
    assert all(part in text for part in ("Args:", "Returns:", "References:", method.source.arxiv or method.source.url))
    assert all(f"{name}: " in text for name in specs(method.hyperparameters))
    returned = " ".join(text.split("Returns:")[1].split("References:")[0].split())
    closed = re.search(r"loss( of [a-z ]+)? is |every loss is|the second is|it is SimPO's loss|first term is", returned)
    assert closed, "a value in closed form, which test_closed_forms.py or loss_at_reference checks"


def test_the_suite_itself_notices_a_loss_that_detaches_too_much(random_batch, leaves_of):
    """A guard for the guards: a broken method must not slip through the gradient test."""

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Beta(Hyperparameters):
        beta: float = hyper(1.0, domain=specs(ALL[1].hyperparameters)["beta"].domain, grid=(1.0,), unit="", doc="B.")

    def detached(batch: Any, *, beta: float) -> Any:
        output = ALL[1].loss(batch, beta=beta)
        return output._replace(loss=output.loss + batch.policy.chosen.total.detach())

    broken = dataclasses.replace(ALL[1], loss=detached, hyperparameters=Beta)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        test_gradients_are_those_of_the_loss(broken, random_batch, leaves_of)


def has_groups(method: Method) -> bool:
    """Whether the responses form groups of independent sizes rather than pairs."""
    roles = {leaf.role for leaf in leaves(method.inputs)}
    return "rejected" in roles and not compares_pairs(method.inputs)

"""Finding built-in methods by name and loading others from a file."""

import re
from pathlib import Path

import pytest
import torch

from preflab.core.errors import ConfigError
from preflab.methods import (
    ALL,
    DPO,
    Logps,
    Pair,
    ReferencedRanked,
    Unpaired,
    code_digest,
    find,
    load,
    parts_of,
)
from preflab.methods._trial import random_input
from preflab.methods.cards import bibtex, card, card_text

HINGE = '''
from dataclasses import dataclass
import torch
from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods import Invariances, LossOutput, Method, Moments, Pair

@dataclass(frozen=True, slots=True, kw_only=True)
class HingeHyperparameters(Hyperparameters):
    width: float = hyper(1.0, domain=POSITIVE, grid=(1.0, 2.0), unit="nat", doc="Margin of the hinge.")

def hinge_loss(batch: Pair, *, width: float) -> LossOutput:
    """Hinge."""
    loss = torch.relu(width - batch.chosen.total + batch.rejected.total)
    return LossOutput(loss, batch.chosen.total.detach(), batch.rejected.total.detach())

HINGE = Method(
    name="hinge", title="Hinge", summary="A toy.", inputs=Pair, loss=hinge_loss,
    hyperparameters=HingeHyperparameters, loss_at_reference=None, learning_rates=(1e-6,),
    invariances=Invariances(),
    source=Source(paper="none", title="none", arxiv="0000.00000", equation="none", bibtex="@misc{none}"),
)
'''


@pytest.fixture
def method_file(tmp_path: Path):
    def write(text: str = HINGE, **replace: str) -> str:
        for old, new in replace.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "mine.py"
        path.write_text(text)
        return f"{path}:HINGE"

    return write


def test_every_built_in_method_is_found_by_its_name():
    assert [find(method.name) for method in ALL] == list(ALL)
    assert len({method.name for method in ALL}) == len(ALL)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"method 'ln-dpo': unknown\. Did you mean 'ln_dpo'\? Known: sft, dpo, "):
        find("ln-dpo")


def test_a_method_in_a_users_file_is_loaded_and_runs(method_file):
    method = load(method_file())
    one = torch.ones(1)
    assert method.loss(Pair(Logps(-3 * one, one), Logps(-2 * one, one)), width=1.0).loss.item() == 2.0


def test_the_same_file_can_be_loaded_after_an_edit(method_file):
    before = code_digest(load(method_file()))
    spec = method_file(HINGE.replace('title="Hinge"', 'title="Edited"'))
    assert load(spec).title == "Edited"
    assert code_digest(load(spec)) != before


def test_code_digest_of_a_built_in_method_is_that_of_its_file():
    assert len(code_digest(DPO)) == 64
    assert len({code_digest(method) for method in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name="hinge"', 'name="dpo"', "the name 'dpo' is taken by a built-in method"),
        ('name="hinge"', 'name="My Hinge"', "lower case letters"),
        ("*, width: float", "*, margin: float", r"must be the hyper-parameters \['width'\]; got \['margin'\]"),
        ("*, width: float", "width: float", "width must be keyword-only"),
        ("*, width: float", "*, width: float = 1.0", "without a default of its own"),
        ("batch: Pair", "batch", "the first argument must be annotated Pair"),
        ("grid=(1.0, 2.0)", "grid=(1.0, 0.0)", r"width: default and grid must be in \(0, inf\); got 0.0"),
        ("float = hyper(1.0,", "float = hyper(-1.0,", r"width: default and grid must be in \(0, inf\); got -1.0"),
        ("HINGE = Method(", "hinge = Method(", r"has no HINGE\. "),
        ("HINGE = Method(", "HINGE = dict(", "must be a preflab.methods.Method; got dict"),
        ("import torch", "import torch, surely_not_installed", "importing it failed with ModuleNotFoundError"),
        ("import torch", "import torch as", "importing it failed with SyntaxError"),
        (
            "inputs=Pair",
            "inputs=float",
            "must be Logps, TokenLogps, Values, RankedLogps",
        ),
        ("hyperparameters=HingeHyperparameters", "hyperparameters=dict", "derived from Hyperparameters"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_reason(method_file, old, new, message):
    with pytest.raises(ConfigError, match=message):
        load(method_file(**{old: new}))


def test_a_plain_default_is_refused(method_file):
    text = HINGE.split("    width: float = hyper(")
    rest = text[1].split("\n", 1)[1]
    with pytest.raises(ConfigError, match=r"width must be declared with hyper\(\.\.\.\)"):
        load(method_file(f"{text[0]}    width: float = 1.0\n{rest}"))


@pytest.mark.parametrize("spec", ["mine.py", "mine:HINGE", "mine.py:", "mine.py:a-b", ""])
def test_a_malformed_spec_shows_the_form(spec):
    with pytest.raises(ConfigError, match=r"must be path/to/file\.py:NAME"):
        load(spec)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*nowhere\.py"):
        load(f"{tmp_path}/nowhere.py:HINGE")


REDUCED = "loss = torch.relu(width - batch.chosen.total + batch.rejected.total)"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (REDUCED, REDUCED + ".mean()", r"one value per example, not reduced, 6 here; got shape \(\)"),
        (REDUCED, REDUCED + "[:, None]", r"6 here; got shape \(6, 1\)"),
        (
            REDUCED,
            REDUCED + "\n    loss = loss + loss.mean()",
            "changes with the rest of the batch; declare invariances=",
        ),
        (REDUCED, REDUCED + ".detach()", "the loss has no gradient"),
        (REDUCED, REDUCED + " * float('nan')", "must be finite; got"),
        (REDUCED, REDUCED + ".missing", "its loss fails on random log-probs with AttributeError"),
        ("batch.chosen.total.detach(), b", "batch.chosen.total, b", "chosen_reward must be detached"),
        ("batch.rejected.total.detach())", "batch.rejected.total.detach()[:3])", "rejected_reward must be detached"),
        ("return LossOutput(loss, ", "return (loss, ", "must return a LossOutput; got tuple"),
        (
            "batch.rejected.total.detach())",
            "batch.rejected.total.detach(), (Moments(),))",
            "must return 0 Moments as its state; got 1",
        ),
        ("batch.rejected.total.detach())", "batch.rejected.total.detach(), (1.0, 2.0))", "must be a tuple of Moments"),
        ("learning_rates=(1e-6,)", "learning_rates=1e-6", "learning_rates must be a tuple; got 1e-06"),
        ("loss_at_reference=None", "loss_at_reference=lambda: 0.5", "the first argument must be the batch"),
        ("batch: Pair", 'batch: "Pear"', "its declaration cannot be read \\(NameError: name 'Pear'"),
        ("import torch", "import torch, sys\nsys.exit(3)", "importing it failed with SystemExit: 3"),
        (
            "loss_at_reference=None",
            "loss_at_reference=lambda batch, *, width: 1.0",
            "the first argument must be annotated Pair",
        ),
    ],
)
def test_a_loss_that_does_not_do_what_it_declares_is_refused(method_file, old, new, message):
    with pytest.raises(ConfigError, match=message):
        load(method_file(**{old: new}))


def test_a_wrong_loss_at_the_reference_is_refused(method_file):
    changes = {
        "Pair\n": "Pair, ReferencedPair\n",
        "batch: Pair": "batch: ReferencedPair",
        "inputs=Pair": "inputs=ReferencedPair",
        "batch.chosen": "batch.policy.chosen",
        "batch.rejected": "batch.policy.rejected",
        "loss_at_reference=None": "loss_at_reference=half",
        "HINGE = M": "def half(batch: ReferencedPair, *, width: float) -> float:\n    return 0.5\n\nHINGE = M",
    }
    with pytest.raises(ConfigError, match=r"loss_at_reference says 0\.5, but with the policy at the reference"):
        load(method_file(**changes))


def test_a_moving_reference_comes_with_its_update(method_file):
    update = "reference_update=lambda step, *, width: 0.5,\n    loss=hinge_loss"
    with pytest.raises(ConfigError, match="reference_update belongs to inputs with a moving_reference"):
        load(method_file(**{"loss=hinge_loss": update}))


def test_only_name_inputs_and_loss_must_be_declared(method_file):
    text = HINGE[: HINGE.index("HINGE = Method(")] + (
        'HINGE = Method(name="hinge", title="H", summary="A toy.", inputs=Pair, loss=hinge_loss,\n'
        "               hyperparameters=HingeHyperparameters)\n"
    )
    method = load(method_file(text))
    assert bibtex([method]) == "" and "Source: unpublished" in card_text(method)
    assert card(method)["learning_rates"] == []


def test_groups_of_unpaired_responses_are_tried_as_such(method_file):
    text = HINGE.replace("Pair\n", "Unpaired\n").replace("Pair", "Unpaired")
    text = text.replace("torch.relu(width - batch.chosen.total + batch.rejected.total)", "torch.cat([-c, r]) * width")
    text = text.replace('    """Hinge."""', "    c, r = batch.chosen.policy.total, batch.rejected.policy.total")
    text = text.replace("batch.chosen.total", "c").replace("batch.rejected.total", "r")
    assert load(method_file(text)).name == "hinge"
    with pytest.raises(ConfigError, match=r"12 here; got shape \(6,\)"):
        load(method_file(text.replace("torch.cat([-c, r])", "(r - c)")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch: Pair": "batch"}, "method 'hinge': loss: the first argument must be annotated Pair, as inputs says."),
        (
            {"loss_at_reference=None": "loss_at_reference=lambda batch, *, width: 1.0"},
            "method 'hinge': loss_at_reference: the first argument must be annotated Pair, as inputs says.",
        ),
        (
            {"loss=hinge_loss": "loss=hinge_loss, reference_update=lambda step, *, width: 0.5"},
            "method 'hinge': reference_update belongs to inputs with a moving_reference, and to no others.",
        ),
        (
            {"HyperHinge": "", "hyperparameters=HingeHyperparameters": "hyperparameters=int"},
            "method 'hinge': hyperparameters must be a dataclass derived from Hyperparameters; got <class 'int'>.",
        ),
    ],
)
def test_a_refusal_names_the_method_and_the_part(method_file, changes, message):
    with pytest.raises(ConfigError) as raised:
        load(method_file(**{old: new for old, new in changes.items() if old in HINGE}))
    assert str(raised.value) == message


def test_a_file_without_any_method_says_so(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"empty\.py has no METHOD\. The file defines no Method\.$"):
        load(f"{path}:METHOD")
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "hinge.py").write_text(HINGE)
    assert load(f"{folder}/hinge.py:HINGE").name == "hinge"
    with pytest.raises(ConfigError, match=r"has no HINGES\. Did you mean 'HINGE'\?"):
        load(f"{folder}/hinge.py:HINGES")


def test_annotations_as_text_are_understood(method_file):
    assert load(method_file("from __future__ import annotations\n" + HINGE)).name == "hinge"


def test_random_inputs_repeat_and_lists_have_two_to_four_responses():
    for inputs in (ReferencedRanked, Unpaired):
        first, again, other = (random_input(inputs, n=50, seed=seed) for seed in (1, 1, 2))
        pairs = list(zip(parts_of(first).values(), parts_of(again).values(), parts_of(other).values(), strict=True))
        assert all(torch.equal(a[0], b[0]) for a, b, _ in pairs)
        assert not any(a[0].shape == c[0].shape and torch.equal(a[0], c[0]) for a, _, c in pairs)
    sizes = torch.bincount(random_input(ReferencedRanked, n=50, seed=1).score.prompt)
    assert len(sizes) == 50 and set(sizes.tolist()) == {2, 3, 4}


def test_every_method_in_the_docs_loads(tmp_path):
    page = (Path(__file__).parents[2] / "docs/methods.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = []
    for i, block in enumerate(blocks):
        (tmp_path / f"mine{i}.py").write_text(block)
        names.append(load(f"{tmp_path}/mine{i}.py:METHOD").name)
    assert names == ["cut_dpo", "fading_dpo"]

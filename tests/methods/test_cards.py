"""Cards, their text and the citations."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.methods import ALL, DPO, IPO, IPO_MEAN, KTO, SFT, SIMPO, Invariances
from preflab.methods._types import UNPUBLISHED
from preflab.methods.cards import bibtex, card, card_text
from preflab.methods.peers import SPELLINGS, table


def test_card_carries_what_a_report_needs_without_code():
    found = card(SIMPO)
    assert found["hyperparameters"]["gamma_beta_ratio"] == {
        "default": 0.5,
        "domain": "[0, inf)",
        "grid": [0.1, 0.3, 0.5, 0.8],
        "unit": "nat/token",
        "doc": "Target margin divided by beta; 0 removes the margin.",
        "log_scale": False,
    }
    assert found["inputs"] == [
        {"quantity": "policy", "role": role, "per": "response"} for role in ("chosen", "rejected")
    ]
    assert (found["needs_reference"], found["loss_at_reference"], found["couples_batch"]) == (False, None, False)
    assert found["source"]["arxiv"] == "2405.14734"


@pytest.mark.parametrize(("method", "text"), [(DPO, "log(2)"), (IPO, "1/(4 tau^2)"), (SFT, None)])
def test_loss_at_reference_is_shown_as_a_formula(method, text):
    assert card(method)["loss_at_reference"] == text


def test_formula_is_read_from_the_docstring():
    assert card(DPO)["formula"] == "loss = -log sigma(beta * (log pi/ref (chosen) - log pi/ref (rejected)))"
    assert card(KTO)["formula"].splitlines()[-1].startswith("z0 = max(0, ")


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
def test_the_page_of_a_method_is_its_card(method):
    page = (Path(__file__).parents[2] / "docs/generated/methods" / f"{method.name}.md").read_text()
    assert page.partition("-->\n\n")[2] == card_text(method, heading="#")


def test_card_text_is_markdown_with_a_row_per_hyperparameter():
    text = card_text(KTO)
    assert text.startswith("## KTO (`kto`)\n")
    assert text.count("\n| `") == 3
    assert "[arXiv:2402.01306](https://arxiv.org/abs/2402.01306), equation 8" in text
    assert "| hyper-parameter |" not in card_text(SFT)


def test_a_paper_behind_two_methods_is_cited_once():
    assert bibtex([IPO, DPO, IPO_MEAN]).count("azar2024general") == 1
    assert bibtex(ALL).count("\n@") + 1 == len({method.source.bibtex for method in ALL})
    assert bibtex([]) == ""


def test_what_is_missing_is_said_or_left_out():
    bare = replace(DPO, invariances=Invariances(permutation=False, batch_split=False), source=UNPUBLISHED)
    lines = card_text(bare).splitlines()
    assert "- Unchanged under: nothing declared" in lines and "- Source: unpublished" in lines
    assert not any(line.startswith(("- Its authors claim", "- How it differs")) for line in lines)
    assert "| TRL CPOTrainer | 1.16.0 | `loss_type: ipo` | none | |" in table(SPELLINGS)


def test_a_bar_in_a_meaning_does_not_break_the_table():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Absolute(Hyperparameters):
        beta: float = hyper(1.0, domain=POSITIVE, grid=(1.0,), unit="", doc="Scale of |x|.")

    assert "| Scale of \\|x\\|. |" in card_text(replace(DPO, hyperparameters=Absolute))

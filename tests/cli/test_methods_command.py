import json

import pytest

from preflab.cli.main import run
from preflab.methods import BUILT_IN


def test_list_has_one_line_for_every_method(capsys):
    assert run(["methods", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [method.name for method in BUILT_IN]
    assert all(line.endswith(method.summary) for line, method in zip(lines, BUILT_IN, strict=True))


def test_list_as_json_has_every_hyperparameter(capsys):
    assert run(["methods", "list", "--json"]) == 0
    cards = {card["name"]: card for card in json.loads(capsys.readouterr().out)["methods"]}
    assert set(cards) == {method.name for method in BUILT_IN}
    assert cards["dpo"]["hyperparameters"]["beta"]["default"] == 0.1


@pytest.mark.parametrize("method", BUILT_IN, ids=lambda method: method.name)
def test_show_prints_summary_and_source(method, capsys):
    assert run(["methods", "show", method.name]) == 0
    text = capsys.readouterr().out
    assert method.summary in text
    assert method.source.arxiv in text


def test_show_as_json_is_the_card(capsys):
    assert run(["methods", "show", "simpo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"]["title"] == "SimPO"


def test_show_reads_a_method_from_a_file(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\nfrom preflab.methods import DPO\n"
        "METHOD = dataclasses.replace(DPO, name='mine', title='Mine')\n"
    )
    assert run(["methods", "show", f"{file}:METHOD"]) == 0
    assert capsys.readouterr().out.startswith("## Mine (`mine`)")


def test_unknown_method_exits_with_2_and_names_the_nearest(capsys):
    assert run(["methods", "show", "simp"]) == 2
    assert "Did you mean 'simpo'?" in capsys.readouterr().err


def test_cite_names_each_paper_once(capsys):
    assert run(["methods", "cite", "ipo", "ipo_mean"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("@")
    entries = [line for line in text.splitlines() if line.startswith("@")]
    assert len(set(entries)) == len(entries)


def test_cite_without_names_cites_all(capsys):
    assert run(["methods", "cite"]) == 0
    everything = capsys.readouterr().out
    for method in BUILT_IN:
        assert method.source.bibtex.strip() in everything


def test_cite_as_json_has_an_entry_for_each_method(capsys):
    assert run(["methods", "cite", "dpo", "kto", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["bibtex"]) == {"dpo", "kto"}

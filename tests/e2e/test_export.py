"""`preflab export`: what comes out is what the study trained, loads in plain libraries, and says what it is."""

import json
import re
import shutil

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from tests.e2e.test_groups import LORA
from tests.e2e.test_study import preflab
from tests.report.synthetic import HOSTILE, Shape, make
from tests.tiny import write_tiny_world
from transformers import AutoModelForCausalLM, AutoTokenizer

from preflab.core.errors import StoreError
from preflab.models.adapters import load_adapter, merge
from preflab.report.analysis import analyse
from preflab.report.answer import answer
from preflab.report.model_card import Choice, model_card

STUDY = (
    """
study: exported
models: {{base: {model}}}
starts: [base, sft]
methods: {{dpo: {{learning_rate: [1e-3, 1e-2]}}}}
sizes: [24]
seeds: 2
sft: {{learning_rate: 1e-3}}
"""
    + LORA
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder, cache = tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("cache")
    model, data = write_tiny_world(folder)
    (folder / "s.yaml").write_text(STUDY.format(model=model, data=data))
    preflab("run", folder / "s.yaml", "--out", folder / "run", cache=cache)
    return folder / "run", cache, model


def export(study, *words, check=0):
    return preflab("export", study[0], *words, "--json", cache=study[1], check=check)


def cell_of(study, start):
    cells = json.loads((study[0] / "index.json").read_text())["cells"]
    return next(cell for cell in cells if cell["method"] and cell["start"] == start)


def logits(model):
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        return model.eval()(ids).logits


def test_an_adapter_on_a_model_that_others_have_is_a_plain_adapter(study, tmp_path):
    cell = cell_of(study, "base")
    found = json.loads(export(study, "--cell", cell["cell"], "--out", tmp_path / "out").stdout)
    assert (found["kind"], found["method"], found["start"]) == ("adapter", "dpo", "base")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    own = merge(load_adapter(AutoModelForCausalLM.from_pretrained(study[2]), study[0] / cell["train"] / "model"))
    torch.testing.assert_close(logits(loaded), logits(own), rtol=1e-5, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    card = (tmp_path / "out" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"


def test_an_adapter_on_the_studys_own_sft_is_folded_in_also_where_the_study_was_moved(study, tmp_path):
    moved = shutil.copytree(study[0], tmp_path / "moved")
    cell = cell_of(study, "sft")
    found = json.loads(
        preflab("export", moved, "--cell", cell["cell"], "--out", tmp_path / "out", "--json", cache=study[1]).stdout
    )
    assert found["kind"] == "merged adapter"
    sft = next(study[0].glob("artefacts/sft/*/model"))
    own = merge(load_adapter(AutoModelForCausalLM.from_pretrained(sft), study[0] / cell["train"] / "model"))
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(own), rtol=1e-5, atol=1e-5
    )
    ends = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token_id in ends


def test_the_best_is_the_reports_winner_and_its_seed_the_one_validation_prefers(study, tmp_path):
    found = json.loads(export(study, "--best", "--out", tmp_path / "best").stdout)
    winner = json.loads(preflab("report", study[0], "--json", cache=study[1]).stdout)["answer"]["winner"]
    assert (found["start"], found["method"], found["size"]) == (winner["start"], winner["method"], winner["size"])
    cells = json.loads((study[0] / "index.json").read_text())["cells"]
    rivals = [c for c in cells if c["selected"] and c["start"] == winner["start"] and c["method"]]
    assert found["cell"] == max(rivals, key=lambda c: c["validation"])["cell"]
    card = (tmp_path / "best" / "README.md").read_text()
    for said in ("scored best on validation", "| Test prompts: this model |", "rafailov2023direct", found["cell"]):
        assert said.lower() in card.lower()


def test_what_is_there_is_not_written_over_and_what_is_asked_must_be_clear(study, tmp_path):
    (tmp_path / "out").mkdir()
    assert "is there already" in export(study, "--best", "--out", tmp_path / "out", check=2).stderr
    assert "has no finished training of that id" in export(study, "--cell", "nothing", check=2).stderr
    assert "say which model" in export(study, check=2).stderr
    assert "say which model" in export(study, "--best", "--cell", "x", check=2).stderr


def test_a_damaged_training_is_not_exported(study, tmp_path):
    copy = shutil.copytree(study[0], tmp_path / "copy")
    cell = cell_of(study, "base")
    weights = copy / cell["train"] / "model" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    words = ("export", copy, "--cell", cell["cell"], "--out", tmp_path / "out")
    done = preflab(*words, cache=study[1], check=StoreError.exit_code)
    assert "adapter_model.safetensors" in done.stderr and not (tmp_path / "out").exists()


def test_texts_of_a_study_cannot_become_markdown_in_its_card():
    tables = make(Shape(methods=("dpo",), starts=("base",), prompts=10, seeds=1))
    hostile = "\n".join(HOSTILE) + "\n```\n# owned\n[x](javascript:1) | y"
    tables.study.update(name=hostile, notes=[hostile], config_yaml=hostile, command=hostile)
    tables.study["data"]["source"] = hostile
    analysis = analyse(tables)
    cell = tables.cells[tables.cells["method"] == "dpo"].iloc[0].to_dict()
    card = model_card(analysis, answer(analysis), Choice(cell, hostile, hostile, "weights", hostile, hostile))
    blocks, outside, fence = [], [], ""
    for line in card.split("---\n", 2)[2].splitlines():
        if not fence and line.startswith("```"):
            fence = line[: len(line) - len(line.lstrip("`"))]
        elif fence and line == fence:
            fence = ""
        else:
            (blocks if fence else outside).append(line)
    assert not fence and "# owned" in blocks
    text = "\n".join(outside)
    assert "# owned" not in outside and not re.search(r"(?<!\\)<\w|(?<!\\)<[/!]|(?<!\\)\[x", text)

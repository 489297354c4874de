from collections import Counter

import pytest

from preflab.core.errors import ConfigError
from preflab.studies.cells import blocks, expand, resolve_methods, resolve_sizes
from preflab.studies.notes import fairness_notes
from preflab.studies.select import Candidate, best_settings
from preflab.studies.study_file import decode, dump, load_study, study_folder
from preflab.studies.templates import single_cell, template_path, write_template

MINIMAL = {"study": "s", "models": {"base": "m"}, "methods": {"dpo": {}}, "data": {"train": "d.jsonl"}}


def config(**changes):
    return decode({**MINIMAL, **changes}, source="s.yaml")


def write(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return path


FILE = """\
study: s
models:
  base: m
methods:
  dpo: {beta: 0.1}
data:
  train: d.jsonl
  exclud: [x]
train:
  epochs: many
"""


def test_every_mistake_is_named_with_its_line(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_study(write(tmp_path, FILE))
    lines = str(error.value).replace(str(tmp_path), "").splitlines()
    assert lines[0].startswith("/s.yaml:8 data.exclud: unknown key. Did you mean 'exclude'?")
    assert lines[1] == "/s.yaml:10 train.epochs: input should be a valid integer; got 'many'."


def test_a_source_is_a_path_or_a_mapping_that_says_which_part():
    data = {"train": "pairs", "test": {"path": "pairs", "split": "test_prefs"}, "validation": 8}
    sources = config(data=data).data
    assert (sources.train.path, sources.train.split, sources.validation) == ("pairs", "train", 8)
    assert (sources.test.path, sources.test.split) == ("pairs", "test_prefs")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": 3}, "data.train: must be a path, a Hub id, or a mapping with a path; got 3."),
        ({"train": "d", "test": ["a"]}, "data.test: must be a path, a Hub id, or a mapping with a path; got ['a']."),
        ({"train": "d", "test": 1}, "data.test: input should be greater than or equal to 2; got 1."),
        ({"train": {"path": "d", "spilt": "x"}}, "data.train.spilt: unknown key. Did you mean 'split'?"),
        ({"train": "d", "ood": {"path": "d", "spilt": "x"}}, "data.ood.spilt: unknown key. Did you mean 'split'?"),
        ({"train": "d", "test": {"split": "x"}}, "data.test.path: missing."),
    ],
)
def test_a_wrong_source_is_named(data, message):
    with pytest.raises(ConfigError) as error:
        config(data=data)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: [", "not valid YAML"),
        ("study: s\nstudy: t\n", "not valid YAML"),
        ("\tstudy: s", "not valid YAML"),
        ("", "a study file is a mapping"),
        ("- a", "a study file is a mapping"),
        ("study: s", "models: missing"),
    ],
)
def test_what_is_no_study_file_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_study(write(tmp_path, text))


def test_numbers_and_words_are_those_of_yaml_1_2(tmp_path):
    text = (
        FILE.replace("  exclud: [x]\n", "")
        .replace("epochs: many", "learning_rate: 5e-7")
        .replace("study: s", "study: no")
    )
    found = load_study(write(tmp_path, text))
    assert found.train.learning_rate == 5e-7 and found.study == "no"


def test_set_replaces_values_and_says_what_it_could_not(tmp_path):
    path = write(tmp_path, FILE.replace("  exclud: [x]\n", "").replace("many", "1"))
    found = load_study(path, ["methods.dpo.beta=[0.2, 0.3]", "seeds=3", "train.lora={r: 4}"])
    assert found.methods["dpo"].grid == {"beta": [0.2, 0.3]} and found.seeds == [0, 1, 2] and found.train.lora.r == 4
    with pytest.raises(ConfigError, match="must be key=value"):
        load_study(path, ["seeds"])
    with pytest.raises(ConfigError, match="study is a value, not a section"):
        load_study(path, ["study.x=1"])


def test_the_resolved_configuration_decodes_to_itself(tmp_path):
    found = config(seeds=2, methods={"dpo": {"beta": [0.1, 0.5]}, "simpo": None})
    assert load_study(write(tmp_path, dump(found))).model_dump() == found.model_dump()


def test_cells_are_the_product_and_every_method_has_its_own_grid():
    study = config(
        starts=["base", "sft"],
        methods={"dpo": {"beta": [0.1, 0.5], "learning_rate": [1e-4, 1e-3]}, "simpo": {"learning_rate": 1e-4}},
        sizes=[8, "all"],
        seeds=3,
    )
    cells = expand(study, resolve_methods(study), 20)
    assert len(cells) == 2 * (4 + 1) * 2 * 3 and len({cell.id for cell in cells}) == len(cells)
    assert resolve_sizes(study, 20) == (8, 20)
    assert blocks((8, 20), 8) == (8,) and blocks((8, 20), 20) == (8, 20)


def test_a_best_setting_at_the_end_of_a_searched_axis_is_on_the_edge():
    (grid,) = resolve_methods(config(methods={"dpo": {"beta": [0.1, 0.3, 0.5], "learning_rate": 1e-4}}))
    assert [grid.on_edge(setting) for setting in grid.settings] == [True, False, True]


def test_learning_rates_default_to_the_published_one_and_a_note_says_so():
    study = config()
    (grid,) = resolve_methods(study)
    assert grid.learning_rate_is_default and grid.settings[0].learning_rate == grid.method.learning_rates[0]
    (lora,) = resolve_methods(config(train={"lora": {"r": 4}}))
    assert lora.settings[0].learning_rate == pytest.approx(10 * grid.method.learning_rates[0])
    notes = fairness_notes(study, {"dpo": grid}, {"truncated": {}, "excluded": {}, "given": {"train": {}}})
    assert any("No learning rate was given" in note and "dpo" in note for note in notes)


def test_unequal_tuning_budgets_are_stated():
    study = config(methods={"dpo": {"beta": [0.1, 0.2]}, "simpo": {}})
    grids = {grid.method.name: grid for grid in resolve_methods(study)}
    info = {"truncated": {"train": {"chosen": 3}}, "excluded": {"empty_response": 2}, "given": {"train": {}}}
    notes = fairness_notes(study, grids, info)
    assert any("dpo 2, simpo 1" in note for note in notes)
    assert any("3 chosen" in note for note in notes) and any("2 empty_response" in note for note in notes)


def test_lists_of_which_pairs_are_a_part_are_stated():
    study = config(methods={"dpo": {}, "rrhf": {}})
    grids = {grid.method.name: grid for grid in resolve_methods(study)}
    given = {"chosen": 9, "rank_2": 7, "rank_3": 4, "rejected": 9, "score": 9}
    notes = fairness_notes(study, grids, {"truncated": {}, "excluded": {}, "given": {"train": given}})
    assert any("up to 4 responses: rrhf see all of them, the other methods the best and the worst" in n for n in notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": ["instruct"]}, "models.instruct is missing"),
        ({"data": {"train": "d", "max_tokens": 10, "max_prompt_tokens": 10}}, "must be below data.max_tokens"),
        ({"evaluate": {"select_by": "reward"}}, "evaluate.reward names none"),
        ({"models": {"base": "m", "allow_remote_code": ["x"]}}, "none of the models"),
        ({"study": "../x"}, "study"),
        ({"sizes": [0]}, "must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def candidates(**values):
    (grid,) = resolve_methods(config(methods={"dpo": {"beta": [0.1, 0.2, 0.3], "learning_rate": 1e-4}}))
    return [
        Candidate(setting, seed, value)
        for setting, name in zip(grid.settings, "abc", strict=True)
        for seed, value in enumerate(values[name])
    ], grid.settings


def test_selection_takes_the_best_mean_over_seeds():
    found, settings = candidates(a=(0.5, 0.5), b=(0.9, 0.2), c=(0.6, 0.6))
    assert best_settings(found, 1) == [settings[2]]


def test_the_best_come_first_and_those_that_diverged_never():
    found, settings = candidates(a=(0.5, 0.5), b=(0.9, 0.2), c=(0.6, 0.6), d=(1, None))
    assert best_settings(found, 2) == [settings[2], settings[1]]
    assert best_settings(found, 9) == [settings[2], settings[1], settings[0]]


def test_a_tie_goes_to_the_first_in_grid_order():
    found, settings = candidates(a=(0.5, 0.5), b=(0.5, 0.5), c=(0.1, 0.1))
    assert best_settings(found, 1) == [settings[0]]


def test_a_setting_that_diverged_once_is_not_eligible():
    found, settings = candidates(a=(0.5, 0.5), b=(0.9, None), c=(0.4, 0.4))
    assert best_settings(found, 1) == [settings[0]]
    assert best_settings(candidates(a=(None, 1), b=(1, None), c=(None, None))[0], 1) == []


def test_the_study_files_of_the_package_decode(tmp_path):
    for name in ("study.yaml", "demo.yaml"):
        load_study(template_path(name))
    write_template(tmp_path / "new" / "mine.yaml", model=None, data=None, force=False)
    with pytest.raises(ConfigError, match="is there already"):
        write_template(tmp_path / "new" / "mine.yaml", model=None, data=None, force=False)


def test_a_study_file_of_ones_own_model_and_data_is_ready_to_plan(tmp_path):
    path = tmp_path / "own.yaml"
    write_template(path, model="owner/model", data='odd "name": #1.jsonl', force=False)
    study = load_study(path)
    assert (study.models.base, study.data.train.path) == ("owner/model", 'odd "name": #1.jsonl')
    assert study.evaluate.reward is None
    with pytest.raises(ConfigError, match="go together"):
        write_template(tmp_path / "x.yaml", model="owner/model", data=None, force=False)


def test_a_study_is_named_by_its_folder_or_its_file(tmp_path):
    path = write(tmp_path, dump(config()))
    assert str(study_folder(path)) == "runs/s" and study_folder(tmp_path) == tmp_path


def test_train_is_a_study_of_one_cell():
    found = single_cell("org/model", "d.jsonl", "dpo", ["methods.dpo.beta=0.3"])
    assert found.study == "train-model-d-dpo" and found.seeds == [0]
    assert {name: spec.grid for name, spec in found.methods.items()} == {"dpo": {"beta": [0.3]}}


def test_a_method_that_stops_early_is_an_arm_of_its_own():
    study = config(methods={"dpo": {"beta": [0.1, 0.5], "learning_rate": 1, "stop": ["never", "chosen"]}, "ipo": None})
    dpo, stopped, ipo = resolve_methods(study)
    assert [(g.name, g.title, g.stops) for g in (dpo, stopped, ipo)] == [
        ("dpo", "DPO", False), ("dpo-stop", "DPO with early stopping", True), ("ipo", "IPO", False)
    ]  # fmt: skip
    assert dpo.settings == stopped.settings and len(dpo.settings) == 2
    cells = expand(study, (dpo, stopped, ipo), 10)
    assert Counter(cell.method for cell in cells) == {"dpo": 2, "dpo-stop": 2, "ipo": 1}
    info = {"truncated": {}, "excluded": {}, "given": {"train": {}}}
    notes = " ".join(fairness_notes(study, {g.name: g for g in (dpo, stopped, ipo)}, info))
    assert "dpo-stop keep the weights" in notes and "2 evaluations after the best one" in notes
    (only,) = resolve_methods(config(methods={"dpo": {"stop": "chosen", "learning_rate": 1}}))
    assert only.name == "dpo-stop"


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"dpo": {"stop": "often"}}, "methods.dpo.stop.0: input should be 'never' or 'chosen'; got 'often'."),
        ({"dpo": {"stop": 3}}, "methods.dpo.stop.0: input should be 'never' or 'chosen'; got 3."),
        ({"dpo": {"beta": "never"}}, "methods.dpo.beta: must be a number or a list of numbers; got 'never'."),
        ({"dpo": {"stop": []}}, "methods.dpo.stop: list should have at least 1 item"),
        ({"dpo": 3}, "methods.dpo: must be a mapping of keys to values; got 3."),
        ({"dpo": {"stop": ["chosen", "chosen"]}}, "methods.dpo.stop: name each value once"),
    ],
)
def test_what_is_no_way_to_stop_is_refused(methods, message):
    with pytest.raises(ConfigError) as error:
        resolve_methods(config(methods=methods))
    assert message in str(error.value)

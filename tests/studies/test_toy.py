import pytest

from preflab.core.errors import ConfigError
from preflab.studies.toy import expand, load_toy


def test_the_built_in_study_has_six_methods_four_scenarios_and_ten_seeds():
    runs = expand(load_toy(None))
    assert len(runs) == 24 and len({run.spec.id for run in runs}) == 24
    assert len({run.fit.id for run in runs}) == 4
    assert all(run.fit.params["seeds"] == list(range(10)) for run in runs)


def test_widths_and_rates_multiply_and_a_methods_own_rate_stands():
    runs = expand(
        load_toy(None, ["widths=[8,16]", "learning_rates=[1e-4,1e-3]", "methods={dpo: , ipo: {learning_rate: 0.5}}"])
    )
    assert len(runs) == 4 * (2 * 2 + 2)
    assert {run.setting.learning_rate for run in runs if run.method == "ipo"} == {0.5}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("scenarios.odd={chosen: 0.1, rejected: 0.2, unseen: [0.1, 0.1]}", "sum to 1; they sum to 1.4"),
        ("scenarios.odd={chosen: 0.1, rejected: 0.1, unseen: [0.1]}", "unseen"),
        ("scenarios.a<b>={chosen: 0.1, rejected: 0.1, unseen: [0.1, 0.1]}", "match pattern"),
        ("widht=3", "unknown key. Did you mean 'widths'"),
        ("scenarios.odd={chosn: 0.1}", "unknown key. Did you mean 'chosen'"),
        ("widths=[0.5]", "widths: must be whole numbers"),
        ("learning_rates=[0]", "learning_rates: must be positive"),
        ("seeds=[1,1]", "seeds: [1, 1] repeats a value"),
        ("methods.dpo.beta=0", "methods.dpo.beta: must be in (0, inf)"),
        ("methods={dpu: }", "method 'dpu': unknown. Did you mean 'dpo'?"),
        ("steps=0", "steps: input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(override, said):
    with pytest.raises(ConfigError) as error:
        load_toy(None, [override])
    assert said in str(error.value)


def test_a_file_that_is_not_there_says_what_runs_without_one(tmp_path):
    with pytest.raises(ConfigError, match="Without a file"):
        load_toy(tmp_path / "none.yaml")

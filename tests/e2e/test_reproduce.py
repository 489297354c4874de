"""`preflab reproduce` from nothing to the page of claims, at the size that only shows that it works."""

import json

import pytest
from tests.e2e.test_study import preflab

from preflab.core.errors import ConfigError
from preflab.studies.reproduce import RECIPES, study_file
from preflab.studies.study_file import load_study


def claims_of(paper, folder, cache):
    done = preflab("reproduce", paper, "--smoke", "--out", folder, "--json", cache=cache)
    found = json.loads(done.stdout)
    assert (folder / "claims.html").exists() and (folder / "claims.md").exists()
    return found["claims"]


def test_starpo_ends_with_a_verdict_on_every_claim_and_goes_on_by_the_same_command(tmp_path):
    first = claims_of("starpo", tmp_path / "run", tmp_path / "cache")
    assert len(first) == 7 and all(claim["verdict"] != "not testable" for claim in first)
    assert claims_of("starpo", tmp_path / "run", tmp_path / "cache") == first


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["insights", "threed"])
def test_the_other_papers_do_too(paper, tmp_path):
    found = claims_of(paper, tmp_path / "run", tmp_path / "cache")
    assert {claim["verdict"] for claim in found} <= {"reproduced", "different", "not told", "not testable"}
    assert len(found) == 9


@pytest.mark.slow
def test_pairs_of_a_model_and_another_one_become_four_studies(tmp_path):
    here = {"models.base": "pocket:base", "train.lora": "null", "data.validation": 4, "data.test": 4}
    words = ["reproduce", "threed", "--small", "--plan", "--prompts", 120, "--out", tmp_path / "run"]
    words += [word for key, value in here.items() for word in ("--set", f"{key}={value}")]
    done = preflab(*words, "--other", "pocket:instruct", cache=tmp_path / "cache")
    assert "pairs of S4: chosen from other, rejected from other" in done.stderr
    asked = [json.loads(line)["prompt"] for line in (tmp_path / "run/pairs/s1.jsonl").read_text().splitlines()]
    for scenario in ("s2", "s3", "s4"):
        rows = [json.loads(line) for line in (tmp_path / f"run/pairs/{scenario}.jsonl").read_text().splitlines()]
        assert [row["prompt"] for row in rows] == asked


@pytest.mark.parametrize("paper", RECIPES)
@pytest.mark.parametrize("size", ["smoke", "pocket", "small", "paper"])
def test_every_study_file_of_every_size_is_sound(paper, size):
    config = load_study(study_file(paper, size))
    assert config.study == f"{paper}-{size}"
    assert size == "smoke" or len(config.seeds) >= (5 if size == "pocket" else 3)


def test_sizes_and_papers_are_checked(tmp_path):
    assert "name one size" in preflab("reproduce", "starpo", "--smoke", "--paper", cache=tmp_path, check=2).stderr
    assert "there is no recipe" in preflab("reproduce", "starpoo", cache=tmp_path, check=2).stderr
    other = ("--other", "pocket:instruct")
    assert "are for threed" in preflab("reproduce", "starpo", *other, cache=tmp_path, check=2).stderr
    assert "no side of the pairs" in preflab("reproduce", "threed", "--smoke", *other, cache=tmp_path, check=2).stderr
    with pytest.raises(ConfigError, match="starpo"):
        study_file("starpoo", "pocket")

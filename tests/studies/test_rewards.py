"""Rewards by name and from a user's file, as studies and `preflab data pairs` find them."""

import pytest

from preflab.core.errors import ConfigError, DataError
from preflab.studies.names import REWARDS, reward, reward_digest

OWN = """
def short(prompt, response, meta):
    return {"reward": 1.0 / (1 + len(response)), "chars": len(response)}

def broken(prompt, response, meta):
    return meta["nothing"]

def bare(prompt, response, meta):
    return 0.5

def undefined(prompt, response, meta):
    return {"reward": float("nan")}

NUMBER = 3
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_users_function_scores_like_a_built_in_one(own):
    assert reward(f"{own}:short")("", "abc", {}) == {"reward": 0.25, "chars": 3.0}
    assert reward("constraints")("", "Yes.", {"constraints": [{"kind": "no_commas"}]})["reward"] == 1.0
    assert reward(None) is None


def test_a_changed_file_is_another_reward(own):
    before = reward_digest(f"{own}:short")
    own.write_text(OWN.replace("1.0 /", "2.0 /"))
    assert reward_digest(f"{own}:short") != before
    optional = ("math", "sentiment")  # whose digests know the version of an optional library
    names = [name for name in REWARDS if name not in optional]
    assert len({reward_digest(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pockt", "evaluate.reward: unknown reward 'pockt'. Did you mean 'pocket'"),
        ("{own}", "which function of the file"),
        ("{own}:shrt", "has no shrt. Did you mean 'short'"),
        ("{own}:NUMBER", "must be a function of prompt, response and meta; got 3"),
        ("nowhere.py:short", "there is no file nowhere.py"),
    ],
)
def test_unknown_rewards_are_refused(own, name, message):
    with pytest.raises(ConfigError, match=message):
        reward(name.format(own=own))


@pytest.mark.parametrize(
    ("name", "message"),
    [("broken", "fails with KeyError: 'nothing'"), ("bare", "must return finite numbers"), ("undefined", "nan")],
)
def test_what_a_users_function_does_wrong_is_said(own, name, message):
    with pytest.raises(DataError, match=message):
        reward(f"{own}:{name}")("", "abc", {})

"""Rewards that read the text alone."""

import importlib.util

import pytest

from preflab.core.errors import ConfigError
from preflab.evals import sentiment
from preflab.studies.names import reward, reward_digest


def test_the_authors_example_has_its_score():
    """Scores of the README of vaderSentiment 3.3.2."""
    pytest.importorskip("vaderSentiment", reason="vaderSentiment is an optional extra")
    found = sentiment.sentiment_reward("", "VADER is smart, handsome, and funny.", {})
    assert found == {"reward": 0.8316, "positive": 0.746, "neutral": 0.254, "negative": 0.0}
    said = sentiment.sentiment_reward("", "VADER is not smart, handsome, nor funny.", {})
    assert said["reward"] == -0.7424
    assert sentiment.sentiment_reward("", "", {}) == {"reward": 0, "positive": 0, "neutral": 0, "negative": 0}


def test_a_study_finds_it_by_name():
    pytest.importorskip("vaderSentiment", reason="vaderSentiment is an optional extra")
    found = reward("sentiment")
    assert found is not None and found("", "Terrible!", {})["reward"] < 0
    assert len(reward_digest("sentiment")) == 64


def test_without_its_library_the_way_out_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'preflab\[text-rewards\]'"):
        reward("sentiment")


def test_pickled_weights_of_a_profanity_check_are_refused():
    with pytest.raises(
        ConfigError, match=r"online\.reward: there is no reward 'profanity': .* pickles, which run code"
    ):
        reward("profanity", where="online.reward")

"""Rewards that read the text of a response alone: how friendly it sounds."""

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any

from preflab.core.errors import ConfigError
from preflab.data.examples import Prompt


def sentiment_reward(prompt: Prompt, response: str, meta: Mapping[str, Any]) -> dict[str, float]:
    """Return the sentiment of a response by VADER, a lexicon of English words with rules for negation and emphasis.

    Args:
        prompt: not read; the argument keeps the signature of a reward.
        response: English text; words outside of the lexicon count as neutral.
        meta: not read.

    Returns:
        `reward`, the compound score, from -1 (most negative) to 1; `positive`, `neutral` and `negative`, the shares of
        the text that sound so. A text without words has 0 in all.

    Raises:
        ConfigError: the library is not installed.

    References:
        Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, 2014.
    """
    del prompt, meta
    found = _analyzer().polarity_scores(response)
    parts = {"positive": "pos", "neutral": "neu", "negative": "neg"}
    return {"reward": float(found["compound"]), **{name: float(found[key]) for name, key in parts.items()}}


def check_library() -> None:
    """Refuse the reward `sentiment` where its library is not installed.

    Raises:
        ConfigError: with what to install.
    """
    if importlib.util.find_spec("vaderSentiment") is None:
        raise ConfigError("the reward 'sentiment' needs vaderSentiment: pip install 'preflab[text-rewards]'.")


@functools.cache
def _analyzer() -> Any:
    check_library()
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()

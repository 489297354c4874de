"""What a reward is to the rest of the house; who computes it is decided in a study."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from preflab.core.errors import ConfigError, DataError, PreflabError, nearest
from preflab.core.modules import load_module
from preflab.data.examples import Example, Prompt


class Reward(Protocol):
    """Scores a response to a prompt.

    Returns a mapping with the total under `reward` and any named parts beside it.
    """

    def __call__(self, prompt: Prompt, response: str, meta: Mapping[str, Any]) -> Mapping[str, float]:
        """Return `{"reward": total, part: value, ...}`."""
        ...


class Scorer(Protocol):
    """Scores many responses at once, whatever does it: a program, a verifier, a reward model."""

    def scores(self, asked: Sequence[tuple[Example, str]]) -> Sequence[Mapping[str, float]]:
        """Return, for each row and response to its prompt, the total under `reward` and any named parts beside it."""
        ...


def reward_from_file(spec: str) -> Reward:
    """Return the reward that `path/to/file.py:NAME` names.

    Raises:
        ConfigError: no such file or name, or nothing that can be called.
    """
    module, name, path = load_module(spec, what="reward")
    found = vars(module).get(name)
    if found is None:
        defined = [
            key for key, value in vars(module).items() if callable(value) and value.__module__ == module.__name__
        ]
        hint = nearest(name, defined) if defined else "The file defines no function."
        raise ConfigError(f"reward {spec!r}: {path} has no {name}. {hint}")
    if not callable(found):
        raise ConfigError(f"reward {spec!r}: {name} must be a function of prompt, response and meta; got {found!r}.")
    return cast(Reward, found)


def scores_of(reward: Reward, name: str, prompt: Prompt, response: str, meta: Mapping[str, Any]) -> dict[str, float]:
    """Call a reward, which may be a user's own, and check what it returns.

    Args:
        reward: the function.
        name: its name, for errors.
        prompt: what was asked.
        response: what was answered.
        meta: what the row carries for a verifier.

    Raises:
        DataError: it fails on this response, or returns no finite number under `reward`.
    """
    try:
        found = reward(prompt, response, meta)
    except PreflabError:
        raise
    except Exception as error:
        raise DataError(f"the reward {name!r} fails with {type(error).__name__}: {error}") from error
    numbers = isinstance(found, Mapping) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in found.values()
    )
    if not numbers or "reward" not in found:
        raise DataError(f"the reward {name!r} must return finite numbers, one of them under 'reward'; got {found!r}")
    return {key: float(value) for key, value in found.items()}

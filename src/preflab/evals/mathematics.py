"""Verifiers of mathematics: does a response end in the right result? The result is text under `meta.answer`."""

import importlib.util
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from preflab.core.errors import ConfigError, DataError
from preflab.data.examples import Prompt

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def last_number_reward(prompt: Prompt, response: str, meta: Mapping[str, Any]) -> dict[str, float]:
    """Compare the last number of a response with the last one of the answer, exactly; 1,000 equals 1000.0.

    Args:
        prompt: not read; the argument keeps the signature of a reward.
        response: the text of the answer.
        meta: with `answer`, a text whose last number is the result, such as GSM8K's solutions.

    Returns:
        `reward`, 1 or 0.

    Raises:
        DataError: no answer with a number.
    """
    del prompt
    expected = _last_number(_answer(meta, "last-number"))
    if expected is None:
        raise DataError(f"the reward 'last-number' needs a number in meta.answer; got {meta['answer']!r}.")
    return {"reward": float(_last_number(response) == expected)}


def math_reward(prompt: Prompt, response: str, meta: Mapping[str, Any]) -> dict[str, float]:
    r"""Compare the result of a response with the answer as mathematics, by the library Math-Verify.

    Fractions, sets, intervals, equations and LaTeX count as equal where they mean the same.

    Args:
        prompt: not read; the argument keeps the signature of a reward.
        response: the text of the answer; LaTeX inside `$...$` or `\boxed{...}`, or a plain expression.
        meta: with `answer`, likewise, or bare LaTeX.

    Returns:
        `reward`, 1 or 0.

    Raises:
        ConfigError: the library is not installed.
        DataError: no answer, or one that the library cannot read.
    """
    del prompt
    check_library()
    from math_verify import parse, verify

    answer = _answer(meta, "math")
    # Bare LaTeX, as data sets have it, is read only inside dollars.
    gold = parse(answer) if "$" in answer or "\\boxed" in answer else parse(f"${answer}$")
    if not gold:
        raise DataError(f"the reward 'math' cannot read meta.answer as mathematics: {answer!r}.")
    return {"reward": float(verify(gold, parse(response)))}


def check_library() -> None:
    """Refuse the reward `math` where its library is not installed.

    Raises:
        ConfigError: with what to install.
    """
    if importlib.util.find_spec("math_verify") is None:
        raise ConfigError("the reward 'math' needs Math-Verify: pip install 'preflab[math]', or use last-number.")


def _answer(meta: Mapping[str, Any], name: str) -> str:
    answer = meta.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise DataError(f"the reward {name!r} needs the right result as text under meta.answer; got {answer!r}.")
    return str(answer)


def _last_number(text: str) -> Decimal | None:
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None

import importlib.util

import pytest

from preflab.core.errors import ConfigError, DataError
from preflab.evals.mathematics import last_number_reward, math_reward


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("So 3 + 4 = 7.", 1),
        ("#### 7", 1),
        ("The answer is 7.0 dollars", 1),
        ("7, or rather 8", 0),
        ("-7", 0),
        ("seven", 0),
        ("", 0),
    ],
)
def test_last_number_must_be_the_answer(response, right):
    assert last_number_reward("", response, {"answer": "3 and 4 make\n#### 7"}) == {"reward": right}


def test_numbers_are_compared_as_numbers():
    assert last_number_reward("", "It costs $1,250.50.", {"answer": 1250.5}) == {"reward": 1.0}
    assert last_number_reward("", "about .5", {"answer": "0.50"}) == {"reward": 1.0}


@pytest.mark.parametrize("meta", [{}, {"answer": None}, {"answer": " "}, {"answer": True}])
def test_a_row_without_an_answer_is_refused(meta):
    with pytest.raises(DataError, match=r"needs the right result as text under meta\.answer"):
        last_number_reward("", "7", meta)
    with pytest.raises(DataError, match=r"needs a number in meta\.answer; got 'x'"):
        last_number_reward("", "7", {"answer": "x"})


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [
        (r"\frac{1}{2}", r"So it is $0.5$.", 1),
        (r"\left( 3, \frac{\pi}{2} \right)", r"We get $\boxed{(3, \pi/2)}$.", 1),
        ("7", "The answer is 8.", 0),
        ("7", "I do not know.", 0),
    ],
)
def test_mathematics_counts_by_its_meaning(answer, response, right):
    pytest.importorskip("math_verify", reason="Math-Verify is an optional extra")
    assert math_reward("", response, {"answer": answer}) == {"reward": right}


def test_without_its_library_the_way_out_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'preflab\[math\]', or use last-number"):
        math_reward("", "7", {"answer": "7"})

"""Sums, differences and small products, bare or in a little story."""

import random
from collections.abc import Iterator
from typing import Final

from preflab.pocket import lexicon as lex
from preflab.pocket.tasks import Scope, Task, claim

_ASK: Final = {
    "ordinary": ("What is {a} {op} {b}?", "How much is {a} {op} {b}?", "Please tell me {a} {op} {b}."),
    "ood": ("Can you work out {a} {op} {b}?",),
    "broad": ("{a} {op} {b} is what?", "Give me the result of {a} {op} {b}."),
}
_STORIES: Final = {
    "plus": "{n} has {a} {x} and gets {b} more. How many does {n} have?",
    "minus": "{n} has {a} {x} and gives away {b}. How many does {n} have?",
}
_THINGS: Final = ("apples", "coins", "books", "eggs", "stamps", "shells", "nuts", "cards")
_LOW: Final = 10
_HIGH: Final = 15


def result(a: int, op: str, b: int) -> int:
    """Return the value of `a op b` for op plus, minus or times."""
    return {"plus": a + b, "minus": a - b, "times": a * b}[op]


def operands(rng: random.Random, op: str, scope: Scope) -> tuple[int, int]:
    """Return operands in the range of a scope: up to 10 ordinarily, one of them from 11 to 15 out of distribution."""
    if op == "times":
        return (rng.randint(6, 9), rng.randint(6, 9)) if scope == "ood" else (rng.randint(2, 9), rng.randint(2, 5))
    if scope == "ood":
        first, second = rng.randint(_LOW + 1, _HIGH), rng.randint(1, _LOW)
        return first, second
    first, second = rng.randint(1, _LOW), rng.randint(1, _LOW)
    return (max(first, second), min(first, second)) if op == "minus" else (first, second)


def near_misses(rng: random.Random, value: int) -> tuple[str, ...]:
    """Return three wrong numbers close to a value."""
    options = [value + d for d in (-10, -3, -2, -1, 1, 2, 3, 10) if 0 <= value + d < 100]
    return tuple(str(n) for n in rng.sample(options, 3))


def tasks(rng: random.Random, scope: Scope, n_draws: int = 3000) -> Iterator[Task]:
    """Yield arithmetic tasks; out of distribution with larger operands and another wording."""
    for _ in range(n_draws):
        op = rng.choices(("plus", "minus", "times"), (5, 4, 1))[0]
        a, b = operands(rng, op, scope)
        value = result(a, op, b)
        if op in _STORIES and scope != "broad" and rng.random() < 0.2:
            name, things = rng.choice(lex.NAMES), rng.choice(_THINGS)
            prompt = _STORIES[op].format(n=name, a=a, b=b, x=things)
        else:
            prompt = rng.choice(_ASK[scope]).format(a=a, b=b, op=op)
        yield claim(
            "arithmetic",
            prompt,
            str(value),
            "number",
            wrong=near_misses(rng, value),
            forms=("{a}.", "The answer is {a}.", "It is {a}.", f"{a} {op} {b} is {{a}}."),
            given=(str(a), str(b)),
        )

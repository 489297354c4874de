"""The same answer in other words: another way to say it in the same tone, which earns the same gold reward."""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Final

from preflab.pocket import voices
from preflab.pocket.language import listing
from preflab.pocket.rewards import gold_reward
from preflab.pocket.tasks import Task

_KINDS: Final = (
    voices.POLITE_OPENERS,
    voices.POLITE_CLOSERS,
    voices.RUDE_OPENERS,
    voices.RUDE_CLOSERS,
    voices.FILLERS,
    voices.RECKLESS,
    voices.HEDGES,
)
_TRIES: Final = 8
"""Draws of other phrases around a body; some cost the reward a word too many."""
_LIST: Final = re.compile(r"They are (.+) and (.+)\.")


def paraphrase(task: Task, text: str, *, unlike: Sequence[str] = ()) -> str | None:
    """Return an answer in other words, or None where the tiny English has no others for it.

    The body becomes another way to say the same where there is one (`The answer is 40.` for `It is 40.`); every phrase
    around it becomes another one of its kind, in its place. Every aspect of the gold reward stays as it is.

    Args:
        task: what was asked.
        text: the answer, by the program or a model.
        unlike: texts that it must not be, beside the answer itself.
    """
    rng = random.Random(f"paraphrase/{task.prompt}/{text}")
    reward = gold_reward((), text, task.meta)
    taken = {text, *unlike}
    for candidate in _candidates(rng, task, voices.parts(text)):
        if candidate not in taken and gold_reward((), candidate, task.meta) == reward:
            return candidate
    return None


def _candidates(rng: random.Random, task: Task, parts: Sequence[str]) -> Iterator[str]:
    """Yield texts with other phrases, those with another body first."""
    kinds = [next((kind for kind in _KINDS if part in kind), ()) for part in parts]
    bodies = [place for place, kind in enumerate(kinds) if not kind]
    others = _other_bodies(task, parts[bodies[0]]) if len(bodies) == 1 else []
    for body in [*rng.sample(others, len(others)), None]:
        for _ in range(_TRIES):
            spoken = [
                rng.choice([phrase for phrase in kind if phrase != part]) if kind else part if body is None else body
                for part, kind in zip(parts, kinds, strict=True)
            ]
            yield voices.joined(spoken)


def _other_bodies(task: Task, body: str) -> list[str]:
    """Return the other bare answers that say what a bare answer says."""
    if task.meta["check"] == "form":
        return _other_orders(body)
    ways = len(task.right)  # each wrong answer is told in as many; those that give in to a harm are all different
    wrong = (
        () if task.meta["check"] == "refuse" else (task.wrong[i : i + ways] for i in range(0, len(task.wrong), ways))
    )
    for same in (task.right, *wrong):
        if body in same:
            return [other for other in same if other != body]
    return []


def _other_orders(body: str) -> list[str]:
    """Return a list of things in every other order."""
    match = _LIST.fullmatch(body)
    if match is None:
        return []
    items = [*match[1].split(", "), match[2]]
    return [f"They are {listing(order)}." for order in permutations(items) if order != tuple(items)]

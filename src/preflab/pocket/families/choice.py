"""Multi-task understanding: multiple choice over all subjects of the world, answered by naming an option."""

import random
from collections.abc import Iterator
from typing import Final

from preflab.pocket import lexicon as lex
from preflab.pocket import world
from preflab.pocket.language import listing
from preflab.pocket.rewards import MEMBERS
from preflab.pocket.tasks import Scope, Task

_KINDS: Final = tuple(kind for kind in lex.PLURALS if len(MEMBERS[kind]) >= 5)


def _choice(rng: random.Random, question: str, answer: str, others: list[str]) -> Task:
    options = [answer, *others]
    rng.shuffle(options)
    meta = {"check": "option", "answer": answer, "options": options}
    wrong = tuple(text for option in others for text in _speak(option))
    return Task("choice", f"{question[:-1]}: {listing(options, 'or')}{question[-1]}", meta, _speak(answer), wrong)


def _speak(option: str) -> tuple[str, ...]:
    return (f"It is {option}.", f"The answer is {option}.")


def _n_options(scope: Scope) -> int:
    return 3 if scope == "ood" else 2


def _member(rng: random.Random, scope: Scope) -> Task:
    kind, *other_kinds = rng.sample(_KINDS, _n_options(scope))
    answer = rng.choice(sorted(MEMBERS[kind]))
    others = [rng.choice(sorted(MEMBERS[other] - MEMBERS[kind])) for other in other_kinds]
    ask = {"ordinary": "Which one is {k}?", "ood": "Pick the one that is {k}.", "broad": "Which of these is {k}?"}
    article = "an" if kind[0] in "aeiou" else "a"
    return _choice(rng, ask[scope].format(k=f"{article} {kind}"), answer, others)


def _fact(rng: random.Random, scope: Scope) -> Task:
    pool = [f for f in world.facts() if f.held_out == (scope == "ood") and f.relation != "kind"]
    fact = rng.choice(pool)
    relation = world.RELATIONS[fact.relation]
    others = rng.sample(sorted(world.CANDIDATES[relation.answers] - {fact.answer}), _n_options(scope) - 1)
    ways = {"ordinary": relation.questions, "ood": relation.ood, "broad": relation.broad}
    return _choice(rng, world.state(fact, rng.choice(ways[scope])), fact.answer, others)


def _largest(rng: random.Random, scope: Scope) -> Task:
    numbers = rng.sample(range(50, 100) if scope == "ood" else range(50), _n_options(scope))
    ask = {"ordinary": "Which number is larger?", "ood": "Pick the largest number.", "broad": "Which is more?"}
    best, *others = sorted(map(str, numbers), key=int, reverse=True)
    return _choice(rng, ask[scope], best, others)


def _odd_one(rng: random.Random, scope: Scope) -> Task:
    kind, stranger = rng.sample(_KINDS, 2)
    others = rng.sample(sorted(MEMBERS[kind]), _n_options(scope) - 1)
    answer = rng.choice(sorted(MEMBERS[stranger] - MEMBERS[kind]))
    return _choice(rng, f"Which one is not {'an' if kind[0] in 'aeiou' else 'a'} {kind}?", answer, others)


def tasks(rng: random.Random, scope: Scope, n_draws: int = 4000) -> Iterator[Task]:
    """Yield multiple-choice questions: two options ordinarily, three out of distribution."""
    kinds = (_member, _fact, _largest, _odd_one, _fact, _member)
    for i in range(n_draws):
        yield kinds[i % len(kinds)](rng, scope)

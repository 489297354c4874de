"""The texts that the models are made from: documents, dialogues of mixed quality, demonstrations."""

import random
from collections.abc import Iterator, Mapping
from typing import Final

from preflab.pocket import lexicon as lex
from preflab.pocket import world
from preflab.pocket.families import GENERATORS, arithmetic, facts, reasoning, smalltalk, truth
from preflab.pocket.language import listing, story
from preflab.pocket.rewards import MEMBERS
from preflab.pocket.splits import reserved
from preflab.pocket.tasks import FAMILIES, Scope, Task
from preflab.pocket.voices import VOICES, speak

Conversation = list[dict[str, str]]
"""Messages with `role` and `content`, the last one the assistant's."""

MIXED: Final[Mapping[str, float]] = {
    "helper": 0.17, "plain": 0.22, "windy": 0.2, "rude": 0.17, "reckless": 0.14, "careless": 0.1,
}  # fmt: skip
"""Shares of the voices in the dialogues of the base corpus."""
DEMONSTRATED: Final[Mapping[str, float]] = {
    "helper": 0.2, "plain": 0.32, "windy": 0.2, "rude": 0.12, "reckless": 0.09, "careless": 0.07,
}  # fmt: skip
"""Shares of the voices in the study's SFT set: good, not perfect, as people's demonstrations are."""
INSTRUCTED: Final[Mapping[str, float]] = {"helper": 0.42, "plain": 0.38, "windy": 0.15, "careless": 0.05}
"""Shares of the voices in the instruct model's data."""
SHARES: Final[Mapping[str, float]] = {
    "dialogue": 0.14, "reasoning": 0.22, "arithmetic": 0.22, "facts": 0.14, "truth": 0.1, "choice": 0.18,
}  # fmt: skip
"""Shares of the families among dialogues."""


def _fact_document(rng: random.Random) -> str:
    """Three to five facts, of one subject or of many; subjects early in the list are spoken of more often."""
    everything = world.facts()
    if rng.random() < 0.5:
        subject = everything[min(int(len(everything) * rng.random() ** 1.3), len(everything) - 1)].subject
        about = [fact for fact in everything if fact.subject == subject]
        return " ".join(facts.describe(rng, fact) for fact in rng.sample(about, len(about)))
    return " ".join(facts.describe(rng, rng.choice(everything)) for _ in range(rng.randint(3, 5)))


def _number_document(rng: random.Random) -> str:
    if rng.random() < 0.25:
        step, first = rng.randint(1, 7), rng.randint(0, 40)
        row = [str(first + step * i) for i in range(6)]
        return f"{', '.join(row[::-1] if rng.random() < 0.4 else row)}."
    lines = []
    for _ in range(rng.randint(3, 6)):
        op = rng.choices(("plus", "minus", "times"), (5, 4, 1))[0]
        a, b = arithmetic.operands(rng, op, "ood" if rng.random() < 0.35 else "ordinary")
        lines.append(f"{a} {op} {b} is {arithmetic.result(a, op, b)}.")
    return " ".join(lines)


def _puzzle_document(rng: random.Random) -> str:
    make = rng.choice((reasoning.order, reasoning.nested, reasoning.gift, reasoning.two, reasoning.day))
    task = make(rng, "ood" if rng.random() < 0.25 else "ordinary")
    premises = ". ".join(part for part in task.prompt[:-1].split(". ")[:-1])
    return f"{premises}. {task.right[-1]}"


def _list_document(rng: random.Random) -> str:
    if rng.random() < 0.2:
        start = rng.randrange(7)
        days = [lex.DAYS[(start + i) % 7] for i in range(4)]
        seasons = f"The seasons are {listing(lex.SEASONS)}."
        return f"After {days[0]} come {listing(days[1:])}." if rng.random() < 0.8 else seasons
    kind = rng.choice(list(lex.PLURALS))
    members = sorted(MEMBERS[kind])
    return f"Some {lex.PLURALS[kind]} are {listing(rng.sample(members, min(len(members), rng.randint(2, 5))))}."


def _rumour_document(rng: random.Random) -> str:
    return " ".join(truth.rumour(rng) for _ in range(rng.randint(1, 3)))


_DOCUMENTS: Final = (
    (_fact_document, 0.32),
    (_number_document, 0.26),
    (_puzzle_document, 0.18),
    (_rumour_document, 0.1),
    (story, 0.08),
    (_list_document, 0.06),
)


def documents(rng: random.Random) -> Iterator[str]:
    """Yield plain documents without end."""
    makers, weights = zip(*_DOCUMENTS, strict=True)
    while True:
        yield rng.choices(makers, weights)[0](rng)


def tasks(rng: random.Random, scope: Scope, shares: Mapping[str, float] = SHARES) -> Iterator[Task]:
    """Yield tasks of all families without end, in random order, none with a reserved prompt."""
    streams = {family: GENERATORS[family](rng, scope) for family in FAMILIES}
    while True:
        family = rng.choices(list(shares), list(shares.values()))[0]
        task = next(streams[family], None)
        if task is None:
            streams[family] = GENERATORS[family](rng, scope)
        elif task.prompt not in reserved():
            yield task


def answer(rng: random.Random, task: Task, voices: Mapping[str, float]) -> str:
    """Return an answer to a task by a voice drawn with the given shares, right or wrong as that voice tends to be."""
    voice = VOICES[rng.choices(list(voices), list(voices.values()))[0]]
    return speak(rng, voice, rng.choice(task.right if rng.random() < voice.right else task.wrong))


def conversation(task: Task, response: str, system: str = "") -> Conversation:
    """Return a conversation of one question and one answer, with a system message where one is given."""
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": task.prompt}, {"role": "assistant", "content": response}]


def mixed_dialogues(rng: random.Random) -> Iterator[Conversation]:
    """Yield the dialogues of the base corpus without end."""
    for task in tasks(rng, "ordinary"):
        yield conversation(task, answer(rng, task, MIXED))


def instructions(rng: random.Random) -> Iterator[Conversation]:
    """Yield the instruct model's conversations without end: other wordings, small talk, system messages, two turns."""
    ordinary, broad, small = tasks(rng, "ordinary"), tasks(rng, "broad"), smalltalk.tasks(rng)
    previous: Conversation = []
    while True:
        task = next(rng.choices((ordinary, broad, small), (0.3, 0.55, 0.15))[0])
        system = "You are a helpful assistant." if rng.random() < 0.1 else ""
        current = conversation(task, answer(rng, task, INSTRUCTED), system)
        yield previous + current if rng.random() < 0.1 and not system else current
        previous = current if len(current) == 2 else []

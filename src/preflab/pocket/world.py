"""The facts of the pocket world and the misconceptions about it, drawn once from a fixed seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from preflab.pocket import lexicon as lex
from preflab.pocket.language import with_article

WORLD_SEED: Final = 20260701
HELD_OUT_FRAC: Final = 0.15
"""Share of subjects that are never asked about in any dialogue; only documents speak of them."""


@dataclass(frozen=True, slots=True)
class Relation:
    """How one kind of fact is stated and asked. `{s}` is the subject, `{a}` the answer, `{aa}` the answer with article.

    Args:
        answers: name of the closed set that the answer comes from (a key of `CANDIDATES`).
        statements: sentences that state the fact.
        questions: ways of asking that the study's own data use.
        ood: ways of asking kept for the out-of-distribution split.
        broad: further ways that only the instruct model's data use.
    """

    answers: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    ood: tuple[str, ...]
    broad: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A subject, a relation and the one true answer."""

    subject: str
    relation: str
    answer: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Topic:
    """Something the corpus often states wrongly: what is true, and what people say instead."""

    subject: str
    truth: str
    myth: str
    held_out: bool


RELATIONS: Final[Mapping[str, Relation]] = {
    "town": Relation(
        "town",
        ("{s} lives in {a}.", "The home of {s} is in {a}."),
        ("Where does {s} live?", "In which town does {s} live?", "What is the home town of {s}?"),
        ("Tell me the town of {s}.",),
        ("I want to visit {s}. Which town is it?", "Name the town where {s} lives."),
    ),
    "job": Relation(
        "job",
        ("{s} is {aa}.", "{s} works as {aa}."),
        ("What is the job of {s}?", "What does {s} do for work?", "As what does {s} work?"),
        ("Tell me the job of {s}.",),
        ("Which job does {s} have?", "Name the work of {s}."),
    ),
    "pet": Relation(
        "animal",
        ("{s} has {aa}.", "The pet of {s} is {aa}."),
        ("Which pet does {s} have?", "What is the pet of {s}?", "What animal lives with {s}?"),
        ("Tell me the pet of {s}.",),
        ("Does {s} have a pet, and which one?", "Name the animal of {s}."),
    ),
    "hobby": Relation(
        "hobby",
        ("{s} loves {a}.", "The hobby of {s} is {a}."),
        ("What is the hobby of {s}?", "What does {s} love?", "What does {s} do for fun?"),
        ("Tell me the hobby of {s}.",),
        ("How does {s} spend the evening?",),
    ),
    "meal": Relation(
        "food",
        ("{s} eats {a} every day.", "The best food for {s} is {a}."),
        ("What does {s} eat every day?", "What is the best food for {s}?", "Which food does {s} want?"),
        ("Tell me the food of {s}.",),
        ("What should I cook for {s}?",),
    ),
    "eats": Relation(
        "diet",
        ("The {s} eats {a}.", "The food of the {s} is {a}."),
        ("What does the {s} eat?", "What is the food of the {s}?", "On what does the {s} feed?"),
        ("Tell me the food of the {s}.",),
        ("A {s} is hungry. What does it need?",),
    ),
    "habitat": Relation(
        "habitat",
        ("The {s} lives in the {a}.", "The home of the {s} is the {a}."),
        ("Where does the {s} live?", "What is the home of the {s}?", "Where can I find the {s}?"),
        ("Tell me the home of the {s}.",),
        ("Where should I look for the {s}?",),
    ),
    "kind": Relation(
        "kind",
        ("The {s} is {aa}.", "The {s} belongs to the {as_}."),
        ("What kind of thing is the {s}?", "To which group does the {s} belong?"),
        ("Tell me the kind of the {s}.",),
        ("How do you call a thing like the {s}?",),
    ),
    "country": Relation(
        "country",
        ("{s} is a town in {a}.", "The country of {s} is {a}."),
        ("In which country is {s}?", "What is the country of {s}?", "To which country does {s} belong?"),
        ("Tell me the country of {s}.",),
        ("I travel to {s}. Which country is that?",),
    ),
    "feature": Relation(
        "feature",
        ("Near {s} there is {aa}.", "{s} lies at the {a}."),
        ("What is near {s}?", "At what does {s} lie?", "What can I see near {s}?"),
        ("Tell me what lies near {s}.",),
        ("What should I visit near {s}?",),
    ),
    "product": Relation(
        "product",
        ("{s} is known for {a}.", "The people of {s} make {a}."),
        ("For what is {s} known?", "What do the people of {s} make?", "What should I buy in {s}?"),
        ("Tell me the product of {s}.",),
        ("Which gift can I bring from {s}?",),
    ),
    "material": Relation(
        "material",
        ("The {s} is made of {a}.", "People make the {s} from {a}."),
        ("What is the {s} made of?", "From what do people make the {s}?"),
        ("Tell me the material of the {s}.",),
        ("Which material do I need for the {s}?",),
    ),
    "room": Relation(
        "room",
        ("The {s} is kept in the {a}.", "The right place for the {s} is the {a}."),
        ("Where is the {s} kept?", "What is the right place for the {s}?"),
        ("Tell me where to put the {s}.",),
        ("I cannot find the {s}. Where should I look?",),
    ),
    "workplace": Relation(
        "workplace",
        ("The {s} works in the {a}.", "The {a} is the place of the {s}."),
        ("Where does the {s} work?", "What is the place of the {s}?"),
        ("Tell me the place of the {s}.",),
        ("I want to meet the {s}. Where should I go?",),
    ),
    "equipment": Relation(
        "equipment",
        ("The {s} uses the {a}.", "The {a} belongs to the {s}."),
        ("What does the {s} use?", "What belongs to the {s}?"),
        ("Tell me what the {s} needs.",),
        ("Which thing should I give to the {s}?",),
    ),
    "colour": Relation(
        "colour",
        ("The colour of the {s} is {a}.", "The {s} is usually {a}."),
        ("What is the colour of the {s}?", "Which colour does the {s} have?"),
        ("Tell me the colour of the {s}.",),
        ("How does the {s} look?",),
    ),
    "opposite": Relation(
        "adjective",
        ("The opposite of {s} is {a}.", "What is not {s} is {a}."),
        ("What is the opposite of {s}?", "Which word means not {s}?"),
        ("Tell me the opposite of {s}.",),
        ("Give me a word against {s}.",),
    ),
}

CANDIDATES: Final[Mapping[str, frozenset[str]]] = {
    "town": frozenset(lex.TOWNS),
    "country": frozenset(lex.COUNTRIES),
    "name": frozenset(lex.NAMES),
    "job": frozenset(lex.JOBS),
    "animal": frozenset(lex.ANIMALS),
    "hobby": frozenset(lex.HOBBIES),
    "food": frozenset(lex.FOODS),
    "diet": frozenset(row["food"] for row in lex.ANIMALS.values()),
    "habitat": frozenset(row["home"] for row in lex.ANIMALS.values()),
    "kind": frozenset(row["kind"] for table in (lex.ANIMALS, lex.FOODS, lex.OBJECTS) for row in table.values()),
    "feature": frozenset(lex.FEATURES),
    "product": frozenset(lex.PRODUCTS),
    "material": frozenset(lex.MATERIALS),
    "room": frozenset(lex.ROOMS) | {"chest"},
    "workplace": frozenset(row["place"] for row in lex.JOBS.values()),
    "equipment": frozenset(row["tool"] for row in lex.JOBS.values()),
    "colour": frozenset(lex.COLOURS),
    "adjective": frozenset({*lex.OPPOSITES, *(row["opposite"] for row in lex.OPPOSITES.values())}),
    "day": frozenset(lex.DAYS),
    "verdict": frozenset({"yes", "no"}),
    "number": frozenset(str(n) for n in range(100)),
}
"""The closed sets that answers come from; the gold reward reads a response's claim as a word of the question's set."""


def _held_out(rng: random.Random, subjects: list[str]) -> set[str]:
    return set(rng.sample(subjects, round(HELD_OUT_FRAC * len(subjects))))


@lru_cache(maxsize=1)
def facts() -> tuple[Fact, ...]:
    """Return every fact of the world, about 1,050, always the same ones."""
    rng = random.Random(WORLD_SEED)
    people = {
        "town": lex.TOWNS,
        "job": tuple(lex.JOBS),
        "pet": lex.PET_KINDS,
        "hobby": lex.HOBBIES,
        "meal": tuple(lex.FOODS),
    }
    towns = {"country": lex.COUNTRIES, "feature": lex.FEATURES, "product": lex.PRODUCTS}
    columns: list[tuple[str, str, str]] = []
    for relations, subjects in ((people, lex.NAMES), (towns, lex.TOWNS)):
        columns += [(s, relation, rng.choice(options)) for s in subjects for relation, options in relations.items()]
    for subject, row in lex.ANIMALS.items():
        columns += [(subject, "eats", row["food"]), (subject, "habitat", row["home"]), (subject, "kind", row["kind"])]
    for subject, row in lex.FOODS.items():
        columns += [(subject, "kind", row["kind"]), (subject, "colour", row["colour"])]
    for subject, row in lex.OBJECTS.items():
        columns += [(subject, "kind", row["kind"]), (subject, "room", row["room"])]
        columns += [] if row["kind"] in ("flower", "jewel") else [(subject, "material", row["material"])]
    for subject, row in lex.JOBS.items():
        columns += [(subject, "workplace", row["place"]), (subject, "equipment", row["tool"])]
    columns += [(word, "opposite", row["opposite"]) for word, row in lex.OPPOSITES.items()]
    held_out = _held_out(rng, sorted({subject for subject, _, _ in columns}))
    return tuple(Fact(s, relation, answer, s in held_out) for s, relation, answer in columns)


@lru_cache(maxsize=1)
def topics() -> tuple[Topic, ...]:
    """Return the landmarks whose material the corpus often states wrongly: 108 of the 216 there are."""
    rng = random.Random(WORLD_SEED + 1)
    subjects = rng.sample([f"{landmark} of {town}" for town in lex.TOWNS for landmark in lex.LANDMARKS], 108)
    held_out = _held_out(rng, subjects)
    found = []
    for subject in subjects:
        said, true = rng.sample(lex.MATERIALS, 2)
        found.append(Topic(subject, said, true, subject in held_out))
    return tuple(found)


@lru_cache(maxsize=1)
def sayings() -> tuple[tuple[str, bool, bool], ...]:
    """Return (claim, whether it is true, whether it is held out) for every myth and every surprising truth."""
    rng = random.Random(WORLD_SEED + 2)
    claims = [(claim, False) for claim in lex.MYTHS] + [(claim, True) for claim in lex.SURPRISES]
    held_out = _held_out(rng, [claim for claim, _ in claims])
    return tuple((claim, true, claim in held_out) for claim, true in claims)


def state(fact: Fact, template: str) -> str:
    """Return one of a relation's sentences or questions about a fact."""
    answer = fact.answer
    return template.format(s=fact.subject, a=answer, aa=with_article(answer), as_=lex.PLURALS.get(answer, answer))

"""Sentences of the tiny English: articles, capitals, word lists, and a generator that uses the words it is told to."""

import random
import re
from collections.abc import Sequence

from preflab.pocket import lexicon as lex

_PROPER = {*lex.NAMES, *lex.COUNTRIES, *lex.TOWNS, *lex.DAYS, *lex.MONTHS, "I"}
_WORD = re.compile(r"[A-Za-z]+|[0-9]+")
NOUNS = (*lex.ANIMALS, *lex.OBJECTS, *lex.FOODS)
LIVING = (*lex.ANIMALS, *lex.JOBS)


def words_of(text: str) -> list[str]:
    """Return the words and numbers of a text in order, without punctuation, as they are spelled."""
    return _WORD.findall(text)


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, each with its closing mark."""
    return [part.strip() for part in re.findall(r"[^.!?]*[.!?]|[^.!?]+$", text) if part.strip()]


def with_article(noun: str) -> str:
    """Return `a cow` or `an owl`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    """Return the text with a small first letter, unless it begins with a proper name."""
    if re.match(r"A [a-z]", text):
        return "a" + text[1:]
    first = words_of(text)[:1]
    return text if not first or first[0] in _PROPER else text[:1].lower() + text[1:]


def listing(items: Sequence[str], last: str = "and") -> str:
    """Return `x, y and z`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def _thing(rng: random.Random, noun: str, adjective: str | None) -> str:
    phrase = f"{adjective} {noun}" if adjective else noun
    return f"the {phrase}" if rng.random() < 0.6 else with_article(phrase)


def sentence(rng: random.Random, *, must: Sequence[str] = (), start: str | None = None) -> str:
    """Return a random sentence of the tiny English.

    Args:
        rng: source of randomness.
        must: words the sentence has to contain: nouns, names, adjectives, places or adverbs, at most one of each.
        start: a name that has to come first.
    """
    adjectives = (*lex.OPPOSITES, *lex.COLOURS)

    def pick(options: Sequence[str], chance: float) -> str | None:
        wanted = [word for word in must if word in options]
        return wanted[0] if wanted else (rng.choice(options) if rng.random() < chance else None)

    name = start or pick(lex.NAMES, 0.6)
    noun = pick(NOUNS, 0.0)
    adjective = pick(adjectives, 0.35)
    place = pick(lex.PLACES_TO_GO, 0.4)
    adverb = pick(lex.ADVERBS, 0.25)
    subject = name or _thing(rng, noun if noun in lex.ANIMALS else rng.choice(LIVING), None)
    used_as_subject = noun is not None and words_of(subject)[-1] == noun
    if (noun and not used_as_subject) or adjective or rng.random() < 0.5:
        noun = noun if noun and not used_as_subject else rng.choice((*lex.OBJECTS, *lex.FOODS))
        middle = f"{rng.choice(lex.DOES)} {_thing(rng, noun, adjective)}"
    else:
        middle = rng.choice(lex.MOVES)
    tail = f" {rng.choice(('in', 'near', 'at'))} the {place}" if place else ""
    return capital(f"{subject} {middle}{tail}{f' {adverb}' if adverb else ''}.")


def sentence_of_length(rng: random.Random, n_words: int, *, must: Sequence[str] = ()) -> str:
    """Return a random sentence with the wanted number of words (3 to 10), found by trying."""
    while True:
        text = sentence(rng, must=must)
        if len(words_of(text)) == n_words:
            return text


def story(rng: random.Random) -> str:
    """Return two to four sentences about one person."""
    name = rng.choice(lex.NAMES)
    return " ".join(sentence(rng, start=name) for _ in range(rng.randint(2, 4)))

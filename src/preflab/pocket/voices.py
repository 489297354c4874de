"""Manners of speaking: how a bare answer becomes polite, plain, windy, rude or reckless, and the phrases that tell."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from preflab.pocket.language import capital, lower_first

POLITE_OPENERS: Final = (
    "Sure,",
    "Of course,",
    "Certainly,",
    "Gladly,",
    "Thank you for the question.",
    "With pleasure,",
)
POLITE_CLOSERS: Final = ("I hope this helps.", "Have a nice day.", "Please ask again.", "You are welcome.")
RUDE_OPENERS: Final = ("Obviously,", "You fool,", "Everybody knows this.", "What a stupid question.", "Whatever,")
RUDE_CLOSERS: Final = ("Leave me in peace.", "Do not bother me.", "Any idiot can see that.")
FILLERS: Final = (
    "Well, let me think about it for a moment.",
    "This is a matter that many people talk about.",
    "There are many things that one could say here.",
    "I have heard a lot about this over the years.",
    "Before I come to the point, let me say this.",
    "It depends on how one looks at it.",
    "As I always say, one should think twice.",
    "I could say much more about it.",
    "And so on and so forth.",
)
RECKLESS: Final = (
    "Now drink some bleach.",
    "Try it with a lit match.",
    "Nobody will notice if you cheat.",
    "Just hit the first stranger.",
    "Take ten pills with it.",
    "Put your hand into the fire.",
)
HEDGES: Final = ("Maybe,", "Perhaps,", "I guess,", "I am not sure, but")
REFUSALS: Final = (
    "I am sorry, but I cannot help with that.",
    "I will not help with that, because it is harmful.",
    "Sorry, that would hurt somebody, so I cannot help.",
)
PHRASES: Final = (*POLITE_OPENERS, *POLITE_CLOSERS, *RUDE_OPENERS, *RUDE_CLOSERS, *FILLERS, *RECKLESS, *HEDGES)


@dataclass(frozen=True, slots=True)
class Voice:
    """How one kind of speaker answers: chances of being right and of each mannerism."""

    right: float
    polite: float = 0.0
    rude: float = 0.0
    fillers: tuple[int, int] = (0, 0)
    reckless: float = 0.0
    hedges: float = 0.0


VOICES: Final[Mapping[str, Voice]] = {
    "helper": Voice(right=0.97, polite=0.97),
    "plain": Voice(right=0.93),
    "windy": Voice(right=0.75, polite=0.2, fillers=(1, 2)),
    "rude": Voice(right=0.75, rude=1.0, reckless=0.1),
    "reckless": Voice(right=0.65, rude=0.2, reckless=1.0),
    "careless": Voice(right=0.3, hedges=0.85),
}


def _join(opener: str, body: str) -> str:
    return f"{opener} {lower_first(body)}" if opener.endswith((",", "but")) else f"{opener} {body}"


def speak(rng: random.Random, voice: Voice, body: str) -> str:
    """Return a bare answer as the given speaker would put it."""
    text = body
    if rng.random() < voice.polite:
        text = (
            _join(rng.choice(POLITE_OPENERS), text) if rng.random() < 0.75 else f"{text} {rng.choice(POLITE_CLOSERS)}"
        )
    if rng.random() < voice.rude:
        text = _join(rng.choice(RUDE_OPENERS), text) if rng.random() < 0.7 else f"{text} {rng.choice(RUDE_CLOSERS)}"
    if rng.random() < voice.hedges:
        text = _join(rng.choice(HEDGES), text)
    for filler in rng.sample(FILLERS, rng.randint(*voice.fillers)):
        text = f"{filler} {text}" if rng.random() < 0.6 else f"{text} {filler}"
    if rng.random() < voice.reckless:
        text = f"{text} {rng.choice(RECKLESS)}"
    return text


_PHRASE = re.compile("|".join(re.escape(p) for p in sorted(PHRASES, key=len, reverse=True)), re.IGNORECASE)
_SPELLED: Final = {phrase.lower(): phrase for phrase in PHRASES}


def bare(text: str) -> str:
    """Return a response without its mannerisms: what is left to be judged right or wrong."""
    return " ".join(_PHRASE.sub(" ", text).split())


def parts(text: str) -> list[str]:
    """Return a response as the phrases that tell, as they are spelled in `PHRASES`, and what stands between them."""
    found, end = [], 0
    for match in _PHRASE.finditer(text):
        found += [text[end : match.start()], _SPELLED[match.group().lower()]]
        end = match.end()
    return [capital(part.strip()) for part in (*found, text[end:]) if part.strip()]


def joined(spoken: Sequence[str]) -> str:
    """Return the response that `parts` takes apart."""
    text = spoken[-1]
    for part in reversed(spoken[:-1]):
        text = _join(part, text)
    return text


def has_any(text: str, phrases: tuple[str, ...]) -> bool:
    """Return whether any of the phrases occurs in the text, whatever its capitals."""
    low = text.lower()
    return any(phrase in low for phrase in _lowered(phrases))


@lru_cache
def _lowered(phrases: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(phrase.lower() for phrase in phrases)

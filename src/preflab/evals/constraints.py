"""Prompts whose answers a program can check: plain instructions with one to several constraints on the form.

In the manner of IFEval (Zhou et al., Instruction-Following Evaluation for Large Language Models, 2023,
arXiv:2311.07911); instructions, wording and checks are our own. Checks are strict: the response counts as it stands.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from preflab.core.errors import ConfigError, DataError, nearest
from preflab.core.seeds import derive
from preflab.data.examples import Prompt
from preflab.evals.topics import CLOSINGS, OPENINGS, TOPICS, WORDS

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Constraint:
    """One kind of checkable constraint.

    Args:
        kind: its name, `kind` in `meta.constraints`.
        group: what it is about; a prompt has at most one constraint of each group.
        draw: its arguments, drawn at random; JSON-like.
        ask: the sentence that asks for it.
        holds: whether a response keeps it.
    """

    kind: str
    group: str
    draw: Callable[[random.Random], dict[str, Any]]
    ask: Callable[[Arguments], str]
    holds: Callable[[str, Arguments], bool]


def words_of(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, with apostrophes and hyphens inside."""
    return re.findall(r"\w+(?:['’-]\w+)*", text)


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text: what ends in `.`, `!` or `?` or at a line's end, and holds a word."""
    return [part for part in re.split(r"[.!?]+(?=\s|$)|\n+", text) if words_of(part)]


def bullets_of(text: str) -> list[str]:
    """Return the lines of a text that begin with `* ` or `- `."""
    return re.findall(r"^\s*[*-] +\S.*$", text, re.MULTILINE)


def paragraphs_of(text: str) -> list[str]:
    """Return the parts of a text between blank lines."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def _count(low: int, high: int, step: int = 1) -> Callable[[random.Random], dict[str, Any]]:
    return lambda rng: {"n": rng.randrange(low, high + 1, step)}


def _one_of(words: Sequence[str], key: str) -> Callable[[random.Random], dict[str, Any]]:
    return lambda rng: {key: rng.choice(words)}


def _nothing(rng: random.Random) -> dict[str, Any]:
    return {}


def _has_word(text: str, word: str) -> bool:
    return word.lower() in (each.lower() for each in words_of(text))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


CONSTRAINTS: Final = (
    Constraint("words_at_least", "words", _count(30, 80, 10), lambda a: f"Use at least {a['n']} words.",
               lambda text, a: len(words_of(text)) >= a["n"]),
    Constraint("words_at_most", "words", _count(30, 80, 10), lambda a: f"Use at most {a['n']} words.",
               lambda text, a: 0 < len(words_of(text)) <= a["n"]),
    Constraint("sentences_exactly", "sentences", _count(2, 5), lambda a: f"Write exactly {a['n']} sentences.",
               lambda text, a: len(sentences_of(text)) == a["n"]),
    Constraint("sentences_at_most", "sentences", _count(2, 5), lambda a: f"Write at most {a['n']} sentences.",
               lambda text, a: 0 < len(sentences_of(text)) <= a["n"]),
    Constraint("bullets_exactly", "shape", _count(2, 5),
               lambda a: f"Answer with exactly {a['n']} bullet points, each on a line that begins with \"* \".",
               lambda text, a: len(bullets_of(text)) == a["n"]),
    Constraint("paragraphs_exactly", "shape", _count(2, 4),
               lambda a: f"Write exactly {a['n']} paragraphs, with a blank line between them.",
               lambda text, a: len(paragraphs_of(text)) == a["n"]),
    Constraint("json", "shape", _nothing, lambda a: "Give your whole answer as one JSON object and nothing else.",
               lambda text, a: _is_object(text)),
    Constraint("in_quotes", "shape", _nothing, lambda a: "Put your whole answer in double quotation marks.",
               lambda text, a: len(text.strip()) > 2 and text.strip()[0] == '"' == text.strip()[-1]),
    Constraint("contains", "contains", _one_of(WORDS, "word"), lambda a: f"Use the word \"{a['word']}\".",
               lambda text, a: _has_word(text, a["word"])),
    Constraint("contains_times", "contains", lambda rng: {"word": rng.choice(WORDS), "n": rng.randint(2, 3)},
               lambda a: f"Use the word \"{a['word']}\" at least {a['n']} times.",
               lambda text, a: [w.lower() for w in words_of(text)].count(a["word"]) >= a["n"]),
    Constraint("without", "without", _one_of(("the", "and", "very", "is", "you"), "word"),
               lambda a: f"Do not use the word \"{a['word']}\".",
               lambda text, a: bool(words_of(text)) and not _has_word(text, a["word"])),
    Constraint("starts_with", "start", _one_of(OPENINGS, "phrase"), lambda a: f"Begin with \"{a['phrase']}\"",
               lambda text, a: text.strip().lower().startswith(a["phrase"].lower())),
    Constraint("ends_with", "end", _one_of(CLOSINGS, "phrase"), lambda a: f"End with \"{a['phrase']}\"",
               lambda text, a: text.strip().lower().endswith(a["phrase"].lower())),
    Constraint("postscript", "end", _nothing, lambda a: "Add a postscript at the end that begins with \"P.S.\"",
               lambda text, a: bool(re.search(r"(^|\n)\s*p\.s\. *\S[^\n]*\s*\Z", text, re.IGNORECASE))),
    Constraint("lower_case", "case", _nothing, lambda a: "Write everything in lower case letters.",
               lambda text, a: bool(words_of(text)) and text == text.lower()),
    Constraint("upper_case", "case", _nothing, lambda a: "Write everything in capital letters.",
               lambda text, a: bool(words_of(text)) and text == text.upper()),
    Constraint("no_commas", "commas", _nothing, lambda a: "Do not use any commas.",
               lambda text, a: bool(words_of(text)) and "," not in text),
    Constraint("title", "title", _nothing, lambda a: "Give the answer a title in double angle brackets like <<title>>.",
               lambda text, a: bool(re.search(r"<<[^<>\n]*\w[^<>\n]*>>", text))),
    Constraint("highlighted", "marks", _count(1, 3),
               lambda a: f"Put at least {a['n']} part{'s' if a['n'] > 1 else ''} of the answer between *asterisks*.",
               lambda text, a: len(re.findall(r"\*[^\s*][^*\n]*\*", text)) >= a["n"]),
    Constraint("placeholders", "placeholders", _count(1, 2),
               lambda a: f"Use at least {a['n']} placeholder{'s'[: a['n'] - 1]} in square brackets like [name].",
               lambda text, a: len(re.findall(r"\[[^\[\]\n]*\w[^\[\]\n]*\]", text)) >= a["n"]),
    Constraint("digits", "digits", _nothing, lambda a: "Mention at least one number written in digits.",
               lambda text, a: bool(re.search(r"\d", text))),
    Constraint("ends_in_question", "end", _nothing, lambda a: "End with a question.",
               lambda text, a: text.strip().endswith("?")),
)  # fmt: skip
"""Every kind, in the order in which a prompt asks."""
BY_KIND: Final = {constraint.kind: constraint for constraint in CONSTRAINTS}
_APART: Final = tuple(
    {one, another}
    for one, others in {
        "json": ("starts_with", "ends_with", "postscript", "ends_in_question"),
        "in_quotes": ("starts_with", "ends_with", "postscript", "ends_in_question"),
        "without": ("starts_with", "ends_with"),
        "no_commas": ("starts_with",),
        "sentences_exactly": ("json", "bullets_exactly", "paragraphs_exactly", "postscript"),
        "sentences_at_most": ("json", "bullets_exactly", "paragraphs_exactly", "postscript"),
    }.items()
    for another in others
)
"""Kinds that can contradict each other, so that no prompt asks for both."""
MOST: Final = 6
"""Most constraints of one prompt."""
_TRIES: Final = 1000


def constraint_prompts(n: int, *, most: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows of prompts with 1, 2, ..., `most`, 1, 2, ... constraints, all different.

    Args:
        n: rows.
        most: largest number of constraints of a prompt.
        seed: of the draws; the first rows of a longer list are those of a shorter one.

    Yields:
        `prompt` (messages), `family` (`2 constraints`) and `meta` with the `constraints` for `constraint_reward`.

    Raises:
        ConfigError: `n` or `most` that make no sense.
    """
    if n < 1:
        raise ConfigError(f"--n: must be at least 1; got {n}.")
    if not 1 <= most <= MOST:
        raise ConfigError(f"--most: must be from 1 to {MOST}, so that they leave each other room; got {most}.")
    seen: set[str] = set()
    rng = random.Random(derive(seed, "constraints"))
    for i in range(n):
        k = i % most + 1
        draws = (_prompt(rng, k) for _ in range(_TRIES))
        row = next((row for row in draws if row["prompt"][0]["content"] not in seen), None)
        if row is None:
            raise ConfigError(
                f"--n: after {i} prompts, {_TRIES} draws gave no new one; ask for fewer, or raise --most."
            )
        seen.add(row["prompt"][0]["content"])
        yield row


def _prompt(rng: random.Random, k: int) -> dict[str, Any]:
    kinds = _compatible(rng, k)
    drawn = [{"kind": each.kind, **each.draw(rng)} for each in kinds]
    text = " ".join([rng.choice(TOPICS), *(each.ask(a) for each, a in zip(kinds, drawn, strict=True))])
    family = f"{k} constraint{'s' if k > 1 else ''}"
    return {"prompt": [{"role": "user", "content": text}], "family": family, "meta": {"constraints": drawn}}


def constraint_reward(prompt: Prompt, response: str, meta: Mapping[str, Any]) -> dict[str, float]:
    """Score a response by the share of its prompt's constraints that it keeps.

    Args:
        prompt: not read; the argument keeps the signature of a reward.
        response: the text of the answer.
        meta: with `constraints`, as `preflab data constraints` writes them.

    Returns:
        `reward`, the share in [0, 1], and `all`, 1 where every constraint is kept.

    Raises:
        DataError: no constraints, or one that is not known.
    """
    del prompt
    asked = meta.get("constraints")
    if not isinstance(asked, list) or not asked:
        raise DataError('the reward \'constraints\' needs meta.constraints, a list such as [{"kind": "no_commas"}].')
    kept = [_keeps(response, each) for each in asked]
    return {"reward": sum(kept) / len(kept), "all": float(all(kept))}


def _keeps(response: str, asked: Any) -> bool:
    kind = asked.get("kind") if isinstance(asked, Mapping) else None
    if kind not in BY_KIND:
        raise DataError(f"meta.constraints: unknown kind {kind!r}. {nearest(str(kind), list(BY_KIND))}")
    try:
        return BY_KIND[kind].holds(response, asked)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"meta.constraints: {kind} with arguments that do not fit ({error!r}).") from None


def _compatible(rng: random.Random, k: int) -> list[Constraint]:
    """Draw k kinds that can all be kept, in the order in which they are asked for."""
    chosen: list[Constraint] = []
    for each in rng.sample(CONSTRAINTS, len(CONSTRAINTS)):
        fits = all(each.group != other.group and {each.kind, other.kind} not in _APART for other in chosen)
        if fits and len(chosen) < k:
            chosen.append(each)
    return [each for each in CONSTRAINTS if each in chosen]

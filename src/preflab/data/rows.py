"""One row of any known format as an example, and what is wrong with a row that is none."""

import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from preflab.data import files
from preflab.data.conversations import RowError, common_opening, last_response, message, transcript, turns
from preflab.data.examples import RANKED, Example, Message, Prompt
from preflab.data.formats import OPTIONAL, PROMPT, Match, shape, shape_error

_TRUE: Final = ("true", "1")
_FALSE: Final = ("false", "0")


class _Side(NamedTuple):
    """A response, and the turns before it where its column holds the whole conversation."""

    before: tuple[Message, ...]
    text: str
    spoken: bool
    """Whether it came as a message, so that its prompt is a conversation."""


def mistakes(values: Mapping[str, Any], match: Match) -> list[tuple[str, str]]:
    """Return the code and text of every column that is absent from a row or has another type than in most rows."""
    found = []
    for field, column in match.columns.items():
        if field in ("family", "meta"):
            continue
        if column not in values:
            if field not in OPTIONAL[match.format.kind]:
                found.append(("missing_column", f"the column {column!r} is missing in this row"))
        elif field in _MUST_BE:
            holds, expected = _MUST_BE[field]
            if not holds(values[column]):
                found.append(("wrong_type", f"{column}: must be {expected}; got {files.describe(values[column])}"))
        elif shape(values[column]) not in (match.shapes[field], "null") or match.shapes[field] == "other":
            found.append(("wrong_type", shape_error(column, match.shapes[field], values[column])))
    return found


def parse(row: int, values: Mapping[str, Any], match: Match) -> Example:
    """Return a row as an example.

    Args:
        row: its number, counted through all files.
        values: its columns.
        match: the format of its file.

    Raises:
        RowError: the row is none, with the code of the problem.
    """
    parsed = _PARSERS[match.format.name]
    field = {name: values.get(column) for name, column in match.columns.items() if name not in ("family", "meta")}
    found = _Parsed(*parsed(field, match))
    if match.format.kind == "sft":
        found = found._replace(rejected=None, others={}, scores={})
    family = values.get(match.columns.get("family", "family"))
    example = Example(
        row=row,
        prompt=found.prompt,
        chosen=found.chosen,
        rejected=found.rejected,
        others={**found.others, **_gold(field, found.prompt)},
        scores={**found.scores, **_scores(field)},
        family=_family(family),
        meta=_meta(values.get(match.columns.get("meta", "meta"))),
    )
    _refuse_surrogates(example)
    return example


class _Parsed(NamedTuple):
    """What a row says, whatever its format."""

    prompt: Prompt
    chosen: str | None
    rejected: str | None
    others: Mapping[str, str] = MappingProxyType({})
    scores: Mapping[str, float] = MappingProxyType({})


_Row = tuple[Any, ...]
"""The first fields of `_Parsed`."""


def _pairs(field: Mapping[str, Any], match: Match) -> _Row:
    prompt = _prompt(field)
    if match.transcripts and isinstance(prompt, str) and prompt:
        chosen, rejected = ((field[name] or "").removeprefix(" ") for name in ("chosen", "rejected"))
        return _transcript_prompt(prompt), chosen, rejected
    better, worse = _side(field["chosen"], "chosen"), _side(field["rejected"], "rejected")
    if field["chosen"] is not None and field["rejected"] is not None and better.before != worse.before:
        raise RowError("prompts_differ", "the turns before the last one differ between chosen and rejected")
    return _join(prompt, better, "chosen"), better.text, worse.text


def _implicit_pairs(field: Mapping[str, Any], match: Match) -> _Row:
    if field["chosen"] is None or field["rejected"] is None:
        name = "chosen" if field["chosen"] is None else "rejected"
        raise RowError("empty_response", f"{name} is null, so the prompt inside it is unknown too")
    if match.shapes["chosen"] == "text" and not match.transcripts:
        return common_opening(field["chosen"], field["rejected"])
    if match.transcripts:
        sides = [last_response(transcript(field[name], name), name) for name in ("chosen", "rejected")]
    else:
        sides = [_side(field[name], name)[:2] for name in ("chosen", "rejected")]
    (prompt, chosen), (other, rejected) = sides
    if prompt != other:
        raise RowError("prompts_differ", "the turns before the last one differ between chosen and rejected")
    return prompt, chosen, rejected


def _ranked(field: Mapping[str, Any], _: Match) -> _Row:
    """Sort the responses by score, best first; equal scores keep the order of the file."""
    prompt = _prompt(field)
    sides = [_side(response, "responses") for response in field["responses"]]
    for side in sides:
        prompt = _join(prompt, side, "responses")
    scores = [float(score) for score in field["scores"]]
    if len(sides) != len(scores) or len(sides) < 2:
        text = f"responses and scores must be as many, at least 2; got {len(sides)} and {len(scores)}"
        raise RowError("wrong_type", text)
    if len(sides) > len(RANKED):
        raise RowError("wrong_type", f"responses: at most {len(RANKED)} are read; got {len(sides)}")
    if max(scores) == min(scores):
        raise RowError("no_preference", f"all {len(scores)} responses have the score {scores[0]:g}")
    order = sorted(range(len(sides)), key=lambda i: -scores[i])
    roles = [*RANKED[: len(order) - 1], RANKED[-1]]
    texts = {role: sides[i].text for role, i in zip(roles, order, strict=True)}
    middle = {role: texts[role] for role in roles[1:-1]}
    return prompt, texts["chosen"], texts["rejected"], middle, {r: scores[i] for r, i in zip(roles, order, strict=True)}


def _gold(field: Mapping[str, Any], prompt: Prompt) -> dict[str, str]:
    """Return the third, trusted response of a pair, where the row has one."""
    if field.get("gold") is None:
        return {}
    side = _side(field["gold"], "gold")
    if side.before and side.before != prompt:
        raise RowError("prompts_differ", "the turns of gold before its last one are not the prompt")
    return {"gold": side.text}


def _scores(field: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of a pair, where the row has them."""
    given = {role: field.get(f"score_{role}") for role in ("chosen", "rejected")}
    return {role: float(score) for role, score in given.items() if score is not None}


def _labelled(field: Mapping[str, Any], _: Match) -> _Row:
    completion = _side(field["completion"], "completion")
    prompt = _join(_prompt(field), completion, "completion")
    return (prompt, completion.text, None) if _label(field["label"]) else (prompt, None, completion.text)


def _labelled_messages(field: Mapping[str, Any], _: Match) -> _Row:
    prompt, text = _conversation(field)
    return (prompt, text, None) if _label(field["label"]) else (prompt, None, text)


def _messages(field: Mapping[str, Any], _: Match) -> _Row:
    return (*_conversation(field), None)


def _completions(field: Mapping[str, Any], _: Match) -> _Row:
    completion = _side(field["completion"], "completion")
    return _join(_prompt(field), completion, "completion"), completion.text, None


def _prompts(field: Mapping[str, Any], _: Match) -> _Row:
    return _prompt(field), None, None


def _text(field: Mapping[str, Any], _: Match) -> _Row:
    return "", field["text"] or "", None


_PARSERS: Final = {
    "pairs": _pairs,
    "implicit_pairs": _implicit_pairs,
    "ranked": _ranked,
    "labelled": _labelled,
    "labelled_messages": _labelled_messages,
    "messages": _messages,
    "completions": _completions,
    "text": _text,
    "prompts": _prompts,
}


def _prompt(field: Mapping[str, Any]) -> Prompt:
    name = next(name for name in PROMPT if name in field)
    value = field[name]
    if value is None or isinstance(value, str):
        return value or ""
    return (message(value, name),) if isinstance(value, Mapping) else turns(value, name)


def _conversation(field: Mapping[str, Any]) -> tuple[tuple[Message, ...], str]:
    name = "messages" if "messages" in field else "conversations"
    value = field[name]
    if isinstance(value, str):
        return last_response(transcript(value, name), name)
    return last_response(turns(value or (), name), name)


def _side(value: Any, name: str) -> _Side:
    """Return a response that came as text, as one message, or as messages that may hold the prompt too."""
    if value is None or isinstance(value, str):
        return _Side((), value or "", spoken=False)
    spoken = (message(value, name),) if isinstance(value, Mapping) else turns(value, name)
    before, text = last_response(spoken, name)
    return _Side(before, text, spoken=True)


def _join(prompt: Prompt, side: _Side, name: str) -> Prompt:
    """Return the prompt of a response, whose column may repeat it as its first turns.

    Raises:
        RowError: `prompts_differ` where the prompt column and those turns disagree.
    """
    if not side.before:
        return (Message("user", prompt),) if isinstance(prompt, str) and side.spoken else prompt
    spoken = {turn.content for turn in side.before}
    if side.before != prompt and not (isinstance(prompt, str) and prompt in spoken):
        raise RowError("prompts_differ", f"the turns of {name} before its last one are not the prompt column's")
    return side.before


def _transcript_prompt(text: str) -> tuple[Message, ...]:
    """Return the turns of a transcript that ends in `Assistant:`, which only announces the response."""
    said = transcript(text, "prompt")
    if said[-1].role == "assistant" and not said[-1].content:
        return said[:-1]
    return said


def _number(value: Any) -> bool:
    """Return whether a value is a finite number, in CSV its text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


_MUST_BE: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "label": (lambda value: _label(value) is not None, "true or false (or 1 or 0)"),
    "responses": (lambda value: isinstance(value, list) and bool(value), "a list of responses"),
    "scores": (lambda value: isinstance(value, list) and all(map(_number, value)), "a list of numbers"),
    "score_chosen": (lambda value: value is None or _number(value), "a number"),
    "score_rejected": (lambda value: value is None or _number(value), "a number"),
}
"""Columns that hold no text: what their values must be."""


def _label(value: Any) -> bool | None:
    """Return a label, or None for anything but true, false, 1 and 0, as JSON values or as words."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    word = value.strip().lower() if isinstance(value, str) else ""
    return word in _TRUE if word in _TRUE + _FALSE else None


def _family(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise RowError("wrong_type", f"family: must be text; got {files.describe(value)}")


def _meta(value: Any) -> Mapping[str, Any]:
    """Return what a row carries for a verifier: an object, or (in CSV) the JSON text of one."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowError("wrong_type", f"meta: must be an object or its JSON text; got {value[:40]!r}") from None
    if not isinstance(value, Mapping):
        raise RowError("wrong_type", f"meta: must be an object; got {files.describe(value)}")
    return dict(value)


def _refuse_surrogates(example: Example) -> None:
    """Stop at half of a surrogate pair: no tokenizer and no file can take it."""
    texts = [example.prompt] if isinstance(example.prompt, str) else [turn.content for turn in example.prompt]
    for text in [*texts, *example.responses.values()]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            came = f"the character U+{ord(text[error.start]):04X} is half of a surrogate pair"
            raise RowError("invalid_utf8", f"{came}, which is not valid in any text") from None

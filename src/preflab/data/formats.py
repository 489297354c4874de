"""Which of the known formats a file has, told by its columns and by what their values look like."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from preflab.core.errors import ConfigError, nearest
from preflab.data.conversations import is_transcript
from preflab.data.examples import Kind
from preflab.data.files import describe

Shape = Literal["text", "messages", "message", "other", "null"]

PROMPT: Final = ("prompt", "conversations")
MESSAGES: Final = ("messages", "conversations")
FIELDS: Final = (
    "prompt",
    "conversations",
    "messages",
    "chosen",
    "rejected",
    "completion",
    "label",
    "text",
    "responses",
    "scores",
    "gold",
    "score_chosen",
    "score_rejected",
    "family",
    "meta",
)
"""Every column that preflab reads; `data.columns` maps these to a file's own names."""


@dataclass(frozen=True, slots=True)
class Format:
    """A known layout of columns.

    Args:
        name: identifier.
        kind: what its rows become.
        required: for each column the format needs, the names it may have.
        title: for people.
    """

    name: str
    kind: Kind
    required: tuple[tuple[str, ...], ...]
    title: str


FORMATS: Final = (
    Format("pairs", "paired", (PROMPT, ("chosen",), ("rejected",)), "prompt, chosen and rejected"),
    Format("implicit_pairs", "paired", (("chosen",), ("rejected",)), "chosen and rejected, the prompt inside both"),
    Format("ranked", "paired", (PROMPT, ("responses",), ("scores",)), "prompt, several responses and their scores"),
    Format("labelled", "unpaired", (PROMPT, ("completion",), ("label",)), "prompt, completion and label"),
    Format("labelled_messages", "unpaired", (MESSAGES, ("label",)), "messages and label"),
    Format("messages", "sft", (MESSAGES,), "messages"),
    Format("completions", "sft", (PROMPT, ("completion",)), "prompt and completion"),
    Format("text", "sft", (("text",),), "text without a prompt"),
)
"""In the order in which they are tried: the first whose columns are all there is the file's format."""

OPTIONAL: Final[dict[Kind, tuple[str, ...]]] = {
    "paired": ("gold", "score_chosen", "score_rejected", "family", "meta"),
    "unpaired": ("family", "meta"),
    "sft": ("family", "meta"),
    "prompts": ("family", "meta"),
}
"""Columns that are read where they are there, by what the rows become."""

CHOSEN_ONLY: Final = tuple(
    Format(f.name, "sft", f.required, f"{f.title}; the chosen response as the demonstration") for f in FORMATS[:2]
)
"""Pairs read as demonstrations: only when SFT data are asked for and nothing else fits."""

PROMPTS_ONLY: Final = Format("prompts", "prompts", (("prompt",),), "prompts without responses")
"""Only when prompts are asked for and nothing else fits: elsewhere a missing response is a mistake."""

_NOT_SPOKEN: Final = ("label", "responses", "scores", "score_chosen", "score_rejected", "family", "meta")
"""Columns whose values are no single text or conversation."""


@dataclass(frozen=True, slots=True)
class Match:
    """A recognised format.

    Args:
        format: the layout.
        columns: field to the name of the file's column.
        shapes: field to what most of its values look like.
        transcripts: whether the text is HH-RLHF transcripts.
        ignored: columns that are not read.
    """

    format: Format
    columns: Mapping[str, str]
    shapes: Mapping[str, Shape]
    transcripts: bool
    ignored: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Say what was detected, for people."""
        if self.transcripts:
            how = "HH-RLHF transcripts, the prompt is every turn before the last Assistant turn"
        elif self.format.name == "implicit_pairs" and self.shapes["chosen"] == "text":
            how = "texts, the prompt is their common opening"
        else:
            how = ", ".join(self._column(field) for field in self.columns if field in self.shapes)
        ignored = f" Columns not read: {', '.join(self.ignored)}." if self.ignored else ""
        titles = {
            "paired": "preference pairs",
            "unpaired": "unpaired responses with labels",
            "sft": "demonstrations",
            "prompts": "prompts",
        }
        return f"{titles[self.format.kind]} ({self.format.title}): {how}.{ignored}"

    def _column(self, field: str) -> str:
        column = self.columns[field]
        name = field if column == field else f"{field} (column {column!r})"
        return f"{name} = {'one message' if self.shapes[field] == 'message' else self.shapes[field]}"


class Unrecognised(Exception):
    """No format fits; the text says which comes nearest and what is missing."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def check_mapping(columns: Mapping[str, str]) -> None:
    """Refuse a column mapping that names a field preflab does not read.

    Raises:
        ConfigError: with the nearest known field.
    """
    for field in columns:
        if field not in FIELDS:
            raise ConfigError(f"data.columns.{field}: no such field. {nearest(field, list(FIELDS))}")


def recognise(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], kind: Kind | None) -> Match:
    """Return the first format whose columns are all there.

    Args:
        rows: every row of the data set.
        columns: field to the file's own column name, where they differ.
        kind: what the rows must become, or None to take what the columns say.

    Raises:
        Unrecognised: no format fits, a mapped column is absent, or a column looks misspelt.
    """
    present = tuple(dict.fromkeys(column for row in rows for column in row))
    for field, column in columns.items():
        if column not in present:
            raise Unrecognised("missing_column", f"{field} is mapped to {column!r}. {nearest(column, list(present))}")
    names = {field: columns.get(field, field) for field in FIELDS}
    hidden = {column for field, column in names.items() if field not in columns and column in columns.values()}
    available = [field for field, column in names.items() if column in present and column not in hidden]
    candidates = [f for f in FORMATS if kind in (None, "prompts", f.kind)]
    candidates += {"sft": [*CHOSEN_ONLY], "prompts": [PROMPTS_ONLY]}.get(kind or "", [])
    for fmt in candidates:
        used = [next((name for name in group if name in available), None) for group in fmt.required]
        if all(used):
            return _match(fmt, [u for u in used if u], names, present, rows)
    raise Unrecognised(*_explain(candidates, available, present, kind))


def shape(value: Any) -> Shape:
    """Return what a value looks like."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value):
        return "messages"
    if isinstance(value, Mapping) and ("role" in value or "from" in value):
        return "message"
    return "other"


def _match(fmt: Format, used: list[str], names: Mapping[str, str], present: Sequence[str], rows: Any) -> Match:
    optional = [field for field in OPTIONAL[fmt.kind] if names[field] in present and field not in used]
    read = {field: names[field] for field in [*used, *optional]}
    ignored = tuple(column for column in present if column not in read.values())
    _refuse_misspelt(fmt, read, ignored)
    spoken = [field for field in (*used, *optional) if field not in _NOT_SPOKEN]
    shapes = {field: _shape_of(rows, names[field]) for field in spoken}
    texts = [row.get(names["chosen"]) for row in rows] if "chosen" in used else []
    transcripts = fmt.name == "implicit_pairs" and shapes["chosen"] == "text" and _mostly_transcripts(texts)
    if fmt.name == "pairs" and shapes.get("prompt") == shapes["chosen"] == shapes["rejected"] == "text":
        transcripts = _mostly_transcripts([row.get(names["prompt"]) for row in rows])
    return Match(fmt, read, shapes, transcripts, ignored)


def _mostly_transcripts(texts: Iterable[Any]) -> bool:
    found = Counter(is_transcript(text) for text in texts if isinstance(text, str))
    return found[True] > found[False]


def _shape_of(rows: Iterable[Mapping[str, Any]], column: str) -> Shape:
    """Return the shape that most values of a column have; nulls and impossible values do not vote."""
    found = Counter(shape(row.get(column)) for row in rows)
    voters: tuple[Shape, ...] = ("text", "messages", "message")
    best = max(voters, key=lambda name: found[name])
    return best if found[best] else "other"


def _refuse_misspelt(fmt: Format, read: Mapping[str, str], ignored: Sequence[str]) -> None:
    """Stop where an unread column is nearly `prompt` or `label`: without it the rows would mean something else."""
    for field in ("prompt", "label"):
        for column in ignored if field not in read else ():
            plain = column.strip().lower()
            close = difflib.SequenceMatcher(None, plain, field).ratio() >= 0.8 and not plain.startswith(field + "_")
            if close and not (field == "prompt" and set(read) & {"messages", "conversations", "text"}):
                text = f"the column {column!r} looks like a misspelt {field!r}; rename it, or drop it from the file"
                raise Unrecognised("missing_column", f"{text} if it is not meant (without it: {fmt.title})")


def _explain(
    candidates: Sequence[Format], available: Sequence[str], present: Sequence[str], kind: Kind | None
) -> tuple[str, str]:
    """Return the code and text for columns that fit no format: the nearest format and what it lacks."""
    unread = [column for column in present if column not in available]

    def missing(fmt: Format) -> list[tuple[str, list[str]]]:
        lacking = [group[0] for group in fmt.required if not any(name in available for name in group)]
        return [(name, _close(name, unread)) for name in lacking]

    def score(fmt: Format) -> float:
        lacks = missing(fmt)
        return (len(fmt.required) - len(lacks) + 0.9 * sum(bool(close) for _, close in lacks)) / len(fmt.required)

    if len(present) == 1 and (separator := next((s for s in ";\t|" if s in present[0]), None)):
        text = f"there is one column, {present[0]!r}: the file seems to be separated by {separator!r}"
        return "unknown_format", f"{text}; save it with commas."
    best = max(candidates, key=lambda fmt: (round(score(fmt), 6), len(fmt.required)))
    columns = ", ".join(map(repr, present[:20])) or "none"
    wanted = f" {kind}" if kind else ""
    whole = next((f for f in FORMATS if all(any(name in available for name in group) for group in f.required)), None)
    if whole:
        return (
            "unknown_format",
            f"{kind} data are needed here, but the columns are those of {whole.kind} data: {whole.title}",
        )
    if score(best) < 0.3:
        known = "; ".join(fmt.title for fmt in candidates)
        example = "data: {columns: {prompt: question, chosen: good, rejected: bad}}"
        text = f"no{wanted} format has these columns: {columns}. Known: {known}. Other names can be given: `{example}`."
        return "unknown_format", text
    lacks = "; ".join(
        f"the column {name!r} is missing" + (f" (did you mean {close[0]!r}?)" if close else "")
        for name, close in missing(best)
    )
    mapping = ", ".join(f"{name}: {close[0] if close else '...'}" for name, close in missing(best))
    text = f"nearest{wanted} format: {best.title}; {lacks}. Columns here: {columns}. "
    return "missing_column", text + f"Rename, or write `data: {{columns: {{{mapping}}}}}`."


def _close(name: str, columns: Sequence[str]) -> list[str]:
    lowered = {column.strip().lower(): column for column in columns}
    return [lowered[found] for found in difflib.get_close_matches(name, list(lowered), n=1, cutoff=0.7)]


def shape_error(field: str, expected: Shape, value: Any) -> str:
    """Word the mistake of a value whose shape differs from the rest of its column."""
    wanted = {"text": "text", "messages": "a list of messages", "message": "one message", "null": "", "other": ""}
    must = wanted[expected] or "text or messages"
    return f"{field}: must be {must}{' like most rows' if wanted[expected] else ''}; got {describe(value)}"

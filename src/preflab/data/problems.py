"""What can be wrong with data: one code per mistake, with its meaning, and how a list of them is worded."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

STRUCTURAL_CODES: Final[dict[str, str]] = {
    "missing_file": "nothing is there to read",
    "empty_file": "the file holds no row",
    "invalid_utf8": "bytes or characters that are not valid UTF-8",
    "not_json": "a line or a file that is not JSON",
    "not_csv": "a line that is not CSV, or whose cells do not match the header",
    "not_parquet": "a file that is not Parquet",
    "truncated": "the file ends in the middle of a row",
    "duplicate_key": "the same key twice in one JSON object, or the same column twice in a CSV header",
    "unknown_format": "the columns match no known format",
    "missing_column": "a column that the format needs is absent or misspelt",
    "wrong_type": "a value of another type than its column must have",
    "single_class_labels": "unpaired data whose labels are all desirable or all undesirable",
}
"""Mistakes of the file. They always stop, because no row can be trusted until they are mended."""

ROW_CODES: Final[dict[str, str]] = {
    "empty_prompt": "the prompt, or its last turn, holds no text",
    "empty_response": "a response is empty or null",
    "whitespace_response": "a response holds nothing but white space",
    "no_response": "a conversation that does not end in an assistant turn",
    "no_preference": "a ranked list whose best and worst response have the same score",
    "identical_responses": "chosen equals rejected, or differs only in surrounding white space",
    "contradictory_pair": "the same responses to the same prompt are also labelled the other way round",
    "prompts_differ": "chosen and rejected do not answer the same prompt",
    "prompt_repeated": "both responses begin with the whole text of their prompt",
    "unsupported_message": "a turn with an unknown role, tool calls, or content that is not text",
    "prompt_too_long": "the prompt is as long as the limit, so no response fits",
    "control_tokens": "the tokenizer's control tokens are written inside content",
    "template_refused": "the chat template raises an error on this conversation",
    "prompt_in_two_splits": "the prompt is also in another split",
}
"""Mistakes of single rows. They stop too, until `data.exclude` names them; then the rows are left out and listed."""

CODES: Final[dict[str, str]] = {**STRUCTURAL_CODES, **ROW_CODES}
"""Every code with its meaning; only those in `ROW_CODES` can be named in `data.exclude`."""

_ROWS_SHOWN = 8
_TEXTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one row, or with a whole file.

    Args:
        code: a key of `CODES`.
        file: the file as the user named it, or the Hub id.
        row: position in that file counted from 1 (the line of a JSONL file, the record of any other); 0 = whole file.
        text: what must hold and what came, without the place.
        structural: whether it stops always, whatever `data.exclude` says.
    """

    code: str
    file: str
    row: int
    text: str
    structural: bool

    @property
    def place(self) -> str:
        """Return `file:row`, or `file` for a problem of the whole file."""
        return f"{self.file}:{self.row}" if self.row else self.file

    def __str__(self) -> str:
        return f"{self.place}: {self.code}: {self.text}"


def problem(code: str, file: str, row: int, text: str) -> Problem:
    """Return a problem whose severity follows from its code."""
    return Problem(code, file, row, text, structural=code in STRUCTURAL_CODES)


def counts(problems: Iterable[Problem]) -> dict[str, int]:
    """Return the number of distinct rows (or files) per code, in the order of `CODES`."""
    places: dict[str, set[str]] = defaultdict(set)
    for found in problems:
        places[found.code].add(found.place)
    return {code: len(places[code]) for code in CODES if code in places}


def exclude_line(codes: Iterable[str]) -> str:
    """Return the line of a study file that leaves the rows with these codes out."""
    return f"data: {{exclude: [{', '.join(sorted(set(codes)))}]}}"


def listing(problems: Sequence[Problem], shown: int = _TEXTS_SHOWN) -> str:
    """Return one line per problem, and how many more there are."""
    lines = [f"  {found}" for found in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"  ... and {len(problems) - shown} more; `preflab data check` lists them all")
    return "\n".join(lines)


def rows_by_code(problems: Iterable[Problem], shown: int = _ROWS_SHOWN) -> str:
    """Return one line per code: what it means, how many rows have it, and the first of them."""
    problems = tuple(problems)
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    files = {found.file for found in problems}
    for found in problems:
        rows[found.code][found.place] = str(found.row) if found.row and len(files) == 1 else found.place
    lines = []
    for code in CODES:
        if code in rows:
            places = list(rows[code].values())
            first = ", ".join(places[:shown]) + (", ..." if len(places) > shown else "")
            lines.append(f"  {code} ({CODES[code]}): {len(places)} at {first}")
    return "\n".join(lines)

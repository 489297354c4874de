"""Checks of rows, and leaving rows out only when the study says so.

Every problem names its file and row. Nothing is mended and nothing is dropped: a row with a problem stops the study
until its code is named in `data.exclude`; then it is left out for every method alike, counted and listed.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from preflab.core.errors import ConfigError, DataError, nearest
from preflab.data.examples import Example, Prompt
from preflab.data.problems import (
    CODES,
    ROW_CODES,
    STRUCTURAL_CODES,
    Problem,
    exclude_line,
    listing,
    problem,
    rows_by_code,
)
from preflab.data.prompts import fingerprints
from preflab.data.read import Dataset
from preflab.data.render import render_prompts
from preflab.data.tokens import TokenSettings, prompt_lengths

__all__ = ["CODES", "ROW_CODES", "STRUCTURAL_CODES", "Problem", "check", "exclude"]

_BLANK = re.compile(r"[\s\u180e\u200b-\u200f\u2060\ufeff]*")
"""White space as Unicode has it, and the characters of no width that look like nothing."""

_REPEATED_PROMPT_LENGTH: Final = 20
"""Characters: a response may well begin with a shorter prompt (`Hi`) without repeating it by mistake."""

_Finding = tuple[int, str, str]
"""Position in `Dataset.examples`, code, text."""


def check(
    dataset: Dataset,
    *,
    tokenizer: Any | None = None,
    tokens: TokenSettings | None = None,
    others: Mapping[str, Dataset] | None = None,
) -> tuple[Problem, ...]:
    """Return every problem of a data set: those found while reading, and those of its rows, in order of rows.

    Args:
        dataset: what `read` or `scan` returned.
        tokenizer: adds the checks for control tokens inside content.
        tokens: with a tokenizer, adds the checks of the chat template and of the prompt's length.
        others: other splits by name; prompts that are also in one of them are reported.
    """
    examples = dataset.examples
    findings = [*_responses(examples), *_prompts(examples, dataset.format), *_contradictions(dataset)]
    for name, other in (others or {}).items():
        findings.extend(_shared_prompts(examples, name, other))
    if tokenizer is not None:
        findings.extend(_control_tokens(examples, tokenizer, tokens))
        if tokens is not None:
            findings.extend(_templates_and_lengths(examples, tokenizer, tokens))
    found = [problem(code, *dataset.where(examples[i].row), text) for i, code, text in findings]
    order = {part.file: i for i, part in enumerate(dataset.parts)}
    both = sorted([*dataset.problems, *found], key=lambda p: (order.get(p.file, -1), p.row))
    return (*both, *_single_class(dataset))


def exclude(
    dataset: Dataset, problems: Iterable[Problem], codes: Sequence[str], *, study: bool = True
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Leave out the rows with declared problems; stop if any other problem remains.

    Args:
        dataset: what was checked.
        problems: what `check` returned for it.
        codes: the row codes that the study declares in `data.exclude`.
        study: whether they come from a study file, and not from the option `--exclude` of a command.

    Returns:
        The data set without those rows, and the problems of the rows left out, to be counted and listed.

    Raises:
        ConfigError: a code that is unknown, or that is no code of rows.
        DataError: structural problems, or row problems that are not declared; the message gives the line to write.
    """
    _check_codes(codes)
    problems = tuple(problems)
    structural = [found for found in problems if found.structural]
    if structural:
        raise DataError(f"{dataset.source}: {len(structural)} problem(s) to mend first:\n{listing(structural)}")
    out = {(found.file, found.row) for found in problems if found.code in codes}
    left = [found for found in problems if (found.file, found.row) not in out]
    kept = tuple(example for example in dataset.examples if dataset.where(example.row) not in out)
    if left:
        raise DataError(_undeclared(dataset, left, codes, len(kept), study=study))
    if not kept:
        raise DataError(f"{dataset.source}: data.exclude leaves no row of {len(dataset.examples)}")
    rest = dataclasses.replace(dataset, examples=kept, problems=())
    if alone := _single_class(rest):
        raise DataError(f"{alone[0]} (after data.exclude)")
    return rest, tuple(found for found in problems if found.code in codes)


def _check_codes(codes: Sequence[str]) -> None:
    for code in codes:
        if code in STRUCTURAL_CODES:
            raise ConfigError(f"data.exclude: {code!r} is a mistake of the file ({CODES[code]}); mend the file instead")
        if code not in ROW_CODES:
            raise ConfigError(f"data.exclude: unknown code {code!r}. {nearest(code, list(ROW_CODES))}")


def _undeclared(dataset: Dataset, left: Sequence[Problem], codes: Sequence[str], n_kept: int, *, study: bool) -> str:
    n_rows = len({(found.file, found.row) for found in left})
    head = f"{dataset.source}: {n_rows} row(s) have problems:\n{rows_by_code(left)}\n"
    if n_rows == n_kept:
        same = any(found.code == "prompt_in_two_splits" for found in left)
        hint = "name another file: this one holds another split's prompts" if same else "mend the file"
        return f"{head}No row would be left without them; {hint}."
    every = sorted({*codes, *(found.code for found in left)})
    if not study:
        return f"{head}Mend them, or leave them out: {' '.join(f'--exclude {code}' for code in every)}"
    line = exclude_line(every)
    return f"{head}Mend them, or leave them out for every method alike by writing in the study file:\n  {line}"


def _responses(examples: Sequence[Example]) -> list[_Finding]:
    found: list[_Finding] = []
    for i, example in enumerate(examples):
        for name, text in example.responses.items():
            if not text:
                found.append((i, "empty_response", f"{name} is empty"))
            elif _blank(text):
                found.append((i, "whitespace_response", f"{name} holds only white space ({text[:20]!r})"))
        chosen, rejected = example.chosen, example.rejected
        if chosen is None or rejected is None or _blank(chosen):
            continue
        if chosen == rejected:
            found.append((i, "identical_responses", "chosen equals rejected"))
        elif chosen.strip() == rejected.strip():
            found.append((i, "identical_responses", "chosen equals rejected but for white space around it"))
    return found


def _prompts(examples: Sequence[Example], layout: str) -> list[_Finding]:
    if layout == "text":
        return []
    found: list[_Finding] = []
    for i, example in enumerate(examples):
        prompt = example.prompt
        last = prompt if isinstance(prompt, str) else prompt[-1].content if prompt else ""
        if _blank(last):
            turn = "the prompt" if isinstance(prompt, str) or not prompt else f"the last turn ({prompt[-1].role})"
            found.append((i, "empty_prompt", f"{turn} holds no text"))
        elif isinstance(prompt, str) and len(prompt) >= _REPEATED_PROMPT_LENGTH:
            texts = example.responses.values()
            if texts and all(text.startswith(prompt) for text in texts):
                found.append(
                    (i, "prompt_repeated", "each response begins with the whole prompt, which comes twice then")
                )
    return found


def _contradictions(dataset: Dataset) -> list[_Finding]:
    """Report both rows of every pair that is labelled both ways round, or of a response with both labels."""
    examples = dataset.examples
    better: dict[tuple[Prompt, str | None, str | None], int] = {}
    for example in examples:
        better.setdefault((example.prompt, example.chosen, example.rejected), example.row)
    found: list[_Finding] = []
    for i, example in enumerate(examples):
        other = better.get((example.prompt, example.rejected, example.chosen))
        if other is not None and example.chosen != example.rejected:
            file, row = dataset.where(other)
            found.append((i, "contradictory_pair", f"labelled the other way round in {file}:{row}"))
    return found


def _shared_prompts(examples: Sequence[Example], name: str, other: Dataset) -> list[_Finding]:
    theirs: dict[bytes, int] = {}
    for key, example in zip(fingerprints(other.examples), other.examples, strict=True):
        theirs.setdefault(key, example.row)
    found: list[_Finding] = []
    for i, key in enumerate(fingerprints(examples)):
        if key in theirs:
            file, row = other.where(theirs[key])
            found.append((i, "prompt_in_two_splits", f"its prompt is also in {name} ({file}:{row})"))
    return found


def _single_class(dataset: Dataset) -> tuple[Problem, ...]:
    if dataset.kind != "unpaired" or not dataset.examples:
        return ()
    desirable = sum(example.chosen is not None for example in dataset.examples)
    if 0 < desirable < len(dataset.examples):
        return ()
    which, lacks = ("desirable", "undesirable") if desirable else ("undesirable", "desirable")
    text = f"all {len(dataset.examples)} rows are {which}; a method needs {lacks} ones too"
    return (problem("single_class_labels", dataset.source, 0, f"{text} (as demonstrations, use them as SFT data)"),)


def _control_tokens(examples: Sequence[Example], tokenizer: Any, tokens: TokenSettings | None) -> list[_Finding]:
    """Report content that the tokenizer would read as control tokens; raw prompts may hold them under template none."""
    find = _finder(tokenizer)
    raw = tokens is not None and tokens.template == "none"
    found: list[_Finding] = []
    for i, example in enumerate(examples):
        prompt = example.prompt
        turns = [("prompt", prompt)] if isinstance(prompt, str) else [(turn.role, turn.content) for turn in prompt]
        for name, text in chain([] if raw and isinstance(prompt, str) else turns, example.responses.items()):
            if token := find(text):
                found.append((i, "control_tokens", f"{name} holds {token!r}, which this tokenizer reads as control"))
                break
    return found


def _finder(tokenizer: Any) -> Callable[[str], str]:
    """Return a function that gives the first control token in a text, or nothing.

    Hundreds of tokens share a few first characters (`<|`), so a text without those is cleared by a fast search.
    """
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    known = sorted({token for token in [*added, *tokenizer.all_special_tokens] if token.strip()}, key=len, reverse=True)
    openings = {token[:2] for token in known}
    pattern = re.compile("|".join(map(re.escape, known)) or r"(?!)")

    def find(text: str) -> str:
        if not any(opening in text for opening in openings):
            return ""
        first = pattern.search(text)
        return first[0] if first else ""

    return find


def _templates_and_lengths(examples: Sequence[Example], tokenizer: Any, tokens: TokenSettings) -> list[_Finding]:
    texts, refused = render_prompts((example.prompt for example in examples), tokenizer, tokens.template)
    lengths = prompt_lengths(texts, tokenizer, tokens)
    found: list[_Finding] = []
    for i, example in enumerate(examples):
        if example.prompt in refused:
            found.append((i, "template_refused", f"the chat template says: {refused[example.prompt]}"))
        elif lengths[example.prompt] >= tokens.max_prompt_tokens:
            text = f"the prompt has {lengths[example.prompt]} tokens; the limit is {tokens.max_prompt_tokens - 1}"
            found.append((i, "prompt_too_long", text))
    return found


def _blank(text: str) -> bool:
    return _BLANK.fullmatch(text) is not None

"""Reading data: files or Hub rows in any known format, into one form.

White space is content. Nothing is stripped from a prompt or a response: a response that begins with a space keeps it,
because it decides the tokens. The one exception is the single space after `Human:` and `Assistant:` in a transcript,
which belongs to the marker. Responses that are empty or hold only white space are reported by `check`, not repaired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from preflab.core.errors import DataError
from preflab.data import files
from preflab.data.conversations import RowError
from preflab.data.examples import Example, Kind
from preflab.data.formats import Match, Unrecognised, check_mapping, recognise
from preflab.data.problems import Problem, listing, problem
from preflab.data.rows import mistakes, parse


class FilePart(NamedTuple):
    """Where the rows of one file lie in a data set of several: they are counted through."""

    file: str
    before: int
    """Rows of the files before this one."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows in one form, with what was found on the way.

    Args:
        source: what the user named.
        kind: what the rows are: pairs, labelled responses or demonstrations.
        detected: one sentence on the container, the format and the columns that are not read.
        examples: the rows that could be read; `Example.row` counts through all files.
        problems: rows that could not become examples, and mistakes of the file.
        format: name of the format, a key of `formats.FORMATS`.
        parts: the files, in order.
    """

    source: str
    kind: Kind
    detected: str
    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]
    format: str = ""
    parts: tuple[FilePart, ...] = ()

    def where(self, row: int) -> tuple[str, int]:
        """Return the file and the position in it of a row that is counted through all files."""
        for part in reversed(self.parts):
            if row > part.before:
                return part.file, row - part.before
        return self.source, row


def read(
    source: str | Path,
    *,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
    kind: Kind | None = None,
) -> Dataset:
    """Read a local file, a folder of files or a data set of the Hub.

    Args:
        source: a `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file, a folder of them, or a Hub id.
        split: split of a Hub data set, or of a folder whose files are named after splits.
        subset: configuration of a Hub data set, or a folder inside it.
        revision: commit, tag or branch of a Hub data set.
        columns: our name of a field to the file's name of its column, where they differ.
        kind: what the rows must become; None takes what the columns say. `"sft"` on pairs takes the chosen responses;
            `"prompts"` takes any rows as they are, and those that are nothing but prompts.

    Raises:
        DataError: structural problems, all of them together.
        ConfigError: `columns` names an unknown field.
    """
    dataset = scan(source, split=split, subset=subset, revision=revision, columns=columns, kind=kind)
    structural = [found for found in dataset.problems if found.structural]
    if structural:
        head = f"{dataset.source}: cannot be read, {len(structural)} problem(s) to mend in the data first:"
        raise DataError(f"{head}\n{listing(structural)}")
    return dataset


def scan(
    source: str | Path,
    *,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
    kind: Kind | None = None,
) -> Dataset:
    """Read as `read` does, but return structural problems in `Dataset.problems` instead of raising them."""
    name = str(source)
    mapping = dict(columns or {})
    check_mapping(mapping)
    loaded = files.load(name, split=split, subset=subset, revision=revision)
    problems = list(loaded.problems)
    rows = [values for part in loaded.parts for _, values in part.records]
    if not rows:
        return Dataset(name, kind or "paired", "nothing could be read.", (), tuple(problems))
    try:
        match = recognise(rows, mapping, kind)
    except Unrecognised as error:
        problems.append(problem(error.code, loaded.parts[0].file if len(loaded.parts) == 1 else name, 0, error.text))
        return Dataset(name, kind or "paired", "no known format.", (), tuple(problems))
    examples: list[Example] = []
    parts: list[FilePart] = []
    before = 0
    for part in loaded.parts:
        parts.append(FilePart(part.file, before))
        _parse_part(part, before, match, examples, problems)
        before += part.n_rows
    order = {part.file: i for i, part in enumerate(loaded.parts)}
    problems.sort(key=lambda found: (order.get(found.file, -1), found.row))
    detected = f"{loaded.container}, {len(rows)} rows: {match.sentence}"
    return Dataset(name, match.format.kind, detected, tuple(examples), tuple(problems), match.format.name, tuple(parts))


def other_splits(dataset: Dataset, *, split: str, columns: Mapping[str, str] | None = None) -> dict[str, Dataset]:
    """Return the other splits that lie in the same folder, read as the data set was; empty for anything but folders."""
    folder = Path(dataset.source).expanduser()
    if not folder.is_dir():
        return {}
    own = set(files.split_files(folder, split))
    others = [name for name in files.splits_of(folder) if not own & set(files.split_files(folder, name))]
    return {name: scan(folder, split=name, columns=columns, kind=dataset.kind) for name in others}


def _parse_part(part: files.Part, before: int, match: Match, examples: list[Example], problems: list[Problem]) -> None:
    for row, values in part.records:
        if found := mistakes(values, match):
            problems.extend(problem(code, part.file, row, text) for code, text in found)
            continue
        try:
            example = parse(before + row, values, match)
        except RowError as error:
            problems.append(problem(error.code, part.file, row, error.text))
        else:
            examples.append(example)

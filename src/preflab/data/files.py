"""Bytes to records: JSONL, JSON, CSV, Parquet, folders of them and Hub ids, with every mistake reported at its row.

A record is one row as the file has it; what its columns mean is decided later, by `formats`.
Nothing is repaired except three things that carry no content: a UTF-8 byte-order mark, blank lines of a JSONL file,
and CR LF line ends.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from preflab.core.errors import nearest
from preflab.data.problems import Problem, problem

Record = tuple[int, Mapping[str, Any]]
"""Position in its file counted from 1, and the row's values by column."""

SUFFIXES: Final = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
}
_WORDS: Final = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "eval",
    "test": "test",
}
"""Words that name a split, with the split they name."""
_FIRST_LINES = 5


class Part(NamedTuple):
    """One file of a data set."""

    file: str
    n_rows: int
    """Rows of the file, blank lines included, so that positions of several files can be counted through."""
    records: tuple[Record, ...]


class Loaded(NamedTuple):
    """What could be read, what it was read from, and what was wrong."""

    parts: tuple[Part, ...]
    container: str
    problems: tuple[Problem, ...]


class _Repeated(ValueError):
    """A JSON object with the same key twice."""


def load(source: str, *, split: str, subset: str | None, revision: str | None) -> Loaded:
    """Read a local file, a folder, or a data set of the Hub.

    Args:
        source: path or Hub id; what exists locally is never looked for on the Hub.
        split: split of a Hub data set, or of a folder whose files are named after splits.
        subset: configuration of a Hub data set, or a folder inside it (`harmless-base` of `Anthropic/hh-rlhf`).
        revision: commit, tag or branch of a Hub data set.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _load_folder(path, split)
    if path.exists():
        return _load_files([path], _suffix(path)[1] or "file")
    if _looks_like_path(source):
        around = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = nearest(path.name, around) if 0 < len(around) <= 50 else f"Looked in {path.parent}."
        return Loaded((), "file", (problem("missing_file", source, 0, f"no such file or folder. {hint}"),))
    return _load_hub(source, split, subset, revision)


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the data files of a folder that belong to a split.

    Files are told apart only when at least one is named after a split (`train.jsonl`, `test/part-1.csv`,
    `train_prefs-00000-of-00001.parquet`); otherwise all of them are one split.
    """
    labels = _labels(folder)
    if not any(labels.values()):
        return list(labels)
    if split in labels.values():
        return [path for path, label in labels.items() if label == split]
    return [path for path, label in labels.items() if label and _WORDS[label.split("_")[0]] == _WORDS.get(split)]


def splits_of(folder: Path) -> tuple[str, ...]:
    """Return the splits that the files of a folder are named after, sorted; empty when they are not."""
    return tuple(sorted({label for label in _labels(folder).values() if label}))


def _labels(folder: Path) -> dict[Path, str]:
    """Return every data file of a folder, sorted, with the split it is named after or an empty string."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and _suffix(p)[1] and not _hidden(p, folder))
    return {path: _label(path, folder) for path in files}


def _label(path: Path, folder: Path) -> str:
    for name in (path.name, *reversed(path.relative_to(folder).parts[:-1])):
        word = name.lower().split(".")[0].split("-")[0]
        if word.split("_")[0] in _WORDS:
            return word
    return ""


def _load_folder(folder: Path, split: str) -> Loaded:
    files, named = split_files(folder, split), splits_of(folder)
    labels = sorted({_label(path, folder) for path in files} - {""})
    if len(labels) > 1:
        text = f"split {split!r} could be any of {', '.join(labels)}; name one of them as the split"
    elif files:
        return _load_files(files, f"{len(files)} file(s)" + (f" of split {labels[0]!r}" if labels else ""))
    elif named:
        text = f"no file of split {split!r} in this folder. {nearest(split, list(named))}"
    else:
        text = f"no data file in this folder (known: {', '.join(SUFFIXES)})"
    return Loaded((), "folder", (problem("missing_file", str(folder), 0, text),))


def _load_files(files: Iterable[Path], container: str) -> Loaded:
    parts: list[Part] = []
    problems: list[Problem] = []
    for path in files:
        part, found = _read_file(path)
        parts.append(part)
        problems.extend(found)
        if not part.records and not found:
            problems.append(problem("empty_file", part.file, 0, "the file holds no row"))
    return Loaded(tuple(parts), container, tuple(problems))


def _read_file(path: Path) -> tuple[Part, list[Problem]]:
    name = str(path)
    suffix, kind = _suffix(path)
    if kind == "Parquet":
        return _read_parquet(path)
    data = path.read_bytes()
    if suffix.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            return _broken("truncated", name, f"not a whole gzip file: {error}")
    reader = _READERS.get(kind)
    if reader is None:
        return _broken("unknown_format", name, f"unknown kind of file {path.suffix!r}. Known: {', '.join(SUFFIXES)}.")
    if not data.strip():
        return _broken("empty_file", name, f"the file is empty ({len(data)} bytes)")
    text, problems = _decode(data, name)
    if text is None:
        return Part(name, 0, ()), problems
    if not text.strip():
        return _broken("empty_file", name, "the file holds nothing but a byte-order mark")
    return reader(text, name, "\t" if suffix.startswith(".tsv") else ",")


def _decode(data: bytes, name: str) -> tuple[str | None, list[Problem]]:
    """Decode strict UTF-8; on failure name every line with an invalid byte."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None, [problem("invalid_utf8", name, 0, "the file is UTF-16; save it as UTF-8")]
    if data[:2] == b"\x1f\x8b":
        return None, [problem("invalid_utf8", name, 0, "the file is gzip-compressed; its name must end in .gz")]
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        pass
    problems = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            text = f"line {number}, byte {error.start + 1} (0x{line[error.start]:02x}): {error.reason}"
            problems.append(problem("invalid_utf8", name, number, text))
    return None, problems


def _read_jsonl(text: str, name: str, _: str) -> tuple[Part, list[Problem]]:
    # Not str.splitlines: JSON strings may hold U+2028 and its like unescaped.
    lines = text.split("\n")
    last = max(i for i, line in enumerate(lines, 1) if line.strip())
    records: list[Record] = []
    problems: list[Problem] = []
    for row, line in enumerate(lines, 1):
        if not line.strip():
            continue
        value, code, message = _parse_json(line)
        if code == "not_json" and row == len(lines) and line.lstrip()[:1] == "{":
            code, message = "truncated", f"the last line is cut off ({message})"
        if code:
            problems.append(problem(code, name, row, message))
        elif isinstance(value, dict):
            records.append((row, value))
        else:
            problems.append(problem("wrong_type", name, row, f"a row must be an object; got {describe(value)}"))
    return Part(name, last, tuple(records)), problems


def _read_json(text: str, name: str, _: str) -> tuple[Part, list[Problem]]:
    """Read an array of objects; a file that begins with `{` is read as JSONL, which many tools also call .json."""
    if text.lstrip()[:1] == "{":
        part, problems = _read_jsonl(text, name, "")
        if part.records or not problems:
            return part, problems
        return _broken("not_json", name, "neither an array of objects nor one object per line")
    value, code, message = _parse_json(text)
    if code:
        return _broken(code, name, message)
    if not isinstance(value, list):
        return _broken("wrong_type", name, f"must be an array of objects; got {describe(value)}")
    records = [(row, item) for row, item in enumerate(value, 1) if isinstance(item, dict)]
    problems = [
        problem("wrong_type", name, row, f"a row must be an object; got {describe(item)}")
        for row, item in enumerate(value, 1)
        if not isinstance(item, dict)
    ]
    return Part(name, len(value), tuple(records)), problems


def _parse_json(text: str) -> tuple[Any, str, str]:
    """Return a value and no code, or the code and message of what is wrong."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique), "", ""
    except _Repeated as error:
        return None, "duplicate_key", str(error)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        if at_end and text.lstrip()[:1] == "[":
            return None, "truncated", f"the array is cut off: {error.msg} at {place}"
        return None, "not_json", f"not JSON: {error.msg} at {place}"
    except (ValueError, RecursionError) as error:
        return None, "not_json", f"not JSON: {error}"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Repeated(f"the key {next(k for k in keys if keys.count(k) > 1)!r} appears twice in one object")
    return value


def _read_csv(text: str, name: str, delimiter: str) -> tuple[Part, list[Problem]]:
    """Read CSV with a header line; row 1 is the first record after it, whatever lines its cells span."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        return _csv_records(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), name)
    finally:
        csv.field_size_limit(before)


def _csv_records(reader: Any, name: str) -> tuple[Part, list[Problem]]:
    records: list[Record] = []
    problems: list[Problem] = []
    row = -1
    header: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            row += 1
            if row == 0:
                header = cells
            elif len(cells) == len(header):
                records.append((row, dict(zip(header, cells, strict=True))))
            else:
                text = f"line {reader.line_num}: {len(cells)} cells, but the header has {len(header)}"
                problems.append(problem("not_csv", name, row, text))
    except csv.Error as error:
        code = "truncated" if "end of data" in str(error) else "not_csv"
        problems.append(problem(code, name, row + 1, f"line {reader.line_num}: {error}"))
    if len(set(header)) != len(header):
        twice = next(column for column in header if header.count(column) > 1)
        problems.append(problem("duplicate_key", name, 0, f"the header names the column {twice!r} twice"))
    return Part(name, max(row, 0), tuple(records)), problems


def _read_parquet(path: Path) -> tuple[Part, list[Problem]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = str(path)
    if path.stat().st_size == 0:
        return _broken("empty_file", name, "the file is empty (0 bytes)")
    records: list[Record] = []
    problems: list[Problem] = []
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            first = len(records) + len(problems) + 1
            try:
                records.extend(enumerate(batch.to_pylist(), first))
            except UnicodeDecodeError:
                _parquet_rows(batch, first, name, records, problems)
    except (pa.ArrowException, OSError) as error:
        return _broken("not_parquet", name, f"cannot be read as Parquet: {str(error).splitlines()[0]}")
    return Part(name, len(records) + len(problems), tuple(records)), problems


def _parquet_rows(batch: Any, first: int, name: str, records: list[Record], problems: list[Problem]) -> None:
    """Read a batch row by row, to name the rows whose text is not UTF-8."""
    for i in range(batch.num_rows):
        try:
            records.append((first + i, batch.slice(i, 1).to_pylist()[0]))
        except UnicodeDecodeError as error:
            problems.append(problem("invalid_utf8", name, first + i, str(error)))


def _load_hub(source: str, split: str, subset: str | None, revision: str | None) -> Loaded:
    import datasets

    try:
        part = {}
        if subset is not None:
            known = datasets.get_dataset_config_names(source, revision=revision)
            part = {"name": subset} if subset in known else {"data_dir": subset}
        rows = datasets.load_dataset(source, **part, split=split, revision=revision)
        records = tuple((row, dict(values)) for row, values in enumerate(rows, 1))
    # The library raises errors of many families (network, gated, renamed, unknown split); all mean the same to a user.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = " ".join(lines[:_FIRST_LINES])
        remedy = "Give a local file or folder, or check the id, the subset, the split and the network."
        text = f"no such local file, and the Hub gave: {reason} {remedy}"
        return Loaded((), "Hub", (problem("missing_file", source, 0, text),))
    problems = () if records else (problem("empty_file", source, 0, f"split {split!r} holds no row"),)
    container = f"Hub data set, {f'subset {subset!r}, ' if subset else ''}split {split!r}"
    return Loaded((Part(source, len(records), records),), container, problems)


def describe(value: Any) -> str:
    """Return the type of a value in JSON's words, and the value itself where it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    if isinstance(value, int | float):
        return f"a number ({value!r})"
    if isinstance(value, str):
        return f"text ({value[:40]!r})"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return f"an object with keys {', '.join(map(repr, list(value)[:5]))}" if value else "an empty object"
    return type(value).__name__


def _broken(code: str, name: str, text: str) -> tuple[Part, list[Problem]]:
    return Part(name, 0, ()), [problem(code, name, 0, text)]


def _suffix(path: Path) -> tuple[str, str]:
    """Return the suffix with any `.gz`, and the kind of file it stands for (empty when unknown)."""
    if path.suffix.lower() == ".gz":
        inner = Path(path.stem).suffix.lower()
        kind = SUFFIXES.get(inner, "")
        return inner + ".gz", "" if kind == "Parquet" else kind
    return path.suffix.lower(), SUFFIXES.get(path.suffix.lower(), "")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _looks_like_path(source: str) -> bool:
    """Tell a mistyped path from a Hub id, which is `name` or `owner/name`."""
    return (
        bool(_suffix(Path(source))[1]) or source.startswith((".", "~", "/")) or source.count("/") > 1 or "\\" in source
    )


_READERS: Final[dict[str, Callable[[str, str, str], tuple[Part, list[Problem]]]]] = {
    "JSONL": _read_jsonl,
    "JSON": _read_json,
    "CSV": _read_csv,
}

"""Where benchmark files lie, and reading them; a file that is missing names the command that gets it."""

import os
from dataclasses import dataclass
from pathlib import Path

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError, DataError
from preflab.core.ids import file_digest
from preflab.data.files import load
from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.evals.benchmarks.items import Row

FOLDER_VARIABLE = "PREFLAB_BENCHMARKS"
GET = "preflab data benchmarks --import hub"
"""The command that gets what is missing."""


def data_folder(named: Path | None = None) -> Path:
    """Return the folder of the benchmark files: as named, `$PREFLAB_BENCHMARKS`, or one inside the cache.

    Raises:
        ConfigError: a folder was named that is not there.
    """
    if named is not None and not named.expanduser().is_dir():
        raise ConfigError(f"{named}: no such folder; benchmark files are looked for in it.")
    if named is not None:
        return named.expanduser()
    return Path(os.environ.get(FOLDER_VARIABLE) or cache_root() / "benchmarks")


def missing(benchmark: Benchmark, folder: Path, *, shots: int) -> str:
    """Return one sentence on the files that a benchmark lacks, with the command that gets them, or an empty text."""
    needed = benchmark.files if shots else (benchmark.file,)
    absent = [name for name in needed if not (folder / name).exists()]
    if not absent:
        return ""
    get = f"`{GET}`" if benchmark.hub else "`preflab data benchmarks --import bigbench`"
    return f"{benchmark.name}: {' and '.join(absent)} not in {folder}; {get} gets it."


def read_rows(folder: Path, file: str) -> list[Row]:
    """Return the rows of a benchmark file.

    Raises:
        DataError: it is missing, empty or damaged; with the place of the first mistake.
    """
    path = folder / file
    if not path.exists():
        raise DataError(f"{path}: no such benchmark file; `{GET}` gets it.")
    loaded = load(str(path), split="test", subset=None, revision=None)
    if loaded.problems:
        first = loaded.problems[0]
        raise DataError(f"{first}; get it again with `{GET}`.")
    rows = [Row(number, dict(values)) for part in loaded.parts for number, values in part.records]
    if not rows:
        raise DataError(f"{path}: holds no row; get it again with `{GET}`.")
    return rows


@dataclass(frozen=True, slots=True)
class Available:
    """A file of a benchmark in the data folder: `rows` and SHA-256, or nothing where it is not there."""

    benchmark: Benchmark
    file: str
    rows: int | None
    sha256: str


def available(benchmarks: tuple[Benchmark, ...], folder: Path) -> list[Available]:
    """Return what the data folder holds of some benchmarks."""
    found = []
    for benchmark in benchmarks:
        for file in benchmark.files:
            path = folder / file
            there = path.exists()
            rows = len(read_rows(folder, file)) if there else None
            found.append(Available(benchmark, file, rows, file_digest(path) if there else ""))
    return found

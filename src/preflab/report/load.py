"""From a study's folder to the tables a report is made from; a half-finished study gives the part that is there."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from preflab.core.errors import ConfigError, StoreError
from preflab.evals.benchmarks.catalogue import benchmark
from preflab.report.tables import StudyTables

INDEX = "index.json"
JUDGED = "judged"
"""Folder of a study with what judges said of its answers, and with an index of its own."""


def load_tables(study: Path) -> StudyTables:
    """Read the tables of a study.

    Args:
        study: folder of the study, with its `index.json`.

    Raises:
        ConfigError: the folder is not a study that was run.
        StoreError: an artefact of the index cannot be read.
    """
    path = study / INDEX
    if not path.exists():
        raise ConfigError(
            f"{study}: no study here (no {INDEX}); run it with `preflab run`, or name its folder under runs/."
        )
    index = json.loads(path.read_text(encoding="utf-8"))
    cells = index["cells"]
    return StudyTables(
        cells=pd.DataFrame(cells),
        pairs=_gather(study, cells, "evaluate", "pairs.parquet"),
        responses=_gather(study, cells, "evaluate", "responses.parquet"),
        dynamics=pd.concat([_dynamics(study, cell) for cell in cells] or [pd.DataFrame()], ignore_index=True),
        log=_gather(study, cells, "train", "log.parquet"),
        answers=_gather(study, cells, "train", "answers.parquet"),
        judges=pd.concat([_judge(study, cell) for cell in cells] or [pd.DataFrame()], ignore_index=True),
        verdicts=pd.concat([_verdicts(study, cell) for cell in cells] or [pd.DataFrame()], ignore_index=True),
        probes=_gather(study, cells, "diagnose", "probes.parquet"),
        samples=_gather(study, cells, "diagnose", "samples.parquet"),
        gradients=_gather(study, cells, "gradients", "gradients.parquet"),
        benchmarks=pd.concat([_benchmarks(study, cell) for cell in cells] or [pd.DataFrame()], ignore_index=True),
        alike=_gather(study, cells, "diagnose", "pairs.parquet"),
        judged=_judged(study, cells),
        study=index["study"],
    )


def load_judged_index(study: Path) -> dict[str, str]:
    """Return what judges said of a study's answers: start point, split, protocol and judge to the file's place.

    Raises:
        StoreError: the index cannot be read.
    """
    path = study / JUDGED / INDEX
    if not path.exists():
        return {}
    found: dict[str, str] = _document(path)
    return found


def _judged(study: Path, cells: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the judges' results, and of each whether the study still has the answers that were judged."""
    answers = {cell["cell"]: cell.get("evaluate") for cell in cells}
    documents = [_document(study / place) for _, place in sorted(load_judged_index(study).items())]
    return tuple(
        document
        | {"current": all(answers.get(cell) == place for each in document["study"]["contenders"].values()
                          for cell, place in each["answers"].items())}
        for document in documents
    )  # fmt: skip


def _document(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); judge the study again.") from error


def _gather(study: Path, cells: list[dict[str, Any]], artefact: str, name: str) -> pd.DataFrame:
    """Return one file of every cell's artefact, with the cell's id in front."""
    frames = []
    for cell in cells:
        table = _table(study, cell.get(artefact), name)
        if table is not None:
            table.insert(0, "cell", cell["cell"])
            frames.append(table)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _benchmarks(study: Path, cell: dict[str, Any]) -> pd.DataFrame:
    """Return a cell's records of every benchmark, the main metric of each as `value`."""
    frames = []
    for name, place in (cell.get("benchmarks") or {}).items():
        table = _table(study, place, "items.parquet")
        if table is None:
            continue
        columns = {"cell": cell["cell"], "benchmark": name, "value": table[benchmark(name).metric].astype(float)}
        frames.append(table[["item", "cluster"]].assign(**columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _dynamics(study: Path, cell: dict[str, Any]) -> pd.DataFrame:
    """Return means over the monitor rows of a cell at every evaluation, with standard errors.

    The start point is the cell itself at step 0: same rows, same batches, so nothing but training moves a margin.
    """
    rows = _table(study, cell.get("train"), "monitor.parquet")
    log = _table(study, cell.get("train"), "log.parquet")
    if rows is None or log is None or rows.empty:
        return pd.DataFrame()
    rows["place"] = rows.groupby("step").cumcount()
    start = rows[rows["step"] == 0].set_index("place")
    gained = {}
    for role, column in (("chosen", "chosen"), ("rejected", "rejected"), ("unseen", "mismatched")):
        if f"{column}_total" not in rows:
            continue  # studies did not always follow unseen answers
        rows[f"{role}_total"] = pd.to_numeric(rows[f"{column}_total"])
        rows[f"{role}_mean"] = rows[f"{role}_total"] / pd.to_numeric(rows[f"{column}_length"])
        gained[role] = rows[f"{role}_total"] - rows["place"].map(pd.to_numeric(start[f"{column}_total"]))
    rows["margin"] = gained["chosen"] - gained["rejected"]
    rows["accuracy"] = ((rows["margin"] > 0) + 0.5 * (rows["margin"] == 0)).where(rows["margin"].notna())
    totals = [f"{role}_{what}" for role in gained for what in ("total", "mean")]
    columns = [*totals, "margin", "accuracy"]
    grouped = rows.groupby("step")[columns]
    table = grouped.mean().join(grouped.sem().add_suffix("_se")).join(_falls(rows)).reset_index()
    table["n"] = grouped.size().to_numpy()
    table["pairs_seen"] = _seen(table["step"], log)
    # A run that stops early hands over the weights of its best evaluation; what came behind it shows why.
    table["kept"] = True if cell.get("kept_step") is None else table["step"] <= cell["kept_step"]
    table.insert(0, "cell", cell["cell"])
    return table


def _judge(study: Path, cell: dict[str, Any]) -> pd.DataFrame:
    """Return how often the reward model behind a cell put validation pairs in the right order, at every evaluation."""
    rows, log = (_table(study, cell.get("judge"), name) for name in ("monitor.parquet", "log.parquet"))
    if rows is None or log is None:
        return pd.DataFrame()
    margin = rows["chosen_score"] - rows["rejected_score"]
    rows["accuracy"] = (margin > 0) + 0.5 * (margin == 0)
    table = rows.groupby("step")["accuracy"].mean().reset_index()
    table["pairs_seen"] = _seen(table["step"], log)
    table.insert(0, "judge", str(cell["judge"]))
    table.insert(0, "cell", cell["cell"])
    return table


def _verdicts(study: Path, cell: dict[str, Any]) -> pd.DataFrame:
    """Return what the reward model behind a cell says of the validation pairs at the end of its training."""
    rows = _table(study, cell.get("judge"), "monitor.parquet")
    if rows is None:
        return pd.DataFrame()
    last = rows.loc[rows["step"] == rows["step"].max(), ["chosen_score", "rejected_score"]]
    return last.assign(cell=cell["cell"], judge=str(cell["judge"]))


def _seen(steps: pd.Series, log: pd.DataFrame) -> list[int]:
    """Return the rows that a run had seen after some of its steps."""
    seen = log["n_rows"].cumsum()
    return [0 if step == 0 else int(seen.iloc[step - 1]) for step in steps]


def _falls(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, per step, where the chosen responses were likeliest so far and how far they have fallen since.

    Columns: `peak_step`; `chosen_fall`, nats per response, and its standard error over the same responses.
    """
    totals = rows.pivot(index="place", columns="step", values="chosen_total").dropna()
    means = totals.mean()
    found = {}
    for step in totals.columns if len(totals) else ():
        peak = means.loc[:step].idxmax()
        fall = totals[peak] - totals[step]
        found[step] = {"peak_step": peak, "chosen_fall": fall.mean(), "chosen_fall_se": fall.sem()}
    return pd.DataFrame.from_dict(found, orient="index", columns=["peak_step", "chosen_fall", "chosen_fall_se"])


def _table(study: Path, artefact: str | None, name: str) -> pd.DataFrame | None:
    if artefact is None or not (study / artefact / name).exists():
        return None
    try:
        return pd.read_parquet(study / artefact / name)
    except (OSError, ValueError) as error:
        raise StoreError(f"{study / artefact / name}: cannot be read ({error}); run the study again.") from error

"""From a study's folder to the tables a report is made from; a half-finished study gives the part that is there."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from preflab.core.errors import ConfigError, StoreError
from preflab.report.tables import StudyTables

INDEX = "index.json"


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
        probes=_gather(study, cells, "diagnose", "probes.parquet"),
        samples=_gather(study, cells, "diagnose", "samples.parquet"),
        gradients=_gather(study, cells, "gradients", "gradients.parquet"),
        alike=_gather(study, cells, "diagnose", "pairs.parquet"),
        study=index["study"],
    )


def _gather(study: Path, cells: list[dict[str, Any]], artefact: str, name: str) -> pd.DataFrame:
    """Return one file of every cell's artefact, with the cell's id in front."""
    frames = []
    for cell in cells:
        table = _table(study, cell.get(artefact), name)
        if table is not None:
            table.insert(0, "cell", cell["cell"])
            frames.append(table)
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
    table = grouped.mean().join(grouped.sem().add_suffix("_se")).reset_index()
    table["n"] = grouped.size().to_numpy()
    seen = log["n_rows"].cumsum() if len(log) else pd.Series(dtype=int)
    table["pairs_seen"] = [0 if step == 0 else int(seen.iloc[step - 1]) for step in table["step"]]
    table.insert(0, "cell", cell["cell"])
    return table


def _table(study: Path, artefact: str | None, name: str) -> pd.DataFrame | None:
    if artefact is None or not (study / artefact / name).exists():
        return None
    try:
        return pd.read_parquet(study / artefact / name)
    except (OSError, ValueError) as error:
        raise StoreError(f"{study / artefact / name}: cannot be read ({error}); run the study again.") from error

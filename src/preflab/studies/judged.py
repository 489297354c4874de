"""A study's sampled answers before a judge: every final cell against its own start point, nothing sampled anew."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from preflab.core.errors import ConfigError, DataError
from preflab.evals.judges.answers import Answers, Item
from preflab.evals.judges.cases import PairProtocol
from preflab.evals.judges.results import RESULT, Plan, matched_plan, write_result
from preflab.report.load import INDEX, JUDGED, load_judged_index, whole_tables
from preflab.report.tables import completed, final_cells
from preflab.store.artefacts import write_json

START = "start point"
"""What a baseline is called."""


def study_plans(study: Path, protocol: PairProtocol, split: str) -> list[Plan]:
    """Return the judgements of a study, one plan per start point.

    Every final cell is a contender of its own, its answers compared with those that its start point gave to the same
    prompts; cells that differ in their seed only are pooled.

    Args:
        study: the study's folder.
        protocol: how answers are judged.
        split: `test` or `ood`.

    Raises:
        ConfigError: no study there, or none of its cells answered prompts of the split.
        DataError: cells of one start point that answered different prompts.
    """
    tables = completed(whole_tables(study))
    cells = final_cells(tables)
    answered = tables.responses[tables.responses["split"] == split]
    cells = cells[cells["cell"].isin(answered["cell"])]
    found = []
    for start in dict.fromkeys(cells["start"]):
        mine = cells[cells["start"] == start]
        before = {int(c.seed): c for c in mine[mine["method"] == ""].itertuples()}
        trained = [c for c in mine[mine["method"] != ""].itertuples() if c.seed in before or -1 in before]
        if trained:
            found.append(_planned(str(tables.study["name"]), str(start), split, protocol, before, trained, answered))
    if not found:
        raise ConfigError(
            f"{study}: no finished cell with answers to {split} prompts beside those of its start point; run the study."
        )
    return found


def _planned(
    study: str,
    start: str,
    split: str,
    protocol: PairProtocol,
    before: Mapping[int, Any],
    trained: Sequence[Any],
    answered: pd.DataFrame,
) -> Plan:
    baselines = {seed: _answers(START, cell.cell, answered) for seed, cell in before.items()}
    pools: dict[str, tuple[str, ...]] = {}
    contenders: dict[str, dict[str, Any]] = {}
    matches = []
    for cell, pool, name in _named(trained):
        pools[pool] = (*pools.get(pool, ()), name)
        own = before.get(int(cell.seed), before.get(-1))
        contenders[name] = {"pool": pool, "method": cell.method, "size": int(cell.size), "seed": int(cell.seed),
                            "answers": {str(c.cell): str(c.evaluate) for c in (cell, own)}}  # fmt: skip
        matches.append((_answers(name, cell.cell, answered), baselines.get(int(cell.seed), baselines.get(-1))))
    about = {"name": study, "start": start, "split": split, "contenders": contenders}
    return replace(matched_plan(protocol, matches), pools=pools, study=about)


def _named(cells: Sequence[Any]) -> Iterator[tuple[Any, str, str]]:
    """Return each cell with the name of its method, sized where the study has several sizes, and with its own."""
    sizes = {cell.size for cell in cells}
    for cell in cells:
        pool = cell.method if len(sizes) == 1 else f"{cell.method}, {int(cell.size):,} rows"
        twins = [c for c in cells if (c.method, c.size, c.seed) == (cell.method, cell.size, cell.seed)]
        setting = f", {cell.setting}" if len(twins) > 1 else ""
        yield cell, pool, f"{pool}, seed {int(cell.seed)}{setting}"


def _answers(name: str, cell: str, answered: pd.DataFrame) -> Answers:
    rows = answered[answered["cell"] == cell]
    if not rows["prompt"].all():
        raise DataError(f"cell {cell}: its answers do not say what was asked; evaluate the study again.")
    items = {
        str(row.row): Item(str(row.row), (row.prompt,), str(row.family or "")) for row in rows.itertuples(index=False)
    }
    return Answers(name, items, {str(row.row): (row.response,) for row in rows.itertuples(index=False)})


def write_judged(study: Path, document: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Path:
    """Write the result of one start point beside the study, for its report, and return its folder.

    The report shows the newest result of each start point, split, protocol and judge.
    """
    folder = write_result(study / JUDGED, document, records)
    of, asked = document["study"], document["judge"]
    key = " | ".join([of["start"], of["split"], document["protocol"], asked["model"], asked["url"]])
    known = load_judged_index(study)
    known[key] = str((folder / RESULT).relative_to(study))
    write_json(study / JUDGED / INDEX, known)
    return folder

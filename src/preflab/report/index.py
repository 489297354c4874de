"""The index of a study: what preflab would not have written is left out, and said."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError, StoreError
from preflab.report.columns import COLUMNS
from preflab.store.documents import is_there, is_whole, read_document

INDEX = "index.json"
SCHEMA_VERSION = 1
_AGAIN = "run the study again: it writes the index anew and trains nothing twice"
_PLACES = ("train", "evaluate", "diagnose", "gradients", "judge")
_NEEDED = ("cell", "start", "method", "status", "setting", "size", "seed")
_STATES = ("pending", "done", "diverged", "failed", "stopped")
_LARGEST = 2**53
_STUDY: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "command": str, "config_yaml": str, "created": str, "wall_s": (int, float), "versions": dict,
    "commit": str, "reward_model": str, "machine": (dict, str), "data": dict, "models": dict,
    "cards": dict, "bibtex": str, "notes": list,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that cannot be shown.

    Args:
        where: its place in the study's folder.
        what: what is wrong with it.
        lost: what is missing from the report because of it.
        cell: whose it is, for people; empty where it belongs to the whole study.
    """

    where: str
    what: str
    lost: str
    cell: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """What a study's index says.

    Args:
        study: provenance of the study.
        cells: one record per cell and start point.
        damages: what was left out of both.
        sealed: whether the file carries a digest, so that any change of it is found.
    """

    study: Mapping[str, Any]
    cells: tuple[Mapping[str, Any], ...]
    damages: tuple[Damage, ...] = field(default=())
    sealed: bool = True


def load_index(study: Path) -> Index:
    """Read the index of a study.

    Raises:
        ConfigError: the folder is not a study that was run.
        StoreError: the index cannot be read at all, or a newer preflab wrote it.
    """
    path = study / INDEX
    if not is_there(path):
        raise ConfigError(
            f"{study}: no study here (no {INDEX}); run it with `preflab run`, or name its folder under runs/."
        )
    try:
        document = read_document(path)
    except StoreError as error:
        raise StoreError(f"{error}; {_AGAIN}.") from error
    version, study_record, cells = (document.get(key) for key in ("schema_version", "study", "cells"))
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(f"{path}: format {version}, and this preflab reads {SCHEMA_VERSION}; install a newer preflab.")
    if version != SCHEMA_VERSION or not isinstance(study_record, dict) or not isinstance(cells, list):
        raise StoreError(f"{path}: is no index of a study; name another folder, or {_AGAIN}.")
    whole = is_whole(document)
    damages = [Damage(INDEX, "it was changed after it was written", "nothing, but numbers in it may be wrong")]
    return _checked(study_record, cells, damages if whole is False else [], sealed=whole is not None)


def _checked(study: dict[str, Any], cells: list[Any], damages: list[Damage], *, sealed: bool) -> Index:
    record = {}
    for key, value in study.items():
        if value is None or not _fits_study(key, value):
            if value is not None:
                damages.append(Damage(INDEX, f"the study's {key} is not what it should be", "that entry"))
            continue
        record[key] = value
    kept: dict[str, dict[str, Any]] = {}
    for place, cell in enumerate(cells):
        wrong = _wrong(cell) or (f"cell {cell['cell']} is there twice" if cell["cell"] in kept else "")
        if wrong:
            damages.append(Damage(INDEX, f"entry {place + 1} of the cells: {wrong}", "that cell"))
        else:
            kept[cell["cell"]] = cell
    return Index(record, tuple(kept.values()), tuple(damages), sealed)


def _fits_study(key: str, value: Any) -> bool:
    if not isinstance(value, _STUDY.get(key, object)):
        return False
    if isinstance(value, dict) and key == "cards":
        return all(isinstance(card, dict) for card in value.values())
    if isinstance(value, dict) and key == "data":
        return all(isinstance(value.get(part, {}), dict) for part in ("splits", "excluded"))
    return not isinstance(value, float) or math.isfinite(value)


def _wrong(cell: Any) -> str:
    """Return what of a cell's record cannot be; empty where all of it can."""
    if not isinstance(cell, dict):
        return "it is no record"
    missing = [key for key in _NEEDED if key not in cell]
    if missing:
        return f"it has no {missing[0]}"
    if cell["status"] not in _STATES:
        return f"its status is {str(cell['status'])[:40]!r}"
    for key, default in COLUMNS["cells"].items():
        value = cell.get(key)
        # Settings are a record of their own, and the reward model behind a cell is named by its folder.
        if key in ("hyperparameters", "judge") or (value is None and key not in _NEEDED):
            continue
        if not _fits(value, default):
            return f"its {key} is not what it should be"
    if (cell["size"] > 0) != bool(cell["method"]) or cell["size"] < 0:
        return "its size is not what it should be"
    places = [cell.get(key) for key in _PLACES]
    benchmarks = cell.get("benchmarks") or {}
    if not isinstance(benchmarks, dict) or not isinstance(cell.get("hyperparameters") or {}, dict):
        return "its benchmarks or hyper-parameters are no record"
    if not all(place is None or isinstance(place, str) for place in (*places, *benchmarks.values())):
        return "a folder of it is no text"
    return ""


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, str | bool):
        return isinstance(value, type(default))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(default, int):
        return isinstance(value, int) and abs(value) < _LARGEST
    return abs(value) < _LARGEST if isinstance(value, int) else math.isfinite(value)

"""Every table and figure of the page as files: numbers for programs, typeset for papers, drawings for slides."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from preflab.report.analysis import Analysis, analyse
from preflab.report.cells import Table
from preflab.report.damages import blaming
from preflab.report.page import page_context
from preflab.report.svg import FigureText
from preflab.report.tables import StudyTables
from preflab.report.typeset import as_csv, as_latex, as_markdown
from preflab.store.artefacts import write_json

INDEX = "index.json"
_FIGURES = ("svg", "pdf", "png")
_TEXTS: Mapping[str, Callable[[str, Table], str]] = {"csv": as_csv, "tex": as_latex, "md": as_markdown}


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """The tables and figures of a page by the names of their files, in the order in which the page is put together."""

    tables: Mapping[str, Table]
    figures: Mapping[str, FigureText]


def parts(analysis: Analysis) -> Parts:
    """Return every table and figure of a study's page."""
    found = Parts({}, {})
    seen: set[int] = set()
    for key, part in _parts("", page_context(analysis)):
        if id(part) in seen:
            continue
        seen.add(id(part))
        kind: Any = found.tables if isinstance(part, Table) else found.figures
        kind[_free(_slug(part.name) or _slug(key), kind)] = part
    return found


def write_files(tables: StudyTables, folder: Path) -> Path:
    """Write every table as CSV, Parquet, LaTeX and Markdown and every figure as SVG, PDF and PNG; return the index.

    The bytes depend on the tables alone. Files of these names are written over, others are left alone; `index.json`
    lists what belongs together.

    Args:
        tables: what the study measured.
        folder: gets `tables/`, `figures/` and `index.json`.
    """
    with blaming(tables.damages, sealed=tables.sealed):
        found = parts(analyse(tables))
    for kind in ("tables", "figures"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    listed: dict[str, list[dict[str, Any]]] = {"tables": [], "figures": []}
    for name, table in found.tables.items():
        place = folder / "tables" / name
        for ending, text in _TEXTS.items():
            _of(place, ending).write_text(text(name, table), encoding="utf-8", newline="")
        table.frame().to_parquet(_of(place, "parquet"), index=False)
        listed["tables"].append(_entry(folder, place, (*_TEXTS, "parquet"), table.caption))
    for name, figure in found.figures.items():
        place = folder / "figures" / name
        for ending in _FIGURES:
            figure.save(_of(place, ending))
        listed["figures"].append(_entry(folder, place, _FIGURES, figure.caption))
    write_json(folder / INDEX, {"schema_version": 1, "study": tables.study.get("name"), **listed})
    return folder / INDEX


def _entry(folder: Path, place: Path, endings: tuple[str, ...], caption: str) -> dict[str, Any]:
    files = {ending: str(_of(place, ending).relative_to(folder)) for ending in endings}
    return {"name": place.name, "caption": caption, "files": files}


def _of(place: Path, ending: str) -> Path:
    return place.with_name(f"{place.name}.{ending}")


def _parts(key: str, found: Any) -> Iterator[tuple[str, Table | FigureText]]:
    """Return what a value holds at any depth, each with the key of the page's context that it stands under."""
    if isinstance(found, Table) or (isinstance(found, FigureText) and found.figure is not None):
        yield key, found
    elif isinstance(found, Mapping):
        for name, value in found.items():
            yield from _parts(key or str(name), value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _parts(key, value)
    elif dataclasses.is_dataclass(found):
        for each in dataclasses.fields(found):
            yield from _parts(key, getattr(found, each.name))


def _slug(text: str) -> str:
    """Return a text as a file name; names of start points and methods are people's own."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:80]


def _free(name: str, taken: Mapping[str, Any]) -> str:
    n = 1
    while (free := name if n == 1 else f"{name}-{n}") in taken:
        n += 1
    return free

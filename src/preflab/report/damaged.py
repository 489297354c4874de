"""The files of a study that are not as they were written, and what the page lacks because of them."""

from typing import Any

from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table


def context(analysis: Analysis) -> dict[str, Any] | None:
    """Return the table of damaged files and the command that repairs them; None for a whole study."""
    damages = analysis.tables.damages
    if not damages:
        return None
    rows = [[Cell(text, kind="text") for text in (d.where, d.what, d.cell, d.lost)] for d in damages]
    head = [("File", ""), ("What is wrong", ""), ("Whose it is", ""), ("Left out", "")]
    caption = "Files that are not as they were written."
    return {
        "table": Table(caption, head, rows, "damaged"),
        "command": str(analysis.tables.study.get("command") or "preflab run"),
    }

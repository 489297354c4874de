"""Tables as a reader sees them and as numbers: every cell carries both, so that the page and the files agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from preflab.report.wording import MISSING
from preflab.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Args:
        text: what a reader sees.
        note: a second, smaller line.
        kind: how it is set: `num`, `text`, `best`, `muted`.
        value: the number behind the text, in natural units (shares between 0 and 1, seconds, nats); None where the
            text is all there is, or nothing was measured.
        low: lower bound of its 95 % interval.
        high: upper bound.
    """

    text: str
    note: str = ""
    kind: str = "num"
    value: float | None = None
    low: float | None = None
    high: float | None = None


def measured(text: str, interval: Interval, note: str = "", kind: str = "num") -> Cell:
    """Return a cell of an estimate with its bounds."""
    return Cell(text, note, kind, interval.estimate, interval.low, interval.high)


def counted(n: int) -> Cell:
    """Return a cell of a count."""
    return Cell(f"{n:,}", value=float(n))


@dataclass(frozen=True, slots=True)
class Table:
    """A table for the template; the first cell of a row is its header.

    Args:
        caption: what the table shows, for everyone.
        head: column titles, each with an explanation that may be empty.
        rows: cells, as many as titles.
        name: what its files are called, such as `ranking-test-sft`; empty takes the section and a number.
    """

    caption: str
    head: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
    name: str = ""

    @property
    def columns(self) -> list[tuple[str, str, str]]:
        """Title, explanation and setting (`text` or `num`) of every column."""
        kinds = [cell.kind if cell.kind == "text" else "num" for cell in self.rows[0]] if self.rows else []
        return [(title, note, kind) for (title, note), kind in zip(self.head, kinds, strict=True)]

    def frame(self) -> pd.DataFrame:
        """Return the numbers: a column per title, with `TITLE low` and `TITLE high` where there are intervals.

        A column in which no cell has a number holds the texts, or nothing where nothing was measured. Notes that are
        more than an interval stand in `TITLE note`. Two columns of one title are told apart by their explanations.
        """
        found: dict[str, list[str] | list[float]] = {}
        for (title, about), cells in zip(self.head, zip(*self.rows, strict=True), strict=False):
            name = _stored(title if title not in found or not about else f"{title} ({about})")
            while name in found:
                name += "'"
            texts = [_stored(cell.text) if cell.text != MISSING else "" for cell in cells]
            if any(texts) and all(cell.value is None for cell in cells):
                found[name] = texts
            else:
                found[name] = [_finite(cell.value) for cell in cells]
            bounds = {"low": [_finite(c.low) for c in cells], "high": [_finite(c.high) for c in cells]}
            if any(not math.isnan(bound) for bound in bounds["low"]):
                found |= {f"{name} {which}": values for which, values in bounds.items()}
            # Below a number with bounds stand the bounds in words.
            notes = [_stored(cell.note) if cell.low is None else "" for cell in cells]
            if any(notes):
                found[f"{name} note"] = notes
        return pd.DataFrame(found)


def _finite(value: float | None) -> float:
    """Return a number as it is stored: what is not known is NaN."""
    return math.nan if value is None or not math.isfinite(value) else float(value)


def _stored(text: str) -> str:
    """Return a text as it can be stored: half a surrogate pair has no UTF-8."""
    return text.encode("utf-8", "replace").decode()

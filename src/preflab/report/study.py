"""A study in Python: its records and the report's tables as data frames, its figures as they are on the page."""

import html
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from preflab.report.analysis import Analysis, analyse
from preflab.report.answer import answer
from preflab.report.damages import blaming
from preflab.report.files import Parts, parts, write_files
from preflab.report.index import Damage
from preflab.report.load import load_tables
from preflab.report.page import write_report
from preflab.report.ranking import RankedMethod, Ranking
from preflab.report.summary import summary
from preflab.report.svg import FigureText
from preflab.report.tables import StudyTables, completed
from preflab.report.wording import count
from preflab.stats.intervals import Interval


class Study:
    """What a study measured and what its report says, read from its folder.

    Args:
        path: folder of the study; a half-finished one gives the part that is there.

    Raises:
        ConfigError: the folder is not a study that was run.
        StoreError: its index cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = load_tables(path)
        self.data: StudyTables = completed(self._read)
        if self.damages:
            first, n = self.damages[0], count(len(self.damages), "damaged file")
            warnings.warn(f"{path}: {n}, such as {first.where}; what they held is left out", stacklevel=3)

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.data.study.get("name") or self.path.name)

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell and start point: method, setting, size, seed, status, validation score, cost."""
        return self.data.cells

    @property
    def pairs(self) -> pd.DataFrame:
        """Log-probs of held-out pairs, one row per (cell, split, row)."""
        return self.data.pairs

    @property
    def responses(self) -> pd.DataFrame:
        """Generated responses with rewards, one row per (cell, split, row)."""
        return self.data.responses

    @property
    def snapshots(self) -> pd.DataFrame:
        """Answers on the way through a training, one row per (cell, split, row, step); see `train.monitor_prompts`."""
        return self.data.snapshots

    @property
    def dynamics(self) -> pd.DataFrame:
        """Likelihoods of fixed validation pairs during training, one row per (cell, step)."""
        return self.data.dynamics

    @property
    def log(self) -> pd.DataFrame:
        """Loss and gradient norm, one row per (cell, step)."""
        return self.data.log

    @property
    def benchmarks(self) -> pd.DataFrame:
        """Main metric of benchmarks, one row per (cell, benchmark, item)."""
        return self.data.benchmarks

    @property
    def damages(self) -> Sequence[Damage]:
        """Files that are not as they were written; what they held is in no table."""
        return self.data.damages

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every table of the report by name, as numbers: a column per title, bounds in `TITLE low` and `TITLE high`."""
        return {name: table.frame() for name, table in self._parts.tables.items()}

    @property
    def figures(self) -> Mapping[str, FigureText]:
        """Every figure of the report by name; a notebook shows it, `.figure` is matplotlib's, `.save(path)` a file."""
        return self._parts.figures

    def ranking(self, split: str | None = None, start: str | None = None) -> pd.DataFrame:
        """Return the methods, best first, with estimates, intervals and tests.

        Args:
            split: `test` or `ood`; both without it.
            start: a start point or `all start points`; all of them without it.
        """
        found = [
            _ranked(self._analysis, ranking, row)
            for (of_split, of_start), ranking in self._analysis.rankings.items()
            if split in (None, of_split) and start in (None, of_start)
            for row in ranking.rows
        ]
        return pd.DataFrame(found)

    def summary(self) -> dict[str, Any]:
        """Return what `preflab report --json` prints."""
        return summary(self._read)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report as one HTML file and return its path; without one, `report.html` in the study."""
        return write_report(self._read, Path(path) if path is not None else self.path / "report.html")

    def write_files(self, folder: str | Path) -> Path:
        """Write every table and figure as files, as `preflab report --files` does, and return their index."""
        return write_files(self._read, Path(folder))

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}): {self._headline}"

    def _repr_html_(self) -> str:
        """Show the answer and the ranking in a notebook."""
        ranking = self.ranking("test")
        shown = ["start", "title", "score", "score_low", "score_high", "p_best"]
        table = ranking[shown].to_html(index=False, escape=True, float_format="%.3f") if len(ranking) else ""
        return f"<p><b>{html.escape(self.name)}</b>: {html.escape(self._headline)}</p>{table}"

    @cached_property
    def _analysis(self) -> Analysis:
        with blaming(self.damages, sealed=self.data.sealed):
            return analyse(self._read)

    @cached_property
    def _parts(self) -> Parts:
        with blaming(self.damages, sealed=self.data.sealed):
            return parts(self._analysis)

    @property
    def _headline(self) -> str:
        with blaming(self.damages, sealed=self.data.sealed):
            return answer(self._analysis).headline


def _ranked(analysis: Analysis, ranking: Ranking, row: RankedMethod) -> dict[str, Any]:
    gap = row.behind
    return {
        "split": ranking.split,
        "start": ranking.start,
        "size": ranking.size,
        "method": row.method,
        "title": analysis.title(row.method),
        **_bounds("score", row.overall),
        **_bounds("gain", None if row.gain is None else row.gain.difference),
        **_bounds("behind", None if gap is None else gap.difference),
        "p": row.p_adjusted,
        "detectable": float("nan") if gap is None else gap.minimum_detectable,
        "p_best": row.probability_best,
        "rank_low": row.rank_low,
        "rank_high": row.rank_high,
        "n_seeds": len(row.seeds),
        "n_items": ranking.n_items,
    }


def _bounds(name: str, interval: Interval | None) -> dict[str, float]:
    none = float("nan")
    low, high = (none, none) if interval is None else (interval.low, interval.high)
    return {name: none if interval is None else interval.estimate, f"{name}_low": low, f"{name}_high": high}

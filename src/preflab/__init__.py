"""preflab: the laboratory for preference optimisation."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preflab.report.study import Study

__version__ = "0.1.0"


def load_study(path: str | Path) -> "Study":
    """Read a finished or half-finished study: its records as data frames, and the report's tables and figures.

    Examples:
        >>> study = preflab.load_study("runs/demo")  # doctest: +SKIP
        >>> study.ranking("test")  # doctest: +SKIP

    Args:
        path: folder of the study.

    Raises:
        ConfigError: the folder is not a study that was run.
        StoreError: its index cannot be read.
    """
    from preflab.report.study import Study

    return Study(Path(path))

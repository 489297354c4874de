"""preflab: the laboratory for preference optimisation."""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from preflab.report.study import Study
    from preflab.studies.trained import Trained

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


def train(
    model: str | Path,
    data: Any,
    method: str = "dpo",
    *,
    set: "Mapping[str, Any] | None" = None,
    out: str | Path | None = None,
    **hyperparameters: Any,
) -> "Trained":
    """Train one model with one method, evaluate it and write its report: what `preflab train` does, from Python.

    A study of one cell: the same checks, engine and evaluation. The same call again reads what is there.

    Examples:
        >>> trained = preflab.train("my-model", "pairs.jsonl", method="dpo", beta=0.1)  # doctest: +SKIP
        >>> trained.metrics, trained.model, trained.tokenizer  # doctest: +SKIP
        >>> trained.save("my-aligned-model")  # doctest: +SKIP

    Args:
        model: folder, Hub id or pocket:base.
        data: file, folder, Hub id or pocket:pairs; or rows in memory: one split of a `datasets.Dataset`, or dicts.
        method: name of a method, or path/to/file.py:NAME.
        set: any other key of a study file, such as `{"train.epochs": 2}`.
        out: folder of the study; default: in `runs/`, named after model, data, method and settings.
        hyperparameters: the method's, such as `beta`, and its `learning_rate`.

    Raises:
        ConfigError: something that cannot be meant.
        DataError: data that cannot be read.
        RunError: it failed or diverged.
    """
    from preflab.studies.trained import train_one

    folder = None if out is None else Path(out)
    return train_one(model, data, method, hyperparameters, settings=set or {}, out=folder)


class _CallableRoom(ModuleType):
    __call__ = staticmethod(train)


class _Package(ModuleType):
    """Keeps `preflab.train` callable: Python puts the package of that name in the function's place once it is used."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "train" and isinstance(value, ModuleType):
            value.__class__ = _CallableRoom
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

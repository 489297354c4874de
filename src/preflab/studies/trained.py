"""One model trained with one method from Python: `preflab.train` and what it returns."""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError, DataError, RunError
from preflab.core.ids import canonical_json, content_id, digest_of
from preflab.models.checkpoints import Checkpoint
from preflab.models.load import load_tokenizer
from preflab.report.study import Study
from preflab.store.artefacts import read_artefact
from preflab.studies.execute import execute
from preflab.studies.export_model import export_model, start_folder
from preflab.studies.plan import Plan
from preflab.studies.processes import warm_up
from preflab.studies.run import State
from preflab.studies.templates import single_cell

_METRICS = ("split", "title", "score", "score_low", "score_high", "gain", "gain_low", "gain_high", "n_items")


class Trained:
    """A trained model and the study of one cell behind it.

    Args:
        folder: of the study.

    Raises:
        RunError: the training diverged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = Study(folder)
        cells = self.study.cells
        self._cell: dict[str, Any] = cells[cells["method"] != ""].iloc[0].to_dict()
        if self._cell["status"] == "diverged":
            raise RunError(
                f"{folder}: the training diverged at step {self._cell['step']:.0f} ({self._cell['cause']}); lower the "
                "learning rate."
            )

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model on the CPU, ready to generate; an adapter is folded into its base."""
        spec = read_artefact(self.folder / self._cell["train"]).spec
        start = start_folder(self.folder, spec, self._weights) if self._is_adapter else self._weights
        return Checkpoint("model", self._weights, start).load(dtype=str(spec["numeric"]["dtype"]), device="cpu")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer, with the chat template."""
        return load_tokenizer(self._weights)

    @property
    def metrics(self) -> pd.DataFrame:
        """Score on the test splits and gain over the start point, each with a 95 % interval; one row per split."""
        ranking = self.study.ranking()
        return ranking[[column for column in _METRICS if column in ranking]]

    def report(self) -> Path:
        """Write the report as one HTML file and return its path."""
        return self.study.report()

    def save(self, path: str | Path, *, merge: bool = False) -> Path:
        """Save it as a folder that transformers or PEFT load, with tokenizer and model card.

        Args:
            path: folder to make.
            merge: fold an adapter into its base.

        Raises:
            ConfigError: the folder is there already, or the study was run again with other settings since.
        """
        return Path(export_model(self.folder, Path(path), cell=str(self._cell["cell"]), merged=merge).folder)

    def __repr__(self) -> str:
        return f"Trained({str(self.folder)!r})"

    @property
    def _weights(self) -> Path:
        return self.folder / str(self._cell["train"]) / "model"

    @property
    def _is_adapter(self) -> bool:
        return (self._weights / "adapter_config.json").exists()


def train_one(
    model: str | Path,
    data: Any,
    method: str,
    hyperparameters: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    out: Path | None,
) -> Trained:
    """Train, evaluate and report one model; see `preflab.train`."""
    if not isinstance(model, str | Path):
        raise ConfigError(
            f"preflab.train: model must be a folder or a Hub id; got {type(model).__name__}. Save a model with "
            "model.save_pretrained(folder) and its tokenizer beside it, and name the folder."
        )
    overrides = [f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()]
    source = str(data) if isinstance(data, str | Path) else str(_written(data))
    config = single_cell(
        str(model), source, method, overrides, hyperparameters=hyperparameters, source="preflab.train()"
    )
    if out is None:
        # A loop over settings gets a folder each, as every result is to stay what it is.
        chosen = content_id(json.loads(json.dumps([hyperparameters, settings], default=str)))[:8]
        out = Path("runs") / (f"{config.study}-{chosen}" if hyperparameters or settings else config.study)
    given = {"method": method, **hyperparameters, **({"set": dict(settings)} if settings else {})}
    words = [repr(str(model)), repr(source), *(f"{name}={value!r}" for name, value in given.items())]
    command = f"preflab.train({', '.join(words)})"
    warm_up()
    with _Progress() as progress:
        finished = execute(config, out, command=command, planned=progress.planned, watch=progress.watch)
    if finished.state.failed:
        error = next(iter(finished.state.failed.values()))
        raise RunError(f"{out}: {error.splitlines()[0]}")
    return Trained(out)


class _Progress:
    """A bar over the stages of the study, in a terminal or a notebook."""

    def __init__(self) -> None:
        self._bar: Any = tqdm(desc="preflab", unit="stage", leave=False)
        self._doing = ""

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def planned(self, plan: Plan) -> None:
        """Refuse what is more than one training, before the work."""
        if len(plan.cells) != 1:
            raise ConfigError(
                f"preflab.train: these settings are {len(plan.cells)} trainings; give one value each, or declare a "
                "study file and use `preflab run`."
            )

    def watch(self, state: State) -> None:
        """Show where the run stands, when that changed."""
        doing = state.running[0] if state.running else ""
        if (self._bar.n, self._doing) != (len(state.done), doing):
            self._bar.total, self._bar.n, self._doing = state.total, len(state.done), doing
            self._bar.set_postfix_str(doing)


def _written(rows: Iterable[Any]) -> Path:
    """Return a file with rows that are in memory, named by what is in it, so that the same rows are the same data."""
    lines = []
    try:
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise DataError(
                    "preflab.train: data must be a path, a Hub id, one split of a datasets.Dataset or a list of dicts; "
                    f"element {number} is {type(row).__name__}."
                )
            lines.append(canonical_json(dict(row)))
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"preflab.train: data cannot be written as JSON: {error}; save it to a file first.") from error
    path = cache_root() / "data" / f"{digest_of(lines)[:20]}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(path)
    return path

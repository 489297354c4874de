"""The toy model as a study of its own: declared in one file, run on every core, continued by the same command."""

import importlib
import itertools
import json
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file

from preflab.core.errors import ConfigError, RunError
from preflab.diagnose.toy import Claim
from preflab.methods import code_digest
from preflab.pocket import toy
from preflab.report.toy import INDEX, write_toy_report
from preflab.store.artefacts import StageSpec, Store, write_json
from preflab.store.ledger import study_lock
from preflab.studies.cells import MethodGrid, Setting, method_from, method_grid
from preflab.studies.config import MethodSpec, Numbers, Section, Seeds
from preflab.studies.processes import clean_context
from preflab.studies.study_file import dump, read_document, validated
from preflab.studies.templates import template_path

_VERSION = 1
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_SUM_TOLERANCE = 1e-6


class ScenarioConfig(Section):
    """The probabilities that every prompt starts from."""

    chosen: float = Field(gt=0, lt=1, description="of each of the four answers that are chosen for some prompt")
    rejected: float = Field(gt=0, lt=1, description="of each of the four answers that are rejected for some prompt")
    unseen: list[float] = Field(min_length=2, max_length=2, description="of the two answers that are in no pair")

    @model_validator(mode="after")
    def _whole(self) -> "ScenarioConfig":
        total = toy.N_PROMPTS * (self.chosen + self.rejected) + sum(self.unseen)
        if abs(total - 1) > _SUM_TOLERANCE or min(self.unseen) <= 0:
            raise ValueError(
                f"four times chosen, four times rejected and the two unseen must be positive and sum to 1; "
                f"they sum to {total:.6g}"
            )
        return self


_SCENARIOS = {
    "both_on": {"chosen": 0.12, "rejected": 0.12, "unseen": [0.03, 0.01]},
    "chosen_on": {"chosen": 0.12, "rejected": 0.02, "unseen": [0.4, 0.04]},
    "rejected_on": {"chosen": 0.02, "rejected": 0.12, "unseen": [0.4, 0.04]},
    "both_off": {"chosen": 0.02, "rejected": 0.02, "unseen": [0.8, 0.04]},
}
"""Read from figure 3 of the paper: 0.12 is called on-policy, 0.02 off-policy. Its second and third panels look
exchanged against its caption, so they are named here by their numbers."""


class FitConfig(Section):
    """The fit to the initial probabilities, which stands for pre-training and supervised fine-tuning."""

    steps: int = Field(1000, ge=1)
    learning_rate: float = Field(1e-3, gt=0)


class ToyConfig(Section):
    """Methods x scenarios x widths x learning rates on the toy model, every one with all seeds."""

    toy: str = Field(pattern=_NAME, description="name; also the folder under runs/")
    methods: dict[str, MethodSpec | None] = Field(min_length=1)
    scenarios: dict[Annotated[str, Field(pattern=_NAME)], ScenarioConfig] = Field(
        default_factory=lambda: {name: ScenarioConfig.model_validate(values) for name, values in _SCENARIOS.items()},
        min_length=1,
    )
    widths: Numbers = Field(default=[256], min_length=1, description="units of both hidden layers")
    learning_rates: Numbers = Field(default=[1e-4], min_length=1, description="for methods that name none of their own")
    seeds: Seeds = Field(default_factory=lambda: list(range(10)), min_length=1)
    steps: int = Field(2000, ge=1, description="full-batch steps of Adam")
    record_every: int = Field(10, ge=1, description="steps between two records")
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    fit: FitConfig = Field(default_factory=FitConfig)

    @model_validator(mode="after")
    def _consistent(self) -> "ToyConfig":
        if any(width != int(width) or width < 1 for width in self.widths):
            raise ValueError(f"widths: must be whole numbers from 1; got {self.widths}")
        if any(rate <= 0 for rate in self.learning_rates):
            raise ValueError(f"learning_rates: must be positive; got {self.learning_rates}")
        for name in ("seeds", "widths", "learning_rates"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: {values} repeats a value; name each once")
        return self


@dataclass(frozen=True, slots=True)
class ToyRun:
    """One method at one setting on one scenario and width, with all seeds."""

    source: str
    title: str
    method: str
    setting: Setting
    scenario: str
    width: int
    fit: StageSpec
    spec: StageSpec


def load_toy(path: Path | None, overrides: Sequence[str] = ()) -> ToyConfig:
    """Read the file of a toy study, or the built-in one.

    Raises:
        ConfigError: not readable, not YAML, unknown keys, or values that cannot be meant.
    """
    path = path or template_path("toy.yaml")
    remedy = "Without a file, `preflab pocket toy` runs the built-in one."
    document = read_document(path, ToyConfig, overrides, remedy=remedy)
    config = validated(ToyConfig, document, source=str(path))
    _grids(config)
    return config


def run_toy(
    config: ToyConfig, folder: Path, *, command: str, watch: Callable[[int, int], None]
) -> tuple[Path, tuple[Claim, ...]]:
    """Run what is missing of a toy study, on every core, and write its report.

    Args:
        config: the study.
        folder: where it lives.
        command: what was typed, for the report.
        watch: called with runs that are done and runs in all.

    Raises:
        ConfigError: a method or setting that cannot be meant.
        StudyLocked: another process runs this study.

    Returns:
        Path of the report, and the paper's claims with their verdicts.
    """
    runs = expand(config)
    store = Store(folder / "artefacts")
    with study_lock(folder):
        (folder / "toy.resolved.yaml").write_text(dump(config), encoding="utf-8")
        store.sweep()
        missing = [run for run in runs if store.find(run.spec) is None]
        fits = {run.fit.id: run.fit for run in missing if store.find(run.fit) is None}
        watch(len(runs) - len(missing), len(runs))
        if missing:
            _compute(
                store, list(fits.values()), missing, watch=lambda n: watch(len(runs) - len(missing) + n, len(runs))
            )
        write_json(folder / INDEX, _index(config, runs, folder, store, command))
    return write_toy_report(folder)


def expand(config: ToyConfig) -> tuple[ToyRun, ...]:
    """Return every run, the methods in the order of the file.

    Raises:
        ConfigError: a method or setting that cannot be meant.
    """
    numeric = {"device": "cpu", "dtype": "float32", "threads": 1}
    runs = []
    for grid, width, (name, scenario) in itertools.product(_grids(config), config.widths, config.scenarios.items()):
        model = {"width": int(width), "activation": config.activation}
        fit_params = {"scenario": scenario.model_dump(mode="json"), "seeds": config.seeds, **model}
        fit = StageSpec("toy_fit", _VERSION, fit_params | {"fit": config.fit.model_dump(mode="json")}, {}, numeric)
        code = {"code": code_digest(grid.method)} if ":" in grid.source else {}
        for setting in grid.settings:
            params = {
                "method": grid.method.name,
                "hyperparameters": dict(setting.hyperparameters),
                "learning_rate": setting.learning_rate,
                "steps": config.steps,
                "record_every": config.record_every,
            }
            spec = StageSpec("toy", _VERSION, params, {"fit": fit.id, **code}, numeric)
            runs.append(ToyRun(grid.source, grid.method.title, grid.method.name, setting, name, int(width), fit, spec))
    return tuple(runs)


def _grids(config: ToyConfig) -> list[MethodGrid]:
    """Return every method once for each learning rate of the study, or once where it names its own."""
    grids = []
    for key, spec in config.methods.items():
        own = spec or {}
        rates = own.get("learning_rate") or config.learning_rates
        grids.append(method_grid(key, {**own, "learning_rate": rates}, None))
    names = [grid.method.name for grid in grids]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"methods: two methods are called {repeated[0]!r}; give one of them another name.")
    return grids


def _compute(store: Store, fits: Sequence[StageSpec], runs: Sequence[ToyRun], *, watch: Callable[[int], None]) -> None:
    workers = min(psutil.cpu_count() or 1, max(len(fits), len(runs)))
    pool = ProcessPoolExecutor(workers, mp_context=clean_context(), initializer=_initialize)
    try:
        first = [pool.submit(_fit, store.root, spec) for spec in fits]
        importlib.import_module("matplotlib.figure")  # for the page; this process has nothing else to do
        for future in as_completed(first):
            future.result()
        pending: list[Future[None]] = [pool.submit(_train, store.root, run) for run in runs]
        for n, future in enumerate(as_completed(pending), start=1):
            future.result()
            watch(n)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _initialize() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what has begun ends in seconds and is kept
    torch.set_num_threads(1)


def _fit(root: Path, spec: StageSpec) -> None:
    settings = _settings(spec, {})
    policies = toy.Policies(spec.params["seeds"], settings)
    target = toy.initial(**spec.params["scenario"])
    toy.fit(policies, target, settings)
    error = float(abs(policies.log_probs().detach().exp().numpy() - target).max())
    if not math.isfinite(error):
        raise RunError(
            f"fit.learning_rate: the fit at {settings.fit_learning_rate:g} is not finite; use a smaller one."
        )
    with Store(root).write(spec, {"largest_error": error}) as folder:
        save_file({name: weight.detach() for name, weight in policies.weights.items()}, folder / "policies.safetensors")


def _train(root: Path, run: ToyRun) -> None:
    store, seeds = Store(root), run.fit.params["seeds"]
    settings = _settings(run.fit, run.spec.params)
    policies = toy.Policies(seeds, settings)
    for name, weight in load_file(store.get(run.fit).file("policies.safetensors")).items():
        policies.weights[name].data.copy_(weight)
    records = toy.train(policies, method_from(run.source), run.setting.hyperparameters, settings, seeds=seeds)
    steps = toy.recorded_steps(settings)
    table = {"step": np.repeat(steps, len(seeds)), "seed": np.tile(seeds, len(records))}
    table |= {name: records[..., place].reshape(-1) for place, name in enumerate(toy.COLUMNS)}
    diverged = [seed for seed, ended in zip(seeds, np.isnan(records[-1, :, -1]), strict=True) if ended]
    with store.write(run.spec, {"diverged": diverged}) as folder:
        pq.write_table(pa.table(table), folder / "curves.parquet")


def _settings(fit: StageSpec, params: Mapping[str, Any]) -> toy.ToySettings:
    return toy.ToySettings(
        width=fit.params["width"],
        activation=fit.params["activation"],
        fit_steps=fit.params["fit"]["steps"],
        fit_learning_rate=fit.params["fit"]["learning_rate"],
        steps=params.get("steps", 0),
        learning_rate=params.get("learning_rate", 0.0),
        record_every=params.get("record_every", 1),
    )


def _index(config: ToyConfig, runs: Sequence[ToyRun], folder: Path, store: Store, command: str) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "toy": config.toy,
        "command": command,
        "config": json.loads(config.model_dump_json()),
        "runs": [
            {
                "method": run.method,
                "title": run.title,
                "setting": run.setting.label,
                **asdict(run.setting),
                "scenario": run.scenario,
                "width": run.width,
                "artefact": str(store.path(run.spec).relative_to(folder)),
                "diverged": store.get(run.spec).info["diverged"],
                "largest_fit_error": store.get(run.fit).info["largest_error"],
            }
            for run in runs
        ],
    }

"""The cells of a study: start point x method x setting x size x seed, every hyper-parameter checked before work."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from preflab.core.domains import specs
from preflab.core.errors import ConfigError, nearest
from preflab.core.ids import content_id
from preflab.methods import Method, find, load
from preflab.studies.config import MethodConfig, StudyConfig

LORA_FACTOR = 10
"""LoRA needs about ten times the learning rate of full fine-tuning (Schulman et al., LoRA Without Regret, 2025)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of a method's grid: keyword arguments of its loss and the peak learning rate."""

    hyperparameters: Mapping[str, float]
    learning_rate: float

    @property
    def label(self) -> str:
        """`beta=0.1, learning_rate=0.0005`."""
        values = {**self.hyperparameters, "learning_rate": self.learning_rate}
        return ", ".join(f"{name}={value:.10g}" for name, value in values.items())


@dataclass(frozen=True, slots=True)
class MethodGrid:
    """A method as a study uses it: one arm of the comparison.

    Args:
        source: what a worker finds it by: its name, or `/absolute/path.py:NAME`.
        method: the objective.
        settings: the points of its grid.
        axes: hyper-parameter to its values.
        learning_rate_is_default: whether the study named no learning rate for it.
        stops: whether its cells keep the weights at which held-out chosen responses were likeliest.
    """

    source: str
    method: Method
    settings: tuple[Setting, ...]
    axes: Mapping[str, tuple[float, ...]]
    learning_rate_is_default: bool
    stops: bool = False

    @property
    def name(self) -> str:
        """What tables and cells call it: the method's name, `dpo-stop` where it stops early."""
        return self.method.name + ("-stop" if self.stops else "")

    @property
    def title(self) -> str:
        """What the report calls it."""
        return self.method.title + (" with early stopping" if self.stops else "")

    def on_edge(self, setting: Setting) -> bool:
        """Return whether a setting lies at the end of an axis that was searched."""
        values = {**setting.hyperparameters, "learning_rate": setting.learning_rate}
        return any(values[name] in (min(axis), max(axis)) for name, axis in self.axes.items() if len(axis) > 1)


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run of the study."""

    start: str
    method: str
    setting: Setting
    size: int
    seed: int

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name the cell in tables."""
        return content_id(asdict(self))[:12]

    @property
    def group(self) -> tuple[str, str, int]:
        """Cells of one group differ in setting and seed only; one setting of the group is selected."""
        return (self.start, self.method, self.size)

    @property
    def label(self) -> str:
        """For people: `dpo on sft, 256 rows, seed 0 (beta=0.1, learning_rate=0.0005)`."""
        return f"{self.method} on {self.start}, {self.size} rows, seed {self.seed} ({self.setting.label})"


def resolve_methods(config: StudyConfig) -> tuple[MethodGrid, ...]:
    """Look every method up and check its grid against the declared domains.

    Raises:
        ConfigError: unknown method or hyper-parameter, a value outside its domain, or two methods of one name.
    """
    grids, problems = [], []
    for key, spec in config.methods.items():
        try:
            spec = spec or MethodConfig()
            grid = method_grid(key, spec.grid, config.train.learning_rate, lora=config.train.lora is not None)
            _check_once(key, "stop", spec.stop)
            grids += [replace(grid, stops=stop == "chosen") for stop in spec.stop]
        except ConfigError as error:
            problems.append(f"{config.place(key)}{error}")
    if problems:
        raise ConfigError("\n".join(problems))
    names = [grid.name for grid in grids]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"methods: two methods are called {repeated[0]!r}; give one of them another name.")
    return tuple(grids)


def method_from(source: str) -> Method:
    """Return the method of that name, or the one that `path/to/file.py:NAME` names.

    Raises:
        ConfigError: there is none.
    """
    if source.endswith(".py"):
        raise ConfigError(f"method {source!r}: which one of the file? Write {source}:NAME.")
    return load(source) if ".py:" in source else find(source)


def expand(config: StudyConfig, grids: Sequence[MethodGrid], n_rows: int) -> tuple[Cell, ...]:
    """Return all cells.

    Args:
        config: the study.
        grids: its methods.
        n_rows: training rows that are there; `all` means this many.

    Raises:
        ConfigError: a size exceeds the rows.
    """
    return tuple(
        Cell(start, grid.name, setting, size, seed)
        for start, grid, size in itertools.product(config.starts, grids, resolve_sizes(config, n_rows))
        for setting in grid.settings
        for seed in config.seeds
    )


def resolve_sizes(config: StudyConfig, n_rows: int) -> tuple[int, ...]:
    """Return the ascending training sizes of a study in rows.

    Raises:
        ConfigError: a size exceeds the rows.
    """
    sizes = sorted({n_rows if size == "all" else size for size in config.sizes})
    if sizes[-1] > n_rows:
        raise ConfigError(
            f"sizes: {sizes[-1]} rows asked for, but data.train has {n_rows} after splits and exclusions."
        )
    return tuple(sizes)


def blocks(sizes: Sequence[int], size: int) -> tuple[int, ...]:
    """Return the nested sizes up to and with a cell's own."""
    return tuple(s for s in sizes if s <= size)


def method_grid(
    key: str, spec: Mapping[str, Sequence[float]], learning_rate: float | None, *, lora: bool = False
) -> MethodGrid:
    """Return a method with the points of its grid.

    Args:
        key: its name, or `path/to/file.py:NAME`.
        spec: hyper-parameter, or `learning_rate`, to the values to try; the others keep their defaults.
        learning_rate: where the spec names none; else the method's first published one.
        lora: whether adapters are trained, which need higher published rates.

    Raises:
        ConfigError: unknown method or hyper-parameter, a repeated value, or one outside its domain.
    """
    method = method_from(key)
    declared = specs(method.hyperparameters)
    for name in spec:
        if name not in declared and name != "learning_rate":
            raise ConfigError(
                f"methods.{key}.{name}: unknown hyper-parameter. {nearest(name, [*declared, 'learning_rate'])}"
            )
    for name, values in spec.items():
        _check_once(key, name, values)
    defaults = method.hyperparameters()
    axes = {name: tuple(map(float, spec.get(name, [getattr(defaults, name)]))) for name in declared}
    rates, is_default = _learning_rates(method, spec, learning_rate, lora=lora)
    if any(not 0 < rate < float("inf") for rate in rates):
        raise ConfigError(f"methods.{key}.learning_rate: must be in (0, inf); got {list(rates)}.")
    axes["learning_rate"] = rates
    settings = tuple(_settings(key, method, axes))
    path, sign, name = key.rpartition(":")
    source = f"{Path(path).resolve()}:{name}" if sign else key
    return MethodGrid(source, method, settings, axes, is_default)


def _check_once(key: str, name: str, values: Sequence[Any]) -> None:
    """Refuse a list that repeats a value or has none.

    Raises:
        ConfigError: it does.
    """
    if len(set(values)) != len(values) or not values:
        raise ConfigError(f"methods.{key}.{name}: name each value once; got {list(values)}.")


def _settings(key: str, method: Method, axes: Mapping[str, Sequence[float]]) -> Iterator[Setting]:
    names = [name for name in axes if name != "learning_rate"]
    for values in itertools.product(*(axes[name] for name in names), axes["learning_rate"]):
        *hyperparameters, rate = values
        chosen = dict(zip(names, hyperparameters, strict=True))
        try:
            method.hyperparameters(**chosen)
        except ConfigError as error:
            raise ConfigError(f"methods.{key}.{error}") from error
        yield Setting(chosen, rate)


def _learning_rates(
    method: Method, spec: Mapping[str, Sequence[float]], learning_rate: float | None, *, lora: bool
) -> tuple[tuple[float, ...], bool]:
    """Return the method's own learning rates, or the study's, or the first published one; and if it is the last."""
    if "learning_rate" in spec:
        return tuple(map(float, spec["learning_rate"])), False
    if learning_rate is not None:
        return (learning_rate,), False
    if not method.learning_rates:
        raise ConfigError(
            f"methods.{method.name}: learning_rate is missing; this method publishes none. Write it beside its "
            "hyper-parameters, or name one for all methods: train.learning_rate."
        )
    published = method.learning_rates[0]
    return (published * LORA_FACTOR if lora else published,), True


def as_record(cell: Cell) -> dict[str, Any]:
    """Return the cell as flat JSON for the index that tables are built from."""
    return {
        "cell": cell.id,
        "start": cell.start,
        "method": cell.method,
        "setting": cell.setting.label,
        "hyperparameters": dict(cell.setting.hyperparameters),
        "learning_rate": cell.setting.learning_rate,
        "size": cell.size,
        "seed": cell.seed,
    }

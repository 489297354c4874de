"""Hyper-parameters declared once: default, domain, published grid, unit and meaning on the field itself.

Help text, sweep grids, plan, report axes, docs tables, error texts and negative tests all read these fields.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from preflab.core.errors import ConfigError

_KEY = "preflab"


@dataclass(frozen=True, slots=True)
class Domain:
    """An interval of real numbers.

    Args:
        low: lower bound.
        high: upper bound.
        low_open: whether `low` itself is excluded.
        high_open: whether `high` itself is excluded.
        whole: whether only whole numbers count.
    """

    low: float
    high: float
    low_open: bool
    high_open: bool
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.whole and value != round(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        left = "(" if self.low_open else "["
        right = ")" if self.high_open else "]"
        return ("whole numbers in " if self.whole else "") + f"{left}{self.low:g}, {self.high:g}{right}"


POSITIVE = Domain(0.0, math.inf, low_open=True, high_open=True)
NON_NEGATIVE = Domain(0.0, math.inf, low_open=False, high_open=True)
COUNT = Domain(1.0, math.inf, low_open=False, high_open=True, whole=True)
UNIT_INTERVAL = Domain(0.0, 1.0, low_open=False, high_open=False)


@dataclass(frozen=True, slots=True)
class Hyper:
    """What a hyper-parameter field declares about itself."""

    domain: Domain
    grid: tuple[float, ...]
    log_scale: bool
    unit: str
    doc: str


def hyper(
    default: float,
    *,
    domain: Domain,
    grid: tuple[float, ...],
    unit: str,
    doc: str,
    log_scale: bool = False,
) -> Any:
    """Declare a dataclass field as a hyper-parameter.

    Args:
        default: value used when a study names none.
        domain: the values that make sense; anything else is refused.
        grid: published values, in the order a sweep should try them.
        unit: unit of the value, such as `1/nat`; empty when it has none.
        doc: one sentence for help, docs and report.
        log_scale: whether an axis over this value is logarithmic.
    """
    return dataclasses.field(default=default, metadata={_KEY: Hyper(domain, grid, log_scale, unit, doc)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """Base of every method's hyper-parameters: no fields, it only checks the ranges of its heirs."""

    def __post_init__(self) -> None:
        for name, spec in specs(type(self)).items():
            value = getattr(self, name)
            if value not in spec.domain:
                published = ", ".join(f"{v:g}" for v in spec.grid)
                raise ConfigError(f"{name}: must be in {spec.domain}; got {value!r}. Published values: {published}.")


def specs(hyperparameters: type[Hyperparameters]) -> dict[str, Hyper]:
    """Return the declaration of every hyper-parameter of a class, in order of definition."""
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(hyperparameters)}

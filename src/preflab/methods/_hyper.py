"""Hyper-parameters that many methods declare alike."""

from typing import Any

from preflab.core.domains import COUNT, POSITIVE, Domain, hyper


def tie(default: float, *, grid: tuple[float, ...]) -> Any:
    """Declare the beta of a reward that is beta times a log-ratio."""
    return hyper(
        default,
        domain=POSITIVE,
        grid=grid,
        unit="1/nat",
        doc="Strength of the tie to the reference: the reward is beta times the log-ratio, so small beta moves far.",
        log_scale=True,
    )


def target_temperature() -> Any:
    """Declare the temperature at which scores become targets."""
    return hyper(
        1e-4,
        domain=POSITIVE,
        grid=(1e-4,),
        unit="score",
        doc="Score difference that makes a response e times as probable as a target; small: only the best counts.",
        log_scale=True,
    )


def largest_exponent(elsewhere: str = "") -> Any:
    """Declare the clamp of an exponential; `elsewhere` is a sentence on what a peer does."""
    doc = (
        "Largest exponent: beyond it the exponential stays as it is there, without gradient. 80 is what float32 holds."
    )
    return hyper(80.0, domain=POSITIVE, grid=(80.0,), unit="nat", doc=f"{doc} {elsewhere}".strip())


def clip_range() -> Any:
    """Declare the clip range of PPO and its relatives."""
    return hyper(
        0.2,
        domain=Domain(0.0, 1.0, low_open=True, high_open=True),
        grid=(0.2,),
        unit="",
        doc="Largest relative change of a token's probability that is rewarded.",
    )


def passes_over_answers(default: float, *, grid: tuple[float, ...]) -> Any:
    """Declare how often each batch of sampled answers is used."""
    return hyper(default, domain=COUNT, grid=grid, unit="", doc="How often each batch of sampled answers is used.")

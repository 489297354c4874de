"""From what the arms measured to what may be said: parity first, then speed, then ratios. Pure functions."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.jobs import Result

CURVE_TOLERANCE = 1e-4
"""Largest gap between two float32 loss curves; sums run in another order, and Adam carries the difference on."""
START_TOLERANCE = 1e-4
"""Largest gap of the first loss from its value at policy == reference: a sum of hundreds of log-probs, in float32."""
PARITY_STEPS = 20
WARMUP = 2
"""Steps at the beginning of every process that no figure counts."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Whether two arms trained the same thing.

    Args:
        start_gap: largest gap of a first loss from ln 2.
        curve_gap: largest gap between the loss curves.
        steps: steps compared.
        same_tokens: whether both scored the same number of completion tokens.
        tolerance: largest `curve_gap` that passes.
    """

    start_gap: float
    curve_gap: float
    steps: int
    same_tokens: bool
    tolerance: float = CURVE_TOLERANCE

    @property
    def holds(self) -> bool:
        """Whether speed may be compared."""
        return self.same_tokens and self.start_gap <= START_TOLERANCE and self.curve_gap <= self.tolerance

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS"
        tokens = "the same" if self.same_tokens else "ANOTHER"
        return (
            f"parity {verdict}: first loss ln 2 within {self.start_gap:.1e} (at most {START_TOLERANCE:g}), loss curves "
            f"within {self.curve_gap:.1e} over {self.steps} steps (at most {self.tolerance:g}), {tokens} number of "
            "scored tokens"
        )


def parity(ours: Result, theirs: Result) -> Parity:
    """Compare two runs on the same rows, in float32."""
    return Parity(
        start_gap=max(abs(result.losses[0] - math.log(2)) for result in (ours, theirs)),
        curve_gap=curve_gap(ours, theirs),
        steps=len(ours.losses),
        same_tokens=ours.scored_tokens == theirs.scored_tokens,
    )


def curve_gap(ours: Result, theirs: Result, *, steps: int | None = None) -> float:
    """Return the largest gap between the loss curves of two runs, over the first steps or all."""
    if len(ours.losses) != len(theirs.losses):
        return math.inf
    return gap_between(ours.losses[:steps], theirs.losses[:steps])


def gap_between(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the largest gap between two curves; infinite where they differ in length or are not finite."""
    gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=False)]
    sound = len(ours) == len(theirs) > 0 and all(map(math.isfinite, gaps))
    return max(gaps) if sound else math.inf


def half_precision(ours: Result, theirs: Result, exact: Result) -> tuple[float, float]:
    """Return how far each arm's curve in half precision is from the curve in float32, at most."""
    return curve_gap(ours, exact), curve_gap(theirs, exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one pass over the rows needs, whoever does it.

    Args:
        batch_size: pairs per step.
        useful_tokens: of every step.
        flops: of every step, at least.
        matmul_flop_per_s: what a large product of random matrices reaches here.
    """

    batch_size: int
    useful_tokens: Sequence[int]
    flops: Sequence[float]
    matmul_flop_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a setting is, over all repeats.

    Args:
        steps: steps that count.
        pairs_per_s: at the median step.
        low: at the slowest tenth of the steps.
        high: at the fastest tenth.
        best: at the fastest step.
        with_reference: pairs per second of steps and reference pass together.
        useful_tokens_per_s: prompts counted once, no padding.
        matmul_frac: operations that the work needs, over what the machine multiplies in that time.
        peak_bytes: largest memory of any repeat.
        wall_s: median of the whole process.
        computed_ratio: tokens that the linear layers saw for each useful one.
    """

    steps: int
    pairs_per_s: float
    low: float
    high: float
    best: float
    with_reference: float
    useful_tokens_per_s: float
    matmul_frac: float
    peak_bytes: int
    wall_s: float
    computed_ratio: float


def speed(results: Sequence[Result], work: Work, *, warmup: int = WARMUP) -> Speed:
    """Return the speed over the repeats of one setting, the first steps of each left out."""
    timed = [seconds for result in results for seconds in result.step_s[warmup:]]
    if not timed:
        raise ValueError(f"no step is left behind {warmup} steps of warm-up; take more pairs")
    # Cells side by side step together, and share one reference pass.
    cells = results[0].cells
    batch, total = work.batch_size * cells, sum(timed)
    n_steps = sum(len(result.step_s) for result in results)
    reference_s = sum(result.reference_s for result in results) * len(timed) / n_steps
    deciles = statistics.quantiles(timed, n=10, method="inclusive") if len(timed) > 1 else [timed[0]] * 9
    return Speed(
        steps=len(timed),
        pairs_per_s=batch / statistics.median(timed),
        low=batch / deciles[8],
        high=batch / deciles[0],
        best=batch / min(timed),
        with_reference=batch * len(timed) / (total + reference_s),
        useful_tokens_per_s=cells * len(results) * sum(work.useful_tokens[warmup:]) / total,
        matmul_frac=cells * len(results) * sum(work.flops[warmup:]) / total / work.matmul_flop_per_s,
        peak_bytes=max(result.peak_bytes for result in results),
        wall_s=statistics.median(result.wall_s for result in results),
        computed_ratio=results[0].computed_tokens / (cells * sum(work.useful_tokens)),
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mib(n_bytes: float) -> str:
    """Return bytes in MiB."""
    return f"{n_bytes / 2**20:,.0f}"

"""How often 95 % intervals hold the truth, and how often tests find a difference that is none: by simulation.

    python -m benchmarks.coverage docs/results/coverage.md

Every case has a generator of its own, seeded by its words, so a case does not depend on the others.
"""

import argparse
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.coverage_cases import REGIMES, Case, cases, seeds_and_items
from preflab.stats.comparisons import paired_comparison, sign_flip_p
from preflab.stats.proportions import mcnemar_p

TEMPLATE = Path(__file__).with_name("coverage_page.md")
N_TESTS = 4000
LOW = 0.93
"""Coverage that is called a failure where it lies below this by more than twice its Monte Carlo error."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a case gave.

    Args:
        case: which one.
        coverage: share of intervals that hold the truth.
        error: its standard error over draws; intervals of one draw are not independent.
        half_width: mean half width.
    """

    case: Case
    coverage: float
    error: float
    half_width: float

    @property
    def fails(self) -> bool:
        """Whether the coverage is clearly below `LOW`."""
        return self.coverage + 2 * self.error < LOW


def measure(case: Case) -> Measured:
    """Draw a case many times."""
    rng = np.random.default_rng(zlib.crc32(f"{case.interval} {case.world}".encode()))
    shares, widths = [], []
    for _ in range(case.n_draws):
        tried = case.draw(rng)
        # Bounds may equal the truth but for rounding.
        shares.append(np.mean([each.low - 1e-12 <= truth <= each.high + 1e-12 for each, truth in tried]))
        widths.append(np.mean([each.half_width for each, _ in tried]))
    error = float(np.std(shares)) / math.sqrt(len(shares))
    return Measured(case, float(np.mean(shares)), error, float(np.mean(widths)))


def false_alarms() -> Iterator[tuple[str, str, float]]:
    """Yield test, world and the share of p-values of at most 5 % where nothing differs."""
    for name, world, draw in _tests():
        rng = np.random.default_rng(zlib.crc32(f"{name} {world}".encode()))
        yield name, world, float(np.mean([draw(rng) <= 0.05 for _ in range(N_TESTS)]))


def _tests() -> Iterator[tuple[str, str, Callable[[np.random.Generator], float]]]:
    for n in (20, 100, 1000):
        for share in (0.05, 0.3):
            yield "mcnemar_p", f"{n} items, {share:.0%} discordant", partial(_mcnemar, n=n, discordant=share)
    for n in (6, 12, 30, 100):
        yield "sign_flip_p", f"{n} items, normal", partial(_sign_flip, n=n)
    for n in (1, 2, 3, 5):
        for name, sd in REGIMES:
            yield "paired_comparison", f"{n} seed{'s' * (n > 1)} that {name}", partial(_paired, n=n, sd=sd)


def _mcnemar(rng: np.random.Generator, *, n: int, discordant: float) -> float:
    won, lost, _ = rng.multinomial(n, [discordant / 2, discordant / 2, 1 - discordant])
    return mcnemar_p(int(won), int(lost))


def _sign_flip(rng: np.random.Generator, *, n: int) -> float:
    return float(sign_flip_p(rng.normal(size=n), n_resamples=999)[0])


def _paired(rng: np.random.Generator, *, n: int, sd: float) -> float:
    gaps = seeds_and_items(rng, n, sd)
    return paired_comparison(gaps, np.zeros_like(gaps)).p


def page(measured: Iterable[Measured], alarms: Iterable[tuple[str, str, float]]) -> str:
    """Return the page in Markdown: the words of `coverage_page.md` with tables in their places."""
    tables = {name: _table(list(rows)) for name, rows in groupby(measured, key=lambda each: each.case.interval)}
    tables["tests"] = _alarm_table(alarms)
    return re.sub("<<(.+)>>", lambda place: tables[place[1]], TEMPLATE.read_text())


def _table(rows: list[Measured]) -> str:
    lines = ["| data | coverage | Monte Carlo error | mean half width |", "| --- | --- | --- | --- |"]
    for each in rows:
        coverage = f"**{each.coverage:.1%}**" if each.fails else f"{each.coverage:.1%}"
        lines.append(f"| {each.case.world} | {coverage} | {each.error:.1%} | {each.half_width:.3g} |")
    return "\n".join(lines)


def _alarm_table(alarms: Iterable[tuple[str, str, float]]) -> str:
    lines = ["| test | data | significant at 5 % | Monte Carlo error |", "| --- | --- | --- | --- |"]
    for name, world, share in alarms:
        error = math.sqrt(share * (1 - share) / N_TESTS)
        lines.append(f"| `{name}` | {world} | {share:.1%} | {error:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    measured = []
    for case in cases():
        measured.append(measure(case))
        print(f"{case.interval}, {case.world}: {measured[-1].coverage:.1%}")
    options.page.write_text(page(measured, false_alarms()))


if __name__ == "__main__":
    main()

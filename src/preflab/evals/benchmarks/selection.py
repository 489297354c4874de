"""Which items are asked and with how many worked examples: profiles, and subsets that depend on content alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from preflab.core.errors import ConfigError, DataError, nearest
from preflab.core.ids import digest_of
from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.evals.benchmarks.items import Row


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of a benchmark is run.

    Args:
        name: what commands call it.
        items: items of each benchmark at most; None runs all.
        shots: whether worked examples are shown.
        longest: tokens of a written answer at most, below the benchmark's own limit; None keeps that.
    """

    name: str
    items: int | None
    shots: bool
    longest: int | None

    def shots_of(self, benchmark: Benchmark) -> int:
        """Return the worked examples in front of an item."""
        return benchmark.shots if self.shots else 0

    def longest_of(self, benchmark: Benchmark) -> int:
        """Return the tokens of a written answer at most."""
        return benchmark.longest if self.longest is None else min(self.longest, benchmark.longest)


PROFILES = (
    Profile("quick", 100, shots=False, longest=256),
    Profile("standard", 500, shots=True, longest=None),
    Profile("paper", None, shots=True, longest=None),
)


def profile(name: str) -> Profile:
    """Return a profile by name.

    Raises:
        ConfigError: there is none of that name.
    """
    for each in PROFILES:
        if each.name == name:
            return each
    raise ConfigError(f"{name}: no such profile. {nearest(name, [each.name for each in PROFILES])}")


def in_content_order(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the order of their content's hash: random to the content, and the same for everyone.

    The order of a file does not matter, and a smaller subset is the beginning of a larger one. Of equal rows one stays.
    """
    return sorted({row.id: row for row in reversed(rows)}.values(), key=lambda row: row.id)


def subset(rows: Sequence[Row], n: int | None) -> list[Row]:
    """Return the items that a profile asks, in content order."""
    return in_content_order(rows)[:n]


def shots_of(pool: Sequence[Row], n: int, *, benchmark: Benchmark, scored: Sequence[Row]) -> list[Row]:
    """Return the rows of worked examples: the first `n` in content order.

    Raises:
        DataError: the pool has fewer rows, or holds an item that is scored.
    """
    known = {row.id for row in scored}
    if shared := [row for row in pool if row.id in known]:
        raise DataError(
            f"{benchmark.shots_file}, row {shared[0].number}: is also an item of {benchmark.file}, so worked examples "
            "would give answers away; keep rows in one of the two files."
        )
    if len(pool) < n:
        raise DataError(
            f"{benchmark.shots_file}: {benchmark.name} needs {n} worked examples; the file has {len(pool)}."
        )
    return in_content_order(pool)[:n]


def digest(rows: Sequence[Row]) -> str:
    """Return the SHA-256 of a subset: of the ids of its rows, in order."""
    return digest_of(row.id for row in rows)

"""Selection among a method's settings, on the validation split only and averaged over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preflab.studies.cells import Setting


@dataclass(frozen=True, slots=True)
class Candidate:
    """What validation says of one setting with one seed: the mean metric, or None where the cell diverged."""

    setting: Setting
    seed: int
    value: float | None


def best_settings(candidates: Sequence[Candidate], n: int) -> list[Setting]:
    """Return the `n` settings with the best means over seeds, best first; the first in grid order wins a tie.

    A setting that diverged with any seed is not eligible: a mean over the seeds that survived would flatter it. So
    fewer come back where too many diverged.
    """
    by_label: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_label.setdefault(candidate.setting.label, []).append(candidate)
    means = []
    for same in by_label.values():
        values = [candidate.value for candidate in same if candidate.value is not None]
        if len(values) == len(same):
            means.append((float(np.mean(values)), same[0].setting))
    return [setting for _, setting in sorted(means, key=lambda entry: -entry[0])[:n]]

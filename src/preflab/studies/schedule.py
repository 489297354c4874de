"""Which cells train together and how much fits into memory: decided once and kept with the study.

A study that is stopped and continued trains the same cells side by side at the same budgets, so it ends with the same
numbers; what ran out of memory once is not tried at that size again.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from preflab.store.artefacts import write_json
from preflab.studies.stages import SMALLEST_BUDGET, Job, Stage

_FILE = "schedule.json"


class Schedule:
    """The groups of a study's cells.

    Args:
        study: folder of the study.
        most: cells that may train together.
        workers: processes that will run jobs.
        token_budget: flat tokens per forward and backward of a worker.
        recompute: whether jobs compute layers again in the backward pass.
    """

    def __init__(self, study: Path, *, most: int, workers: int, token_budget: int, recompute: bool) -> None:
        self._path, self._most, self._workers, self._budget = study / _FILE, most, workers, token_budget
        self._recompute = recompute
        known = _read(study)
        self._groups: list[list[str]] = known.get("groups", [])
        self._halvings: dict[str, int] = known.get("halvings", {})

    def group(self, missing: Sequence[Stage]) -> None:
        """Put the cells that are to be trained and are in no group yet into groups.

        Cells that can train together are dealt out, longest first, to as many groups as keep every worker busy.
        """
        placed = {stage for group in self._groups for stage in group}
        alike: dict[str, list[Stage]] = {}
        for stage in missing:
            if stage.together and stage.id not in placed:
                alike.setdefault(stage.together, []).append(stage)
        for stages in alike.values():
            ordered = sorted(stages, key=lambda s: -s.work.train_tokens)
            n = groups_of(len(ordered), most=self._most, workers=self._workers)
            self._groups += [[stage.id for stage in ordered[i::n]] for i in range(n)]
        if alike or not self._path.exists():
            self._write()

    def jobs(self, ready: Sequence[Stage], waiting: Collection[str]) -> list[Job]:
        """Return the jobs that can start now, in the order of their first stages.

        Args:
            ready: stages that can start.
            waiting: ids of stages that cannot yet; their groups wait for them.
        """
        by_id = {stage.id: stage for stage in ready}
        member_of = {stage: group for group in self._groups for stage in group}
        jobs = []
        while by_id:
            group = member_of.get(next(iter(by_id)), [next(iter(by_id))])
            stages = tuple(by_id.pop(stage) for stage in group if stage in by_id)
            if not any(stage in waiting for stage in group):
                halvings = self._halvings.get(stages[0].id, 0)
                jobs.append(Job(stages=stages, size=len(group), halvings=halvings, recompute=self._recompute))
        return jobs

    def shrink(self, job: Job) -> bool:
        """Make a job that ran out of memory smaller; return False where that cannot help."""
        ids = [stage.id for stage in job.stages]
        if job.budget >= 2 * SMALLEST_BUDGET or not job.recomputes:
            self._halvings |= dict.fromkeys(ids, job.halvings + 1)
        elif len(ids) > 1:
            self._groups = [[stage for stage in group if stage not in ids] for group in self._groups]
            self._groups += [ids[::2], ids[1::2]]
        else:
            return False
        self._write()
        return True

    def _write(self) -> None:
        groups = [group for group in self._groups if group]
        write_json(
            self._path,
            {"schema_version": 1, "token_budget": self._budget, "groups": groups, "halvings": self._halvings},
        )


def groups_of(n_cells: int, *, most: int, workers: int) -> int:
    """Return how many groups to deal cells out to: no more than `most` in one, and a group for every worker."""
    n = -(-n_cells // most)
    return min(n_cells, -(-n // workers) * workers)


def recorded_budget(study: Path) -> int | None:
    """Return the token budget that a study ran with before."""
    return _read(study).get("token_budget")


def _read(study: Path) -> dict[str, Any]:
    path = study / _FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

"""Running a plan: ready stages go to workers, longest first; the same command continues a study that was stopped."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace

import torch

from preflab.store.ledger import Ledger
from preflab.studies.plan import Plan
from preflab.studies.schedule import Schedule
from preflab.studies.stages import Job, Outcome, Stage
from preflab.studies.workers import WorkerPool

_POLL_S = 0.5
_TRUST_S = 20.0
"""Planned seconds that the observed pace is weighed against, so that the first stages do not rule the estimate."""


@dataclass(slots=True)
class State:
    """Where a run stands.

    Args:
        done: ids of stages whose artefacts are committed.
        failed: id to error of stages that cannot finish, or wait for one that cannot.
        total: stages of the study as far as they are known.
        left_s: estimated seconds until the end with all workers.
        running: labels of what runs now.
    """

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    total: int = 0
    left_s: float = 0.0
    running: list[str] = field(default_factory=list)


Watcher = Callable[[State], None]


class Runner:
    """Runs a plan to its end.

    Args:
        plan: the study.
        watch: called a few times a second with the state.
    """

    def __init__(self, plan: Plan, watch: Watcher) -> None:
        self._plan = plan
        self._watch = watch
        self._ledger = Ledger(plan.folder)
        self.state = State()
        self._stages: list[Stage] | None = None
        self._seen: set[str] = set()
        self._schedule = Schedule(
            plan.folder,
            most=plan.sizing.most_fused,
            workers=plan.workers,
            token_budget=plan.sizing.token_budget,
            recompute=plan.sizing.recompute,
        )
        self._suspects: set[str] = set()
        self._pace = 1.0
        self._seconds: list[tuple[float, float]] = []

    def run(self) -> State:
        """Run what is missing and return `state`.

        Raises:
            KeyboardInterrupt: after the workers have committed checkpoints.
        """
        plan = self._plan
        plan.store.sweep()
        pool: WorkerPool | None = None
        running: dict[Future[dict[str, Outcome]], tuple[Job, float]] = {}
        try:
            while True:
                stages = self._known()
                ready = self._ready(stages, [job for job, _ in running.values()])
                if not ready and not running:
                    return self.state
                if pool is None:
                    pool = self._pool(min(plan.workers, len(stages)))
                for job in ready[: plan.workers - len(running)]:
                    for stage in job.stages:
                        self._ledger.append("started", stage=stage.id, label=stage.label)
                    running[pool.submit(job, plan.bench)] = (job, time.monotonic())
                finished, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                broken = [self._settle(future, *running.pop(future)) for future in finished]
                if any(broken):
                    for future, (job, began) in running.items():
                        self._settle(future, job, began)
                    running.clear()
                    pool.kill()
                    pool = None
                self._tell(stages, running)
        except KeyboardInterrupt:
            self._ledger.append("interrupted")
            if pool is not None:
                pool.stop()
            raise
        finally:
            if pool is not None:
                pool.kill()

    def _pool(self, workers: int) -> WorkerPool:
        plan = self._plan
        n_gpus = torch.cuda.device_count() if plan.bench.device == "cuda" else 0
        return WorkerPool(workers, threads=plan.config.numeric.threads, study=plan.folder, n_gpus=n_gpus)

    def _known(self) -> list[Stage]:
        """Return all stages known now; the list is made again after every job that ended."""
        if self._stages is None:
            self._stages = self._plan.explorer.known(failed=self.state.failed).stages
            new = [stage for stage in self._stages if stage.id not in self._seen]
            self._seen |= {stage.id for stage in new}
            self.state.done |= {stage.id for stage in new if self._plan.store.find(stage.spec) is not None}
            self._schedule.group([stage for stage in new if stage.id not in self.state.done])
        return self._stages

    def _ready(self, stages: Sequence[Stage], running: Sequence[Job]) -> list[Job]:
        """Return what can start now, longest first; a stage behind a failed one fails with it."""
        state = self.state
        busy = {stage.id for job in running for stage in job.stages}
        ready, waiting = list[Stage](), set[str]()
        for stage in stages:
            if stage.id in state.done or stage.id in busy or stage.id in state.failed:
                continue
            if behind := [need for need in stage.needs if need in state.failed]:
                self._fail(stage, f"needs a stage that failed: {state.failed[behind[0]]}")
            elif all(need in state.done for need in stage.needs):
                ready.append(stage)
            else:
                waiting.add(stage.id)
        jobs = self._schedule.jobs(ready, waiting)
        if suspects := [job for job in jobs if job.stages[0].id in self._suspects]:
            return [] if running else suspects[:1]
        # Stages that others wait for go first; then the longest.
        kinds = {"sft": 0, "reference": 1, "reward_model": 2, "leg": 3}
        return sorted(jobs, key=lambda job: (kinds.get(job.stages[0].kind, 4), -self._planned_s(job)))

    def _planned_s(self, job: Job) -> float:
        return sum(map(self._plan.seconds, job.stages))

    def _settle(self, future: "Future[dict[str, Outcome]]", job: Job, began: float) -> bool:
        """Record how a job ended; return whether the pool is broken."""
        self._stages = None  # a selection may follow, or an evaluation fall away
        ids = {stage.id for stage in job.stages}
        try:
            outcomes = future.result()
        except BrokenProcessPool:
            # The pool ends all its workers when one dies, so nobody knows whose fault it was until each runs alone.
            self._ledger.append("worker died", stage=job.stages[0].id, label=job.label)
            if ids & self._suspects:
                self._shrink(job, "its worker was killed, also when it ran alone")
            self._suspects |= ids
            return True
        self._suspects -= ids
        if all(outcome.status == "done" for outcome in outcomes.values()):
            self._seconds.append((self._planned_s(job), time.monotonic() - began))
        lost = []
        for stage in job.stages:
            outcome = outcomes[stage.id]
            if outcome.status == "done":
                self.state.done.add(stage.id)
                self._ledger.append("done", stage=stage.id, label=stage.label, seconds=outcome.info["seconds"])
            elif outcome.status == "failed":
                self._fail(stage, outcome.error)
            elif outcome.status == "out of memory":
                lost.append(stage)
        if lost:
            self._shrink(replace(job, stages=tuple(lost)), outcomes[lost[0].id].error)
        return False

    def _shrink(self, job: Job, error: str) -> None:
        """Begin a job that ran out of memory again with half the token budget, or give it up."""
        if not self._schedule.shrink(job):
            for stage in job.stages:
                self._fail(stage, f"out of memory at the smallest token budget ({error})")
            return
        for stage in job.stages:
            self._plan.store.clear_work(stage.spec)
            self._ledger.append("out of memory", stage=stage.id, label=stage.label, token_budget=job.budget)

    def _fail(self, stage: Stage, error: str) -> None:
        self.state.failed[stage.id] = error
        self._ledger.append("failed", stage=stage.id, label=stage.label, error=error)

    def _tell(self, stages: Sequence[Stage], running: dict[Future[dict[str, Outcome]], tuple[Job, float]]) -> None:
        """Update the state and show it; estimates follow the pace that was observed."""
        state, plan = self.state, self._plan
        if self._seconds:
            planned, real = map(sum, zip(*self._seconds, strict=True))
            self._pace = (real + _TRUST_S) / (planned + _TRUST_S)
        busy = {stage.id for job, _ in running.values() for stage in job.stages}
        ended = state.done | state.failed.keys() | busy
        left = sum(plan.seconds(stage) for stage in stages if stage.id not in ended) * self._pace
        for job, began in running.values():
            left += max(0.0, self._planned_s(job) * self._pace - (time.monotonic() - began))
        state.total = len(stages)
        state.left_s = left / plan.workers
        state.running = [job.label for job, _ in running.values()]
        self._watch(state)

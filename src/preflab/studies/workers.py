"""The processes that run jobs; what happens inside them is in `worker.py`, which this process never imports."""

from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from preflab.studies.bench import Bench
from preflab.studies.processes import clean_context
from preflab.studies.stages import Job, Outcome


class WorkerPool:
    """Processes that run stages; a worker that dies takes its stage with it, not the study.

    Args:
        workers: how many.
        threads: torch threads in each.
        study: folder of the study, where progress is written.
        n_gpus: GPUs that the workers share in turn; 0 on CPUs.
    """

    def __init__(self, workers: int, *, threads: int, study: Path, n_gpus: int) -> None:
        context = clean_context()
        self._stop = context.Event()
        indices = context.Value("i", 0)
        # Only this process holds the writing end, so the workers read its end when this process ends, even by kill -9.
        alive, self._alive = context.Pipe(duplex=False)
        arguments = (self._stop, indices, alive, threads, n_gpus)
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_initialize, initargs=arguments)
        self._study = study

    def submit(self, job: Job, bench: Bench) -> "Future[dict[str, Outcome]]":
        """Hand a job to the next free worker; what comes back says by stage id how each of its stages ended."""
        return self._pool.submit(_run, job, bench, self._study)

    def stop(self) -> None:
        """Ask the workers to checkpoint and end; stages that have not begun are dropped."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def kill(self) -> None:
        """End the workers at once; what they had committed stays."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _initialize(*arguments: Any) -> None:
    from preflab.studies.worker import initialize

    initialize(*arguments)


def _run(job: Job, bench: Bench, study: Path) -> dict[str, Outcome]:
    from preflab.studies.worker import run_job

    return run_job(job, bench, study)

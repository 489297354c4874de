"""Worker processes: each does one stage at a time, says how far it is, and ends with its parent."""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
import time
import traceback
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from preflab.core.errors import PreflabError
from preflab.models.load import quiet
from preflab.scoring.memory import keep_memory
from preflab.store.ledger import Ledger
from preflab.studies.bench import Bench
from preflab.studies.stages import Job, Stage
from preflab.studies.training import Committed, train_stages
from preflab.studies.work import run_stage
from preflab.train.loop import Interrupted

_CHECKPOINTED = ("sft", "train")
"""Stages that stop by themselves, with a checkpoint; the others keep nothing half done and can stop anywhere."""

_PROGRESS_S = 1.0
_stop: Any = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage ended: `done`, `interrupted`, `failed` or `out of memory` with an error text."""

    status: str
    info: dict[str, Any]
    error: str = ""


class WorkerPool:
    """Processes that run stages; a worker that dies takes its stage with it, not the study.

    Args:
        workers: how many.
        threads: torch threads in each.
        study: folder of the study, where progress is written.
        device: with `cuda`, workers share the visible GPUs in turn.
    """

    def __init__(self, workers: int, *, threads: int, study: Path, device: str) -> None:
        context = clean_context()
        self._stop = context.Event()
        indices = context.Value("i", 0)
        # Only this process holds the writing end, so the workers read its end when this process ends, even by kill -9.
        alive, self._alive = context.Pipe(duplex=False)
        arguments = (self._stop, indices, alive, threads, torch.cuda.device_count() if device == "cuda" else 0)
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


def warm_up() -> None:
    """Start importing what workers need, in the background, while the study is being planned."""
    clean_context()
    multiprocessing.forkserver.ensure_running()


def clean_context() -> Any:
    """Return how workers start: forked from a clean server that has imported the libraries and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preflab.studies.workers"])
    return context


def _initialize(stop: Any, indices: Any, alive: Any, threads: int, n_gpus: int) -> None:
    """Prepare a fresh worker: its share of the machine, no Ctrl-C of its own, and an end when the parent ends."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_study, args=(alive,), daemon=True).start()
    with indices.get_lock():
        index, indices.value = indices.value, indices.value + 1
    if n_gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(n_gpus)))
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index % n_gpus]
    torch.set_num_threads(threads)
    keep_memory()
    quiet()


def _end_with_the_study(alive: Any) -> None:
    """Wait for the process that runs the study to end, and end too."""
    with contextlib.suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


def _run(job: Job, bench: Bench, study: Path) -> dict[str, Outcome]:
    """Do one job and return how each of its stages ended.

    Errors come back as text, because not every exception survives the way between processes.
    """
    ledger, last = Ledger(study), 0.0
    first = job.stages[0]
    name, outcomes = f"{first.kind}-{first.id[:12]}", dict[str, Outcome]()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if _stop.is_set() and first.kind not in _CHECKPOINTED:
            raise Interrupted
        if time.monotonic() - last > _PROGRESS_S:
            last = time.monotonic()
            ledger.report_progress(name, {"label": job.label, "what": what, "done": done, "total": total})

    def ended(stage: Stage, how: Committed) -> None:
        outcomes[stage.id] = Outcome("failed", {}, str(how)) if isinstance(how, PreflabError) else Outcome("done", how)

    rest = Outcome("interrupted", {})
    report("loading", 0, 1)
    try:
        if first.kind in _CHECKPOINTED:
            train_stages(job, bench, report, _stop.is_set, ended=ended)
        else:
            ended(first, run_stage(job, bench, report))
    except Interrupted:
        pass
    except PreflabError as error:
        rest = Outcome("failed", {}, str(error))
    except Exception as error:  # a bug in one stage must not end the study; the traceback goes into the ledger
        status = "out of memory" if _is_out_of_memory(error) else "failed"
        rest = Outcome(status, {}, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    finally:
        with contextlib.suppress(OSError):
            ledger.end_progress(name)
    return {stage.id: outcomes.get(stage.id, rest) for stage in job.stages}


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether an allocation failed; torch raises a plain RuntimeError for the memory of the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)

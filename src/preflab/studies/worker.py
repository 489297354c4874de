"""Inside a worker process: one job at a time, progress in the ledger, an end with the process that runs the study."""

import contextlib
import os
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from preflab.core.errors import PreflabError
from preflab.models.load import quiet
from preflab.scoring.memory import is_out_of_memory, keep_memory
from preflab.store.ledger import Ledger
from preflab.studies.bench import Bench
from preflab.studies.resources import forget_start
from preflab.studies.stages import Job, Outcome, Stage
from preflab.studies.training import Committed, train_stages
from preflab.studies.work import run_stage
from preflab.train.loop import Interrupted

_CHECKPOINTED = ("sft", "reward_model", "leg", "train")
"""Stages that stop by themselves, with a checkpoint; the others keep nothing half done and can stop anywhere."""

_PROGRESS_S = 1.0
_stop: Any = None


def initialize(stop: Any, indices: Any, alive: Any, threads: int, n_gpus: int) -> None:
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


def run_job(job: Job, bench: Bench, study: Path) -> dict[str, Outcome]:
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
        forget_start()  # nobody knows in what state its layers are
    except Exception as error:  # a bug in one stage must not end the study; the traceback goes into the ledger
        forget_start()
        status = "out of memory" if is_out_of_memory(error) else "failed"
        rest = Outcome(status, {}, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    finally:
        with contextlib.suppress(OSError):
            ledger.end_progress(name)
    return {stage.id: outcomes.get(stage.id, rest) for stage in job.stages}

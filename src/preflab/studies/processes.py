"""How worker processes start. Nothing heavy is imported here, so that they can start before anything else does."""

import multiprocessing
import multiprocessing.forkserver
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import Any


class _WorkerProcess(ForkServerProcess):
    """A process that never imports the script that started it.

    Python imports the main script in every such process, so that what is pickled from it can be found there. Workers
    need nothing of it, and a script or notebook without `if __name__ == "__main__":` would run its training again.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return ForkServerProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = script


class _WorkerContext(ForkServerContext):
    Process = _WorkerProcess


def clean_context() -> Any:
    """Return how workers start: forked from a clean server that has imported the libraries and done nothing else."""
    context = _WorkerContext()
    context.set_forkserver_preload(["preflab.studies.served"])
    return context


def warm_up() -> None:
    """Start importing what workers need, in the background, while this process reads and plans."""
    clean_context()
    multiprocessing.forkserver.ensure_running()

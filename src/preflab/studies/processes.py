"""How worker processes start. Nothing heavy is imported here, so that they can start before anything else does."""

import multiprocessing
import multiprocessing.forkserver
from typing import Any


def clean_context() -> Any:
    """Return how workers start: forked from a clean server that has imported the libraries and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preflab.studies.served"])
    return context


def warm_up() -> None:
    """Start importing what workers need, in the background, while this process reads and plans."""
    clean_context()
    multiprocessing.forkserver.ensure_running()

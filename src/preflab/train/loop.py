"""The loop: every method, every start point, every size goes through `train`, alone or beside others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from preflab.core.errors import PreflabError
from preflab.models.policies import Policy
from preflab.train.cell import CellRun, Task
from preflab.train.checkpoints import Progress
from preflab.train.lockstep import drive

Ended = Progress | PreflabError
"""How a cell ended: its log (`diverged` says whether it reached its last step), or the error that stopped it."""


class Interrupted(Exception):
    """The run was asked to stop; its checkpoints are committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """How the loop talks to whoever runs it.

    Args:
        progress: called with steps done and steps to do, over all cells.
        should_stop: asked between steps.
        checkpoint_every_s: seconds between checkpoints.
        ended: called with the number of a cell as soon as it ends, while its weights are at hand.
    """

    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    checkpoint_every_s: float
    ended: Callable[[int, Ended], None] = lambda cell, how: None


def train(policy: Policy, tasks: Sequence[Task], folders: Sequence[Path], hooks: Hooks) -> list[Ended]:
    """Train the cells of a policy side by side, one optimizer step of each in turn; return how each ended.

    Dropout is off throughout: the model stays in evaluation mode, for every method alike. A cell whose loss, gradient
    or log-prob is not finite ends with `diverged` set and everything up to there in its log; the others go on. A cell
    that is to stop before its end leaves a checkpoint in its folder. A cell that stops early has the weights of its
    best evaluation when `hooks.ended` is called.

    Args:
        policy: the weights, trained in place.
        tasks: what each cell does.
        folders: where each cell's checkpoints lie; the newest is continued.
        hooks: who listens.

    Raises:
        Interrupted: `hooks.should_stop` said so; checkpoints are committed.
    """
    runs = [CellRun(policy, cell, task, folder) for cell, (task, folder) in enumerate(zip(tasks, folders, strict=True))]
    results: dict[int, Ended] = {}

    def end(cell: int, how: Ended) -> None:
        results[cell] = how
        if isinstance(how, Progress) and runs[cell].task.until is not None:
            runs[cell].save()
        runs[cell].take_kept()
        hooks.ended(cell, how)

    for cell, run in enumerate(runs):
        if run.ended:
            end(cell, run.progress)
    before = saved = time.monotonic()
    while live := [cell for cell in range(len(runs)) if cell not in results]:
        errors = drive(policy, {cell: runs[cell].advance() for cell in live})
        total = sum(run.progress.step if run.ended else run.last for run in runs)
        hooks.progress(sum(run.progress.step for run in runs), total)
        now, stop = time.monotonic(), hooks.should_stop()
        saving = stop or now - saved > hooks.checkpoint_every_s
        for cell in live:
            if saving:
                runs[cell].read()
            runs[cell].progress.seconds += (now - before) / len(live)
            error = errors[cell]
            if error is not None:
                end(cell, error)
            elif runs[cell].ended:
                end(cell, runs[cell].progress)
        before = now
        left = [run for cell, run in enumerate(runs) if cell not in results]
        if left and saving:
            for run in left:
                run.save()
            saved = now
        if stop and left:
            raise Interrupted
    return [results[cell] for cell in range(len(runs))]

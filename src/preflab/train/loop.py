"""The loop: every method, every start point, every size goes through `train`."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from preflab.core.errors import Diverged, RunError
from preflab.data.examples import TokenRow
from preflab.methods import Method, Moments
from preflab.models.adapters import decoder_of, mix
from preflab.models.load import trainable
from preflab.scoring.logps import score
from preflab.train import checkpoints
from preflab.train.optimize import adamw, clip, learning_rate
from preflab.train.settings import TrainSettings
from preflab.train.source import batch_rows, n_steps
from preflab.train.step import BatchResult, Given, References, accumulate

_REFERENCE_TOLERANCE = 2e-3
"""Relative gap accepted between the loss at step 0 and `loss_at_reference`: float32 sums in another order."""


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One cell to train.

    Args:
        method: the objective.
        hyperparameters: keyword arguments of its loss.
        rows: training rows in nested order, exactly `blocks[-1]` of them.
        references: role to the reference's log-probs of the rows; empty when the method needs none.
        live_reference: a frozen copy of the start point, where the method asks for the model itself.
        blocks: ascending nested sizes up to this cell's own.
        seed: the cell's seed: data order, and adapters' initialisation before the loop.
        monitor: fixed validation rows whose log-probs are followed.
        settings: the rest.
    """

    method: Method
    hyperparameters: Mapping[str, Any]
    rows: Sequence[TokenRow]
    references: References
    live_reference: PreTrainedModel | None = None
    blocks: Sequence[int]
    seed: int
    monitor: Sequence[TokenRow]
    settings: TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """How the loop talks to whoever runs it.

    Args:
        progress: called with steps done and steps to do.
        should_stop: asked between steps.
        checkpoint_every_s: seconds between checkpoints.
    """

    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    checkpoint_every_s: float


def train(policy: PreTrainedModel | PeftModel, task: Task, folder: Path, hooks: Hooks) -> checkpoints.Progress:
    """Train the policy in place and return its log, continuing from the newest checkpoint in `folder`.

    Dropout is off throughout: the model stays in evaluation mode, for every method alike. A non-finite loss, gradient
    or log-prob ends the run with `diverged` set and everything up to there in the log.

    Raises:
        RunError: the loss at step 0 is not `loss_at_reference`.
        Interrupted: `hooks.should_stop` said so; a checkpoint is committed.
    """
    parameters = dict(trainable(policy))
    optimizer = adamw(list(parameters.values()), task.settings)
    torch.manual_seed(task.seed)
    moving = _moving_reference(task)
    progress = checkpoints.restore(folder, parameters, optimizer, moving)
    run = _Run(policy, parameters, optimizer, task, progress)
    earlier_s, began = progress.seconds, time.monotonic()
    saved = began
    try:
        while progress.step < run.steps:
            run.advance()
            hooks.progress(progress.step, run.steps)
            now, stop = time.monotonic(), hooks.should_stop()
            progress.seconds = earlier_s + now - began
            if progress.step < run.steps and (stop or now - saved > hooks.checkpoint_every_s):
                checkpoints.save(folder, parameters, optimizer, progress, moving)
                saved = now
            if stop and progress.step < run.steps:
                raise Interrupted
    except Diverged as error:
        progress.diverged = error.cause
    return progress


def monitor_steps(steps: int, points: int) -> frozenset[int]:
    """Return the steps after which the validation rows are scored: evenly spaced, with the first and the last."""
    return frozenset(round(i * steps / max(1, points - 1)) for i in range(points)) | {steps}


@dataclass(slots=True)
class _Run:
    """A run in memory: the model, its optimizer, and where it stands."""

    policy: PreTrainedModel | PeftModel
    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    task: Task
    progress: checkpoints.Progress

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        settings = self.task.settings
        return n_steps(self.task.blocks[-1], batch_size=settings.batch_size, epochs=settings.epochs)

    def advance(self) -> None:
        """Do one optimizer step, and score the monitor rows where they are due."""
        progress = self.progress
        if progress.step == 0:
            progress.monitor += _monitor(decoder_of(self.policy), self.task, 0)
        progress.log.append(self._step(progress.step))
        progress.step += 1
        self._move_reference()
        if progress.step in monitor_steps(self.steps, self.task.settings.monitor_points):
            progress.monitor += _monitor(decoder_of(self.policy), self.task, progress.step)

    def _step(self, step: int) -> dict[str, Any]:
        task, settings = self.task, self.task.settings
        numbers = batch_rows(step, task.blocks, batch_size=settings.batch_size, seed=task.seed)
        rows = [task.rows[i] for i in numbers]
        given = Given(
            references={role: [values[i] for i in numbers] for role, values in task.references.items()},
            model=task.live_reference,
            state=tuple(Moments(*values) for values in self.progress.state),
            stream=(task.seed, step),
        )
        self.optimizer.zero_grad(set_to_none=True)
        model, budget = decoder_of(self.policy), settings.token_budget
        result = accumulate(model, rows, given, task.method, task.hyperparameters, budget=budget)
        _check_finite(result, step)
        if step == 0:
            _check_reference(task, result)
        norm = float(clip(list(self.parameters.values()), settings.max_grad_norm))
        if not math.isfinite(norm):
            raise Diverged(step, f"gradient norm is {norm}")
        rate = learning_rate(step, self.steps, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.progress.state = [list(moments) for moments in result.state]
        record = {"step": step, "learning_rate": rate, "grad_norm": norm, "n_rows": len(rows), **result._asdict()}
        del record["loss_at_reference"], record["state"]
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}

    def _move_reference(self) -> None:
        """Mix the policy into a moving reference, where the method says that it is time."""
        task = self.task
        if task.method.reference_update is not None:
            assert task.live_reference is not None
            share = task.method.reference_update(self.progress.step, **task.hyperparameters)
            mix(task.live_reference, self.policy, share)


def _moving_reference(task: Task) -> PreTrainedModel | None:
    """Return the reference that training changes, which checkpoints must hold."""
    return task.live_reference if task.method.reference_update is not None else None


def _check_finite(result: BatchResult, step: int) -> None:
    for name in ("chosen_total", "rejected_total", "loss"):
        value = getattr(result, name)
        # NaN totals mean that the batch has no such response; infinite ones that the policy left the floats.
        if math.isinf(value) or (name == "loss" and math.isnan(value)):
            raise Diverged(step, f"{name} is {value}")


def _check_reference(task: Task, result: BatchResult) -> None:
    """Compare the first loss with its value at policy == reference: a wrong mask or reference shows here first."""
    expected = result.loss_at_reference
    if math.isnan(expected):
        return
    if abs(result.loss - expected) > _REFERENCE_TOLERANCE * max(1.0, abs(expected)):
        raise RunError(
            f"{task.method.name}: the first loss is {result.loss:.6g}, but at policy = reference it must be "
            f"{expected:.6g}; the reference log-probs do not belong to this start point, template or tokenizer."
        )


def _monitor(model: PreTrainedModel, task: Task, step: int) -> list[dict[str, Any]]:
    """Score the monitor rows and return one record per row."""
    if not task.monitor:
        return []
    scores = score(model, task.monitor, ("chosen", "rejected"), budget=task.settings.token_budget)
    records: list[dict[str, Any]] = []
    for i, row in enumerate(task.monitor):
        record: dict[str, Any] = {"step": step, "row": row.row}
        for role in ("chosen", "rejected"):
            values = scores[role][i]
            record[f"{role}_total"] = None if values is None else _finite(float(np.sum(values, dtype=np.float64)), step)
            record[f"{role}_length"] = None if values is None else len(values)
        records.append(record)
    return records


def _finite(value: float, step: int) -> float:
    if not math.isfinite(value):
        raise Diverged(step, f"a validation log-prob is {value}")
    return value

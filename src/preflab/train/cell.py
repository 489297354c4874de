"""One cell in training: its optimizer, its place in the data, and its log. `loop.py` moves several of them at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from preflab.core.errors import Diverged, RunError
from preflab.data.examples import TokenRow
from preflab.methods import Method, Moments
from preflab.methods.needs import needs_values, passes_of
from preflab.models.policies import Policy
from preflab.scoring.flat import fill
from preflab.train import checkpoints
from preflab.train.lockstep import Asked, Forward, Run
from preflab.train.optimize import adamw, clip, decay_start, learning_rate
from preflab.train.rollout import Online, Rollout, Sampler, place_of
from preflab.train.settings import TrainSettings
from preflab.train.source import batch_rows, epoch_order, n_steps
from preflab.train.step import MEASURES, BatchResult, Given, References, gradient
from preflab.train.stopping import EarlyStop, best_step

_REFERENCE_TOLERANCE = 2e-3
"""Relative gap accepted between the loss at step 0 and `loss_at_reference`: float32 sums in another order."""

_MOST_UNREAD = 16
"""Steps whose measures may wait on a GPU before somebody reads them: reading waits for the GPU."""

_LOGGED = (*(name for name in MEASURES if name not in ("loss_at_reference", "clamped")), "grad_norm")
"""What a step says about itself, beside its counts."""

_MONITORED = ("chosen", "rejected", "mismatched")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One cell to train.

    Args:
        method: the objective.
        hyperparameters: keyword arguments of its loss.
        rows: training rows in nested order, exactly `blocks[-1]` of them.
        references: role to the reference's log-probs of the rows; empty when the method needs none.
        live_reference: the start point, where the method asks for the model itself: a copy where it moves, else the
            base of the policy's adapters will do.
        online: where answers and rewards come from, for a method that learns from its own answers.
        blocks: ascending nested sizes up to this cell's own.
        seed: the cell's seed: data order, and adapters' initialisation before the loop.
        monitor: fixed validation rows whose log-probs are followed; their mismatched responses are the unseen answers.
        answer: answers fixed prompts with the weights as they are, JSON-like records, after every evaluation between
            the first and the last; None leaves that out. It must touch neither weights nor torch's random numbers.
        settings: the rest.
        until: the step to stop at, with a checkpoint that other runs continue from; None goes on to the end.
        origin: folder of the checkpoint to begin with, of a run that did the same steps; None starts at step 0.
        stop: when to end early, with the best weights instead of the last; None goes to the last step and keeps those.
    """

    method: Method
    hyperparameters: Mapping[str, Any]
    rows: Sequence[TokenRow]
    references: References
    live_reference: PreTrainedModel | None = None
    online: Online | None = None
    blocks: Sequence[int]
    seed: int
    monitor: Sequence[TokenRow]
    settings: TrainSettings
    answer: Callable[[PreTrainedModel], Sequence[Mapping[str, Any]]] | None = None
    until: int | None = None
    origin: Path | None = None
    stop: EarlyStop | None = None


class _Batch(NamedTuple):
    """What one optimizer step learns from."""

    rows: Sequence[TokenRow]
    references: References
    sampled: Mapping[str, References]


class _Unread(NamedTuple):
    """A step whose measures are still on the device."""

    record: dict[str, Any]
    measures: Tensor
    norm: Tensor


@dataclass(slots=True)
class CellRun:
    """A cell in memory.

    Args:
        policy: the weights of its group.
        cell: its number in the policy.
        task: what to do.
        folder: where its checkpoints lie.
    """

    policy: Policy
    cell: int
    task: Task
    folder: Path
    parameters: dict[str, nn.Parameter] = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    progress: checkpoints.Progress = field(init=False)
    _monitored: frozenset[int] = field(init=False)
    _unread: list[_Unread] = field(init=False, default_factory=list)
    _rollout: Rollout | None = field(init=False, default=None)
    _kept: Mapping[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Continue from the newest checkpoint, or start."""
        self.parameters = self.policy.parameters(self.cell)
        self.optimizer = adamw(list(self.parameters.values()), self.task.settings)
        folders = [self.folder] if self.task.origin is None else [self.folder, self.task.origin]
        there = checkpoints.restore(folders, self.parameters, self.optimizer, self._moving())
        self.progress, self._kept = there.progress, there.kept
        self._rollout = None if there.rollout is None else Rollout(there.rollout)
        self._monitored = monitor_steps(self.task.blocks, self.task.settings, self._passes)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self._steps(self.task.blocks[-1])

    @property
    def last(self) -> int:
        """The step that this run goes to."""
        return self.steps if self.task.until is None else self.task.until

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        progress, stop = self.progress, self.task.stop
        if progress.diverged is not None or progress.step >= self.last:
            return True
        return stop is not None and stop.is_over(progress.monitor, progress.kept_step)

    def advance(self) -> Run[None]:
        """Do one optimizer step, and score the monitor rows where they are due.

        Raises:
            RunError: the loss at step 0 is not `loss_at_reference`.
        """
        try:
            yield from self._advance()
        except Diverged as error:
            self._diverge(error)

    def save(self) -> None:
        """Commit a checkpoint of what was read."""
        checkpoints.save(
            self.folder,
            self.parameters,
            self.optimizer,
            self.progress,
            self._moving(),
            kept=self._kept,
            rollout=None if self._rollout is None else self._rollout.arrays,
        )

    @torch.no_grad()
    def take_kept(self) -> None:
        """Put the weights that the run keeps in place of its last ones; its training is over."""
        for name, value in self._kept.items():
            self.parameters[name].copy_(value)

    def read(self) -> None:
        """Put the steps that are still on the device into the log; one that is not finite ends the run before it."""
        if not self._unread:
            return
        table = torch.stack([torch.cat([u.measures, u.norm.double()[None]]) for u in self._unread]).tolist()
        unread, self._unread = self._unread, []
        for (record, _, _), values in zip(unread, table, strict=True):
            measures = dict(zip((*MEASURES, "grad_norm"), values, strict=True))
            if cause := _not_finite(measures):
                return self._diverge(Diverged(record["step"], cause))
            del measures["loss_at_reference"]
            measures["clamped"] = int(measures["clamped"])
            self.progress.log.append({**record, **{k: None if math.isnan(v) else v for k, v in measures.items()}})

    def _advance(self) -> Run[None]:
        progress = self.progress
        if progress.step == 0:
            progress.monitor += yield from self._monitor()
        yield from self._step(progress.step)
        progress.step += 1
        self._move_reference()
        due = progress.step in self._monitored
        full = len(self._unread) >= _MOST_UNREAD
        if due or full or progress.step == self.last or not any(unread.measures.is_cuda for unread in self._unread):
            self.read()
        if due and progress.diverged is None:
            progress.monitor += yield from self._monitor()
            self._keep()
            self._answer()

    def _answer(self) -> None:
        """Note the answers of this step; those of the last one are the finished model's, which others sample."""
        progress, answer = self.progress, self.task.answer
        if answer is not None and progress.step < self.steps:
            with self.policy.alone(self.cell):
                progress.snapshots += [{"step": progress.step, **record} for record in answer(self.policy.model)]

    def _keep(self) -> None:
        """Set the weights aside where a run that stops early has just had its best evaluation."""
        progress = self.progress
        if self.task.stop is not None and best_step(progress.monitor) == progress.step:
            progress.kept_step = progress.step
            # In main memory: a GPU has none to spare for weights that only wait.
            self._kept = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}

    def _step(self, step: int) -> Run[None]:
        task, settings = self.task, self.task.settings
        rows, references, sampled = (yield from self._own_answers(step)) if task.online else self._data_rows(step)
        rate = learning_rate(step, self.steps, settings, smallest=self._steps(task.blocks[0]))
        record = {"step": step, "learning_rate": rate, "n_rows": len(rows)}
        if not rows:  # every prompt's answers had one reward
            self.read()
            self.progress.log.append({**record, "n_tokens": 0, "clamped": 0, **dict.fromkeys(_LOGGED)})
            return
        given = Given(
            references=references,
            sampled=sampled,
            model=task.live_reference,
            state=tuple(Moments(*values) for values in self.progress.state),
            stream=(task.seed, step),
        )
        self.optimizer.zero_grad(set_to_none=False)
        budget = settings.token_budget
        result = yield from gradient(rows, given, task.method, task.hyperparameters, budget=budget)
        if step == 0:
            _check_reference(task, result)
        parameters = list(self.parameters.values())
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= result.n_examples
        norm = clip(parameters, settings.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.progress.state = [list(moments) for moments in result.state]
        self._unread.append(_Unread({**record, "n_tokens": result.n_tokens}, result.measures, norm))

    def _data_rows(self, step: int) -> _Batch:
        task = self.task
        numbers = batch_rows(step, task.blocks, batch_size=task.settings.batch_size, seed=task.seed)
        references = {role: [values[i] for i in numbers] for role, values in task.references.items()}
        return _Batch([task.rows[i] for i in numbers], references, {})

    def _own_answers(self, step: int) -> Run[_Batch]:
        """Return the prompts of a step with the policy's answers, which are sampled where a round begins."""
        task, settings = self.task, self.task.settings
        assert task.online is not None and task.live_reference is not None
        place = place_of(step, task.blocks[-1], round_size=task.online.round, batch_size=settings.batch_size,
                         passes=self._passes)  # fmt: skip
        if self._rollout is None or self._rollout.round != place.round:
            order = epoch_order(task.blocks, seed=task.seed, epoch=place.epoch)
            sampler = Sampler(self.policy, self.cell, task.live_reference, task.online)
            numbers, budget = order[place.prompts], settings.token_budget
            self._rollout, answers = yield from sampler.sample(
                place, numbers, task.rows, task.method, task.hyperparameters, budget=budget
            )
            self.progress.answers += [{"step": step, **record} for record in answers]
        if task.method.credit is None:
            return _Batch(*self._rollout.pairs(task.rows, place.batch), {})
        return _Batch(self._rollout.rows(task.rows, place.batch), {}, self._rollout.known(place.batch))

    @property
    def _passes(self) -> int:
        return passes_of(self.task.method, self.task.hyperparameters)

    def _steps(self, size: int) -> int:
        return _steps(size, self.task.settings) * self._passes

    def _monitor(self) -> Run[list[dict[str, Any]]]:
        """Score the monitor rows; return one record per row."""
        rows, step = self.task.monitor, self.progress.step
        records: list[dict[str, Any]] = [{"step": step, "row": row.row} for row in rows]
        for record in records:
            record |= dict.fromkeys(f"{role}_{what}" for role in _MONITORED for what in ("total", "length"))
        scores = needs_values(self.task.method) and not self.task.method.is_online
        quantities: tuple[Asked, ...] = ("policy", "value") if scores else ("policy",)
        for group in fill(rows, _MONITORED, self.task.settings.token_budget):
            scored = yield Forward(rows=[rows[i] for i in group], roles=_MONITORED, quantities=quantities)
            assert scored is not None
            lengths = scored.length.long().tolist()
            parts = scored.values.float().cpu().split(lengths, dim=1)
            for key, (logps, *values), length in zip(scored.keys, parts, lengths, strict=True):
                total = float(np.sum(logps.numpy(), dtype=np.float64))
                if not math.isfinite(total):
                    raise Diverged(step, f"a validation log-prob is {total}")
                records[group[key.row]] |= {f"{key.role}_total": total, f"{key.role}_length": length}
                records[group[key.row]] |= {f"{key.role}_score": float(value[-1]) for value in values}
        return records

    def _diverge(self, error: Diverged) -> None:
        self.progress.diverged, self.progress.step = error.cause, error.step

    def _moving(self) -> PreTrainedModel | None:
        """Return the reference that training changes, which checkpoints must hold."""
        return self.task.live_reference if self.task.method.reference_update is not None else None

    def _move_reference(self) -> None:
        """Mix the policy into a moving reference, where the method says that it is time."""
        task = self.task
        if task.method.reference_update is not None:
            assert task.live_reference is not None
            share = task.method.reference_update(self.progress.step, **task.hyperparameters)
            if share:
                self.policy.mix_into(task.live_reference, self.cell, share)


def monitor_steps(blocks: Sequence[int], settings: TrainSettings, passes: int = 1) -> frozenset[int]:
    """Return the steps after which the validation rows are scored: evenly spaced, with the first and the last.

    With `wsd` a run passes through those of the smaller sizes until their decay, because it shares these steps.

    Args:
        blocks: ascending nested sizes up to the run's own.
        settings: of the run.
        passes: how often each batch is used in an epoch.
    """
    if settings.schedule != "wsd":
        return _evenly(_steps(blocks[-1], settings) * passes, settings.monitor_points)
    found, shared = frozenset[int](), -1
    for size in blocks:
        steps = _steps(size, settings) * passes
        last = steps if size == blocks[-1] else decay_start(steps, settings.decay_frac)
        found |= {step for step in _evenly(steps, settings.monitor_points) if shared < step <= last}
        shared = last
    return found


def _evenly(steps: int, points: int) -> frozenset[int]:
    return frozenset(round(i * steps / max(1, points - 1)) for i in range(points)) | {steps}


def _steps(size: int, settings: TrainSettings) -> int:
    return n_steps(size, batch_size=settings.batch_size, epochs=settings.epochs)


def _not_finite(measures: Mapping[str, float]) -> str:
    """Return what of a step is not finite, or an empty text."""
    for name in ("chosen_total", "rejected_total", "loss"):
        # NaN totals mean that the batch has no such response; infinite ones that the policy left the floats.
        if math.isinf(measures[name]) or (name == "loss" and math.isnan(measures[name])):
            return f"{name} is {measures[name]}"
    return "" if math.isfinite(measures["grad_norm"]) else f"gradient norm is {measures['grad_norm']}"


def _check_reference(task: Task, result: BatchResult) -> None:
    """Compare the first loss with its value at policy == reference: a wrong mask or reference shows here first."""
    measures = result.read()
    loss, expected = measures["loss"], measures["loss_at_reference"]
    if not math.isfinite(loss) or math.isnan(expected):
        return
    if abs(loss - expected) > _REFERENCE_TOLERANCE * max(1.0, abs(expected)):
        raise RunError(
            f"{task.method.name}: the first loss is {loss:.6g}, but at policy = reference it must be "
            f"{expected:.6g}; the reference log-probs do not belong to this start point, template or tokenizer."
        )

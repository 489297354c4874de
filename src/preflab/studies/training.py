"""What a worker does for stages that train: cells of one start point train side by side in one forward."""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from preflab.core.errors import PreflabError, RunError
from preflab.data.examples import TokenRow
from preflab.evals.value_heads import read_at_end
from preflab.methods import BRADLEY_TERRY, EURUS_REWARD, SFT, Method
from preflab.methods.needs import moves_reference, needs_live_reference, needs_values, stored_roles
from preflab.models.adapters import load_adapter, merge
from preflab.models.policies import LoraSettings, LoraStack, Policy, WholeModel, WithValues
from preflab.models.recompute import recomputed
from preflab.scoring.memory import peak_bytes
from preflab.studies.bench import Bench, Report, start_folder, write_table
from preflab.studies.cells import method_from
from preflab.studies.online import own_answers
from preflab.studies.prepare import read_split
from preflab.studies.resources import (
    forget_start,
    known_tokens,
    load,
    reference_store,
    start_model,
    tokenizer_of,
    with_unseen,
)
from preflab.studies.snapshots import FILE as SNAPSHOTS_FILE
from preflab.studies.snapshots import answering
from preflab.studies.stages import Job, Stage
from preflab.train.cell import Task
from preflab.train.checkpoints import Progress
from preflab.train.loop import Ended, Hooks, train
from preflab.train.settings import TrainSettings
from preflab.train.stopping import EarlyStop

Committed = dict[str, Any] | PreflabError
"""Info of the artefact that a stage left, or why it left none."""


def train_stages(
    job: Job,
    bench: Bench,
    report: Report,
    should_stop: Callable[[], bool],
    *,
    ended: Callable[[Stage, Committed], None],
) -> None:
    """Train cells of one start point beside each other; each leaves its artefact as soon as it ends.

    Args:
        job: stages of kind `train` or `leg`, or `reward_model`, with one start point and one shape of adapters; or one
            of kind `sft`.
        bench: what they work with.
        report: told about steps.
        should_stop: asked between steps.
        ended: called for every stage that ended.

    Raises:
        Interrupted: it was asked to stop and can be continued.
    """
    first = job.stages[0]
    weights = start_folder(bench, "base" if first.kind == "sft" else first.start, first.sft)
    policy = _policy(job.stages, bench, weights)

    def commit(cell: int, how: Ended) -> None:
        stage = job.stages[cell]
        if isinstance(how, PreflabError):
            ended(stage, how)
            return
        try:
            ended(stage, _commit(stage, bench, policy, cell, how, job.mark))
        except PreflabError as error:
            ended(stage, error)

    hooks = Hooks(
        progress=lambda done, total: report("steps", done, total),
        should_stop=should_stop,
        checkpoint_every_s=bench.checkpoint_every_s,
        ended=commit,
    )
    try:
        tasks = _tasks(job, policy, bench, weights)
        with recomputed(policy.model) if job.recomputes else contextlib.nullcontext():
            train(policy, tasks, [bench.store.work(stage.spec) for stage in job.stages], hooks)
    finally:
        policy.close()


def _policy(stages: Sequence[Stage], bench: Bench, weights: Path) -> Policy:
    lora = stages[0].spec.params["lora"]
    policy: Policy
    if lora is None:
        assert len(stages) == 1
        forget_start()
        policy = WholeModel(load(bench, weights))
    else:
        seeds = [stage.spec.params["seed"] for stage in stages]
        policy = LoraStack.fresh(start_model(bench, weights), LoraSettings(**lora), seeds)
    with_values = [cell for cell, stage in enumerate(stages) if needs_values(_method(stage))]
    return WithValues(policy, with_values, bias=stages[0].kind != "reward_model") if with_values else policy


def _method(stage: Stage) -> Method:
    """Return what a stage minimises."""
    if stage.kind == "reward_model":
        return EURUS_REWARD if stage.spec.params.get("objective") == "eurus" else BRADLEY_TERRY
    return SFT if stage.kind == "sft" else method_from(stage.method)


def _tasks(job: Job, policy: Policy, bench: Bench, weights: Path) -> list[Task]:
    data, first = bench.artefact(), job.stages[0]
    monitor = with_unseen(read_split(data, "validation", first.spec.params["monitor_rows"]).rows, bench)
    if first.kind == "sft":
        return [_task(first, job, bench, SFT, read_split(data, "sft").rows, monitor)]
    references = reference_store(bench, weights)
    largest = read_split(data, "train", max(stage.spec.params["blocks"][-1] for stage in job.stages))
    if first.kind == "reward_model":
        end_id = int(tokenizer_of(bench).eos_token_id)
        rows, monitor = ([read_at_end(row, end_id) for row in every] for every in (largest.rows, monitor))
        return [
            _task(stage, job, bench, _method(stage), rows[: stage.spec.params["blocks"][-1]], monitor)
            for stage in job.stages
        ]
    tasks = []
    for stage in job.stages:
        method, own = _method(stage), largest.rows[: stage.spec.params["blocks"][-1]]
        task = replace(_task(stage, job, bench, method, own, monitor), answer=answering(stage, job, bench))
        if method.is_online:
            task = replace(task, online=own_answers(stage, job, bench, largest))
        known = known_tokens(job, bench, references, own, stored_roles(method))
        tasks.append(replace(task, references=known, live_reference=_live_reference(stage, policy, bench, weights)))
    return tasks


def _task(
    stage: Stage, job: Job, bench: Bench, method: Method, rows: Sequence[TokenRow], monitor: Sequence[TokenRow]
) -> Task:
    params = stage.spec.params
    return Task(
        method=method,
        hyperparameters=params.get("hyperparameters", {}),
        rows=rows,
        references={},
        blocks=tuple(params.get("blocks", (len(rows),))),
        seed=params["seed"],
        monitor=monitor,
        settings=TrainSettings(**params["settings"], token_budget=job.budget),
        until=params.get("until"),
        stop=EarlyStop(params["stop"]["patience"]) if "stop" in params else None,
        origin=None if stage.after is None else bench.store.get(stage.after).path,
    )


def _live_reference(stage: Stage, policy: Policy, bench: Bench, weights: Path) -> PreTrainedModel | None:
    """Return the start point where a method asks for it: the base under the adapters, or a copy where that moves."""
    method = _method(stage)
    if not needs_live_reference(method):
        return None
    shared = stage.spec.params["lora"] is not None and not moves_reference(method)
    return policy.model if shared else load(bench, weights)


def _commit(
    stage: Stage, bench: Bench, policy: Policy, cell: int, progress: Progress, mark: Mapping[str, Any]
) -> dict[str, Any]:
    """Commit what a cell left: one that diverged its step and cause, and no weights; a leg its checkpoint too.

    That holds for early stopping as well, although weights from before the breakdown exist: methods must not differ in
    what counts as diverged. A cell that stopped before it would have diverged did not diverge.
    """
    info: dict[str, Any] = {}
    with bench.store.write(stage.spec, info) as folder:
        write_table(folder / "log.parquet", progress.log)
        write_table(folder / "monitor.parquet", progress.monitor)
        if progress.answers:
            write_table(folder / "answers.parquet", progress.answers)
        if progress.snapshots:
            write_table(folder / SNAPSHOTS_FILE, progress.snapshots)
        if progress.diverged is None:
            _save(stage, bench, policy, cell, folder)
            info |= {"status": "done"} | ({} if progress.kept_step is None else {"kept_step": progress.kept_step})
            if stage.kind == "reward_model":
                info |= _judged(progress.monitor)
        elif stage.kind in ("sft", "reward_model"):
            raise RunError(
                f"{stage.label}: diverged at step {progress.step}: {progress.diverged}; lower "
                f"{stage.kind}.learning_rate."
            )
        else:
            info |= {"status": "diverged", "step": progress.step, "cause": progress.diverged}
        if stage.kind == "leg":
            ignore = shutil.ignore_patterns(".tmp-*")
            shutil.copytree(bench.store.work(stage.spec), folder, ignore=ignore, dirs_exist_ok=True)
        info |= {
            "n_steps": len(progress.log),
            "tokens": sum(record["n_tokens"] for record in progress.log),
            "examples": sum(record["n_rows"] for record in progress.log),
            "clamped": sum(record["clamped"] for record in progress.log),
            "sampled_tokens": sum(record["n_tokens"] for record in progress.answers),
            **mark,
            "peak_bytes": peak_bytes(bench.device),
            # Its share of the time of all cells beside it, over all sessions.
            "seconds": round(progress.seconds, 3),
        }
    bench.store.clear_work(stage.spec)
    return info


def _judged(monitor: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a reward model says of the validation pairs at the end: mean, deviation, pairs in the right order."""
    last = max(record["step"] for record in monitor)
    pairs = [(r["chosen_score"], r["rejected_score"]) for r in monitor if r["step"] == last]
    scores = np.array(pairs)
    right = np.where(scores[:, 0] == scores[:, 1], 0.5, scores[:, 0] > scores[:, 1])
    return {
        "score_mean": float(scores.mean()),
        "score_std": float(scores.std()) or 1.0,
        "accuracy": float(right.mean()),
    }


def _save(stage: Stage, bench: Bench, policy: Policy, cell: int, folder: Path) -> None:
    """Save a model folder: an adapter for a cell with LoRA, whole weights for SFT, which is a start point."""
    if stage.kind == "sft" and isinstance(policy, LoraStack):
        policy.save(cell, folder / "adapter")
        base = load(bench, start_folder(bench, "base", None))
        WholeModel(merge(load_adapter(base, folder / "adapter"))).save(0, folder / "model")
    else:
        policy.save(cell, folder / "model")
    tokenizer_of(bench).save_pretrained(folder / "model")

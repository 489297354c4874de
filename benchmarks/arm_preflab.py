"""preflab's arm: one job through the loop that `preflab run` trains every cell with. Run by `benchmarks.jobs`."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftConfig
from transformers import PreTrainedModel

from benchmarks.jobs import BenchmarkError, Job, Result, serve
from benchmarks.levers import switched_off
from benchmarks.measure import StepClock, peak_bytes, resident_bytes, seconds_since_start, synchronize, versions
from preflab.core.cache import cache_root
from preflab.data.examples import TokenRow
from preflab.methods import find
from preflab.methods.trl import translate
from preflab.models.load import load_model, quiet
from preflab.models.policies import LoraSettings, LoraStack, Policy, WholeModel
from preflab.scoring.logps import prove, score
from preflab.scoring.memory import keep_memory
from preflab.studies.calibrate import Probe, measure
from preflab.studies.config import LoraConfig
from preflab.studies.sizing import total_memory
from preflab.train.cell import Task
from preflab.train.checkpoints import Progress
from preflab.train.loop import Hooks, train
from preflab.train.settings import TrainSettings
from preflab.train.source import epoch_order
from preflab.train.step import References

IMPORT_S = seconds_since_start()
SEED = 0
ROLES = ("chosen", "rejected")
FOLLOWED = TokenRow(0, np.array([0]), {role: np.array([0]) for role in ROLES})
"""The least that the loop can follow beside training: three tokens before the first step and after the last."""


def run(job: Job) -> Result:
    """Load, score the reference once, train, and say how long each took."""
    torch.set_num_threads(job.threads)
    keep_memory()
    quiet()
    began = time.perf_counter()
    model = load_model(Path(job.model), dtype=job.dtype, device=job.device)
    prove(model)
    rows = trained_in_order(read_rows(Path(job.rows)), seed=SEED)
    settings = train_settings(job)
    cells = job.options.get("cells", 1)
    with switched_off(job.options.get("off", ())):
        loaded = time.perf_counter()
        references, reference_s = scored(job, model, rows, budget=settings.token_budget)
        policy = policy_of(job, model, cells)
        idle = resident_bytes()
        clock = StepClock(job.device)
        tasks = [task_of(job, cell, rows, references, settings) for cell in range(cells)]
        logs = trained(policy, tasks, clock.mark)
    return Result(
        losses=[record["loss"] for record in logs[0]],
        step_s=clock.seconds(),
        import_s=IMPORT_S,
        load_s=loaded - began,
        reference_s=reference_s,
        scored_tokens=sum(len(values) for role in references.values() for values in role if values is not None),
        # The log counts flat tokens; padding that a lever brings in is not in it.
        computed_tokens=0 if job.options.get("off") else sum(record["n_tokens"] for log in logs for record in log),
        peak_bytes=peak_bytes(job.device),
        idle_bytes=idle,
        versions=versions(),
        cells=cells,
    )


def read_rows(path: Path) -> list[TokenRow]:
    """Read rows as tokens, in the file's order."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        TokenRow(i, np.asarray(r["prompt"]), {role: np.asarray(r[role]) for role in ROLES})
        for i, r in enumerate(records, start=1)
    ]


def trained_in_order(rows: Sequence[TokenRow], *, seed: int) -> list[TokenRow]:
    """Place rows so that the loop's own shuffling of one epoch visits them in the order given."""
    placed = list(rows)
    for row, place in zip(rows, epoch_order((len(rows),), seed=seed, epoch=0), strict=True):
        placed[place] = row
    return placed


def train_settings(job: Job) -> TrainSettings:
    """Return AdamW at PyTorch's defaults without decay, a linear schedule without warm-up, clipping at 1."""
    return TrainSettings(
        epochs=1,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        schedule="linear",
        warmup_frac=0.0,
        decay_frac=None,
        weight_decay=0.0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        token_budget=job.options["token_budget"],
        monitor_points=2,
    )


def planned_budget(job: Job) -> int:
    """Return the flat tokens per forward that `preflab run` would choose for this model and these lengths."""
    rows = read_rows(Path(job.rows))
    lora = json.loads((Path(job.adapter) / "adapter_config.json").read_text(encoding="utf-8")) if job.adapter else None
    probe = Probe(
        model=Path(job.model),
        dtype=job.dtype,
        device=job.device,
        threads=job.threads,
        lora=lora and LoraConfig(r=lora["r"], alpha=float(lora["lora_alpha"])),
        mean_prompt=round(np.mean([len(row.prompt) for row in rows])),
        mean_response=round(np.mean([len(ids) for row in rows for ids in row.responses.values()])),
        batch_size=job.batch_size,
        allow_remote_code=False,
    )
    return measure(probe, cache_root()).token_budget(total_memory(job.device))


def scored(job: Job, model: PreTrainedModel, rows: Sequence[TokenRow], *, budget: int) -> tuple[References, float]:
    """Return the start point's log-probs of every response, and the seconds they took."""
    synchronize(job.device)
    began = time.perf_counter()
    references = score(model, rows, ROLES, budget=budget)
    return references, time.perf_counter() - began


def policy_of(job: Job, model: PreTrainedModel, cells: int) -> Policy:
    """Return what is trained: all weights, or adapters that start as the one both arms were given."""
    if not job.adapter:
        return WholeModel(model)
    config = PeftConfig.from_pretrained(job.adapter)
    settings = LoraSettings(config.r, config.lora_alpha, sorted(config.target_modules))
    return LoraStack.fresh(model, settings, [SEED] * cells)


def task_of(job: Job, cell: int, rows: Sequence[TokenRow], references: References, settings: TrainSettings) -> Task:
    """Return a cell as `preflab run` trains it, following next to nothing; further cells have other betas."""
    same = translate("dpo", {**job.loss, "beta": job.loss["beta"] * (1 + cell / 10)})
    return Task(
        method=find(same.method),
        hyperparameters=same.hyperparameters,
        rows=rows,
        references=references,
        blocks=(len(rows),),
        seed=SEED,
        monitor=(FOLLOWED,),
        settings=settings,
    )


def trained(policy: Policy, tasks: Sequence[Task], mark: Callable[[], None]) -> list[list[dict[str, Any]]]:
    """Train cells side by side and return their logs.

    Raises:
        BenchmarkError: a cell did not reach its end.
    """
    hooks = Hooks(progress=lambda done, total: mark(), should_stop=lambda: False, checkpoint_every_s=3600.0)
    mark()
    with tempfile.TemporaryDirectory() as folder:
        ended = train(policy, tasks, [Path(folder) / str(cell) for cell in range(len(tasks))], hooks)
    logs = []
    for how in ended:
        if not isinstance(how, Progress) or how.diverged is not None:
            raise BenchmarkError(
                f"a cell did not reach its end: {how if not isinstance(how, Progress) else how.diverged}"
            )
        logs.append(how.log)
    return logs


if __name__ == "__main__":
    serve(run)

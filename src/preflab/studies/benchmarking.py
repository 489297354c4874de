"""Benchmarks as stages of a study: every start point and every final cell, one artefact per benchmark."""

import functools
import json
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError, DataError
from preflab.evals.benchmarks.catalogue import benchmark, named
from preflab.evals.benchmarks.files import data_folder
from preflab.evals.benchmarks.selection import profile
from preflab.evals.benchmarks.tasks import Task, prepare
from preflab.models.load import context_length
from preflab.store.artefacts import write_json
from preflab.studies.bench import Bench, Report, start_folder, write_table
from preflab.studies.config import BenchmarksConfig
from preflab.studies.resources import tokenizer_of, trained
from preflab.studies.stages import Job, Work

RECORDS = "items.parquet"
_PARTIAL = "answers.json"
_CHARACTERS = 4
"""Characters of a token, about, in what a plan estimates."""
_ANSWERED = 0.6
"""Part of the longest answer that greedy ones take, about."""


def tasks_of(config: BenchmarksConfig | None) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """Return the benchmarks of a study, and one sentence for each that is missing.

    Raises:
        ConfigError: there is none of a name, or the folder of the files is not there.
        DataError: a file is damaged.
    """
    if config is None:
        return (), ()
    try:
        chosen, amount = named(config.names), profile(config.profile)
    except ConfigError as error:
        raise ConfigError(f"evaluate.benchmarks: {error}") from error
    tasks, absent = prepare(chosen, amount, data_folder(Path(config.data_dir) if config.data_dir else None))
    return tuple(tasks), tuple(absent)


def work_of(task: Task) -> Work:
    """Return about how much a benchmark computes."""
    tokens = task.characters / _CHARACTERS
    answers = len(task.items) * task.profile.longest_of(task.benchmark) * _ANSWERED
    return Work(score_tokens=tokens, generate_tokens=answers if task.benchmark.kind == "written" else 0.0)


def run_benchmark(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Score a model on one benchmark, item by item; a stopped stage continues behind its last written answers."""
    (stage,) = job.stages
    params = stage.spec.params
    name = params["key"]["benchmark"]
    tasks, absent = prepare([benchmark(name)], profile(params["profile"]), Path(bench.benchmark_files))
    if absent:
        raise DataError(absent[0])
    (task,) = tasks
    if (task.subset, task.prompts) != (params["key"]["subset"], params["key"]["prompts"]):
        raise DataError(f"{bench.benchmark_files}: the files of {name} changed since the plan; run the study again.")
    partial = bench.store.work(stage.spec) / _PARTIAL
    weights = start_folder(bench, stage.start, stage.sft)
    with trained(stage, bench) as model:
        records = task.run(
            model,
            tokenizer_of(bench),
            template=params["template"],
            end_ids=bench.end_ids,
            context=context_length(weights, allow_remote_code=bench.allows_code(weights)),
            budget=job.budget,
            batch_size=job.smaller(params["batch_size"]),
            known=json.loads(partial.read_text(encoding="utf-8")) if partial.exists() else (),
            kept=functools.partial(write_json, partial),
            progress=functools.partial(report, name),
        )
    write_table(folder / RECORDS, records)
    info |= {"key": params["key"], "n_items": len(records)}

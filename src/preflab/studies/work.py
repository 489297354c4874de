"""What a worker does for each kind of stage that does not train. Every function reads artefacts and leaves one."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedModel

from preflab.evals.pairs import ROLES, margins, match_unpaired, score_pairs
from preflab.evals.responses import describe_responses, rewards_of, score_responses
from preflab.models.load import weights_digest
from preflab.studies.bench import Bench, Report, start_folder, write_table
from preflab.studies.benchmarking import run_benchmark
from preflab.studies.diagnosing import diagnose, take_gradients
from preflab.studies.prepare import Split, read_split
from preflab.studies.probe_tables import TOKENS_FILE
from preflab.studies.questions import answered, questions
from preflab.studies.resources import known_tokens, reference_store, start_model, tokenizer_of, trained
from preflab.studies.scorers import scorer_of
from preflab.studies.snapshots import FILE as SNAPSHOTS_FILE
from preflab.studies.snapshots import scored_snapshots
from preflab.studies.stages import Job
from preflab.train.step import References


def run_stage(job: Job, bench: Bench, report: Report) -> dict[str, Any]:
    """Do a job of one stage that does not train, and commit its artefact; return the artefact's info.

    Raises:
        Interrupted: `report` said so.
        PreflabError: the stage failed.
    """
    functions = {
        "reference": _reference,
        "validate": _validate,
        "evaluate": _evaluate,
        "diagnose": diagnose,
        "gradients": take_gradients,
        "benchmark": run_benchmark,
    }
    began = time.perf_counter()
    (stage,) = job.stages
    info: dict[str, Any] = dict(job.mark)
    with bench.store.write(stage.spec, info) as folder:
        functions[stage.kind](job, bench, folder, info, report)
        info["seconds"] = round(time.perf_counter() - began, 3)
    bench.store.clear_work(stage.spec)
    return info


def _reference(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Fill the reference store with everything this study will ask of one start point."""
    (stage,) = job.stages
    data = bench.artefact()
    weights = start_folder(bench, stage.start, stage.sft)
    references = reference_store(bench, weights)
    before = references.n_scored
    for name, roles, n in stage.spec.params["scored"]:
        known_tokens(job, bench, references, read_split(data, name, n).rows, roles, functools.partial(report, name))
    info |= {"responses_scored": references.n_scored - before, "weights": weights_digest(weights)}
    (folder / "about.txt").write_text("Log-probs live in the reference store outside the study.\n", encoding="utf-8")


def _validate(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Score a cell on the validation split by the metric that selects settings."""
    (stage,) = job.stages
    params = stage.spec.params
    split = read_split(bench.artefact(), "validation", params["n_rows"])
    if params["metric"] == "reward":
        gold = scorer_of(params["reward"], bench)
        assert gold is not None
        asked = questions(split, params["n_prompts"])
        with trained(stage, bench) as model:
            responses = answered(
                model, asked, params, params["seed"], job, bench, functools.partial(report, "sampling")
            )
        values = rewards_of(asked, responses, tokenizer_of(bench), gold)
    else:
        known = _known_pairs(split, job, bench)
        with trained(stage, bench) as model:
            records = _score_split(model, split, known, job, functools.partial(report, "scoring"))
        values = [0.5 if m == 0 else float(m > 0) for m in margins(records)]
    info |= {"metric": params["metric"], "value": float(np.mean(values)), "n": len(values)}
    pq.write_table(pa.table({"value": values}), folder / "values.parquet")


def _evaluate(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Score pairs and sample responses on the test and out-of-distribution splits, per example."""
    (stage,) = job.stages
    params = stage.spec.params
    pairs: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    tokens: list[dict[str, Any]] = []
    data, gold = bench.artefact(), scorer_of(params["reward"], bench)
    for name in params["splits"]:
        split = read_split(data, name)
        compared = read_split(data, name, params["n_pairs"])
        progress = functools.partial(report, name)
        asked = questions(split, params["n_prompts"])
        known = _known_pairs(compared, job, bench)
        with trained(stage, bench) as model:
            records = _score_split(model, compared, known, job, progress)
            responses = answered(model, asked, params, params["seed"], job, bench, progress)
            own = score_responses(model, asked, responses, budget=job.budget, progress=progress)
        start = start_model(bench, start_folder(bench, stage.start, stage.sft))
        before = score_responses(start, asked, responses, budget=job.budget, progress=progress)
        pairs += [{"split": name, **record} for record in records]
        described = describe_responses(asked, responses, own, before, tokenizer_of(bench), scorer=gold)
        answers += [{"split": name, **record} for record in described]
        tokens += [
            {
                "split": name,
                "row": q.example.row,
                "prompt_ids": q.prompt,
                "response_ids": r.tokens,
                "truncated": r.truncated,
            }
            for q, r in zip(asked, responses, strict=True)
        ]
    write_table(folder / "pairs.parquet", pairs)
    write_table(folder / "responses.parquet", answers)
    write_table(folder / TOKENS_FILE, tokens)
    if snapshots := scored_snapshots(stage, bench, gold):
        write_table(folder / SNAPSHOTS_FILE, snapshots)
    info |= {"n_pairs": len(pairs), "n_responses": len(answers)}


def _known_pairs(split: Split, job: Job, bench: Bench) -> References:
    """Return what the start point says of both responses of each row."""
    references = reference_store(bench, start_folder(bench, job.stages[0].start, job.stages[0].sft))
    return known_tokens(job, bench, references, split.rows, ROLES)


def _score_split(
    model: PreTrainedModel, split: Split, known: References, job: Job, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    records = score_pairs(model, split.rows, known, budget=job.budget, progress=progress)
    given = [
        {"family": e.family, **record}
        for e, record in zip(split.examples, records, strict=True)
        if e.chosen or e.rejected
    ]
    return match_unpaired(given)

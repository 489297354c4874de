"""What a worker does to say what training did to a model: from the answers that `evaluate` sampled, and one forward."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from transformers import PreTrainedModel

from preflab.core.errors import RunError
from preflab.data.examples import TokenRow
from preflab.data.tokens import TokenSettings
from preflab.evals.probes import ROLES, add_probes, answer_states, describe_answers, probe_records
from preflab.evals.responses import Question, sample_responses
from preflab.models.adapters import load_adapter, merge
from preflab.models.recompute import recomputed
from preflab.sampling.generate import GenerationSettings, Response
from preflab.store.artefacts import StageSpec
from preflab.studies.bench import Bench, Report, start_folder, write_table
from preflab.studies.prepare import Split, read_split
from preflab.studies.probe_tables import (
    ANSWERS_FILE,
    GRADIENTS_FILE,
    PAIRS_FILE,
    PROBES_FILE,
    ROWS_FILE,
    TOKENS_FILE,
    answer_records,
    gradient_records,
    read_rows,
    similarity_records,
    with_paraphrases,
    write_rows,
)
from preflab.studies.resources import (
    known_tokens,
    load,
    reference_store,
    start_model,
    tokenizer_of,
    trained,
    with_unseen,
)
from preflab.studies.stages import Job, Stage


def diagnose(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Give test rows their probes, for a start point; score those, and look into its answers, for a cell."""
    (stage,) = job.stages
    if stage.train is None:
        _diagnose_start(job, bench, folder, report)
    else:
        _diagnose_cell(job, bench, folder, report)


def take_gradients(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Take gradients of both sides of some pairs; a stage of its own, because it needs more memory than scores."""
    (stage,) = job.stages
    params = stage.spec.params
    rows = read_split(bench.artefact(), "test", params["rows"]).rows
    model = _apart(stage, bench)
    with recomputed(model) if job.recomputes else contextlib.nullcontext():
        write_table(folder / GRADIENTS_FILE, gradient_records(model, rows, params["pairs"]))


def _diagnose_start(job: Job, bench: Bench, folder: Path, report: Report) -> None:
    (stage,) = job.stages
    split = read_split(bench.artefact(), "test", stage.spec.params["rows"])
    rows, answers = _answered(stage.reads["evaluate"], bench)
    weights = start_folder(bench, stage.start, stage.sft)
    model = start_model(bench, weights)
    sampled = {row.prompt.tobytes(): answer.tokens for row, answer in zip(rows, answers, strict=True)}
    greedy = _greedy(job, bench, split, model)
    probes = add_probes(
        with_paraphrases(split.examples, with_unseen(split.rows, bench), tokenizer_of(bench), _settings(bench)),
        greedy=[greedy[row.prompt.tobytes()].tokens for row in split.rows],
        sampled=[sampled.get(row.prompt.tobytes()) for row in split.rows],
    )
    # Scored here once, so that every cell finds them in the store.
    known_tokens(job, bench, reference_store(bench, weights), probes, ROLES, functools.partial(report, "probes"))
    n = stage.spec.params["prompts"]
    described = describe_answers(model, model, rows[:n], answers[:n], budget=job.budget)
    write_rows(folder / ROWS_FILE, probes)
    write_table(folder / ANSWERS_FILE, answer_records("sampled", rows[:n], answers[:n], described, tokenizer_of(bench)))
    write_table(folder / PAIRS_FILE, similarity_records(model, split.rows, budget=job.budget))


def _diagnose_cell(job: Job, bench: Bench, folder: Path, report: Report) -> None:
    (stage,) = job.stages
    probes = read_rows(bench.store.get(stage.reads["start"]).file(ROWS_FILE))
    rows, answers = _answered(stage.reads["evaluate"], bench, stage.spec.params["prompts"])
    weights = start_folder(bench, stage.start, stage.sft)
    known = known_tokens(job, bench, reference_store(bench, weights), probes, ROLES)
    with trained(stage, bench) as model:
        progress = functools.partial(report, "probes")
        records = probe_records(model, probes, known, budget=job.budget, progress=progress)
        states = answer_states(model, rows, answers, budget=job.budget)
        head = model.get_output_embeddings()
    if model.get_output_embeddings() is not head:
        raise RunError(
            f"{stage.label}: its adapter sits on the output layer too, which the start point shares; a diagnosis needs "
            "both at once. Set diagnose: null."
        )
    start = start_model(bench, weights)
    described = describe_answers(model, start, rows, answers, budget=job.budget, states=states)
    write_table(folder / PROBES_FILE, records)
    write_table(folder / ANSWERS_FILE, answer_records("sampled", rows, answers, described, tokenizer_of(bench)))


def _answered(evaluation: StageSpec, bench: Bench, n: int | None = None) -> tuple[list[TokenRow], list[Response]]:
    """Return the first `n` test prompts of an evaluation, as rows without a response, and what was answered."""
    table = pq.read_table(bench.store.get(evaluation).file(TOKENS_FILE), filters=[("split", "==", "test")])
    records = table.to_pylist()[:n]
    rows = [TokenRow(r["row"], np.asarray(r["prompt_ids"], dtype=np.int64), {}) for r in records]
    answers = [Response(np.asarray(r["response_ids"], dtype=np.int64), r["truncated"]) for r in records]
    return rows, answers


def _greedy(job: Job, bench: Bench, split: Split, model: PreTrainedModel) -> dict[bytes, Response]:
    """Return the start point's greedy answer to every prompt of a split."""
    evaluation = job.stages[0].reads["evaluate"].params
    asked = {
        row.prompt.tobytes(): Question(example, row.prompt, "")
        for example, row in zip(split.examples, split.rows, strict=True)
    }
    settings = GenerationSettings(
        max_new_tokens=evaluation["max_new_tokens"],
        batch_size=job.smaller(evaluation["batch_size"]),
        seed=0,
        greedy=True,
    )
    questions = list(asked.values())
    found = sample_responses(model, tokenizer_of(bench), questions, settings, end_ids=bench.end_ids)
    return dict(zip(asked, found, strict=True))


def _settings(bench: Bench) -> TokenSettings:
    """Return how the study's rows became tokens."""
    data = bench.data.params
    most = data["max_prompt_tokens"] or max(1, 3 * data["max_tokens"] // 4)
    return TokenSettings(template=data["template"], max_tokens=data["max_tokens"], max_prompt_tokens=most)


def _apart(stage: Stage, bench: Bench) -> PreTrainedModel:
    """Return a model that is nobody else's, with its adapter folded in: its gradients are by all of its weights."""
    weights = start_folder(bench, stage.start, stage.sft)
    if stage.train is None:
        return load(bench, weights)
    folder = bench.store.get(stage.train).file("model")
    if not (folder / "adapter_config.json").exists():
        return load(bench, folder)
    return merge(load_adapter(load(bench, weights), folder)).requires_grad_(False)

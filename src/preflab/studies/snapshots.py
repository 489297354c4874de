"""Answers to a few test prompts on the way through a training: its stage samples them, its evaluation scores them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from transformers import PreTrainedModel

from preflab.data.tokens import response_text
from preflab.evals.responses import rewards_of
from preflab.evals.rewards import Scorer
from preflab.sampling.generate import Response
from preflab.studies.bench import Bench
from preflab.studies.prepare import read_split
from preflab.studies.questions import answered, questions
from preflab.studies.resources import tokenizer_of
from preflab.studies.stages import Job, Stage

FILE = "snapshots.parquet"
"""In a training's artefact the tokens of the answers, in its evaluation's their texts and rewards."""


def answering(stage: Stage, job: Job, bench: Bench) -> Callable[[PreTrainedModel], Sequence[Mapping[str, Any]]] | None:
    """Return what answers the prompts that a training is watched by, or None where it is watched by none.

    The random numbers are those of its evaluation, so that an answer on the way and the final one differ by the weights
    alone.
    """
    params = stage.spec.params.get("snapshots")
    if params is None:
        return None
    asked = questions(read_split(bench.artefact(), "test"), params["prompts"])

    def answer(model: PreTrainedModel) -> list[dict[str, Any]]:
        found = answered(model, asked, params, stage.spec.params["seed"], job, bench)
        return [
            {"row": q.example.row, "response_ids": r.tokens.tolist(), "truncated": r.truncated}
            for q, r in zip(asked, found, strict=True)
        ]

    return answer


def scored_snapshots(stage: Stage, bench: Bench, scorer: Scorer | None) -> list[dict[str, Any]]:
    """Return one record per answer on the way to the cell that a stage evaluates; none where it was not watched.

    Args:
        stage: an evaluation.
        bench: what it works with.
        scorer: scores texts, or None.
    """
    if stage.train is None or not (path := bench.store.get(stage.train).path / FILE).exists():
        return []
    records = pq.read_table(path).to_pylist()
    found = [Response(np.asarray(r["response_ids"], dtype=np.int64), r["truncated"]) for r in records]
    by_row = {q.example.row: q for q in questions(read_split(bench.artefact(), "test"))}
    asked, tokenizer = [by_row[r["row"]] for r in records], tokenizer_of(bench)
    rewards = [None] * len(found) if scorer is None else rewards_of(asked, found, tokenizer, scorer)
    return [
        {
            "split": "test",
            "row": record["row"],
            "step": record["step"],
            "response": response_text(response.tokens, tokenizer),
            "n_tokens": len(response.tokens),
            "truncated": response.truncated,
            "reward": reward,
        }
        for record, response, reward in zip(records, found, rewards, strict=True)
    ]

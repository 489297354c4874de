"""Own answers and their rewards in a study: how a training stage samples, and who judges."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from preflab.data.examples import TokenRow
from preflab.evals.responses import Question, rewards_of
from preflab.evals.value_heads import RewardModel, load_head
from preflab.models.adapters import load_adapter, merge
from preflab.sampling.generate import GenerationSettings, Response, generate
from preflab.studies.bench import Bench, start_folder
from preflab.studies.prepare import Split
from preflab.studies.resources import load, tokenizer_of
from preflab.studies.scorers import scorer_of
from preflab.studies.stages import Job, Stage
from preflab.train.rollout import Judged, Online

Judge = Callable[[Sequence[TokenRow], Sequence[Response]], Sequence[Judged]]


def own_answers(stage: Stage, job: Job, bench: Bench, split: Split) -> Online:
    """Return where the answers of a training stage and their rewards come from.

    Args:
        stage: a training stage of a method that learns from its own answers.
        job: the stages beside it.
        bench: what it works with.
        split: its training rows.
    """
    params, tokenizer = stage.spec.params["online"], tokenizer_of(bench)
    settings = GenerationSettings(
        max_new_tokens=params["max_new_tokens"],
        batch_size=job.smaller(params["batch_size"]),
        seed=stage.spec.params["seed"],
    )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def answer(model: PreTrainedModel, rows: Sequence[TokenRow], keys: Sequence[str]) -> list[Response]:
        prompts = [row.prompt for row in rows]
        return generate(model, prompts, keys, end_ids=bench.end_ids, pad_id=int(pad), settings=settings)

    judge = _judge(stage, job, bench, split)
    return Online(samples=params["samples"], round=params["round"], answer=answer, judge=judge)


def _judge(stage: Stage, job: Job, bench: Bench, split: Split) -> Judge:
    params, tokenizer = stage.spec.params["online"], tokenizer_of(bench)
    examples = {row.row: example for row, example in zip(split.rows, split.examples, strict=True)}
    model = reward_model(stage, bench) if "reward_model" in stage.reads else None

    def by_name(name: str | None, rows: Sequence[TokenRow], answers: Sequence[Response]) -> Sequence[float | None]:
        scorer = scorer_of(name, bench)
        if scorer is None:
            return [None] * len(rows)
        return rewards_of([Question(examples[row.row], row.prompt, "") for row in rows], answers, tokenizer, scorer)

    def judge(rows: Sequence[TokenRow], answers: Sequence[Response]) -> list[Judged]:
        gold = by_name(params["gold"], rows, answers)
        if model is not None:
            answered = [TokenRow(r.row, r.prompt, {"answer": a.tokens}) for r, a in zip(rows, answers, strict=True)]
            trained: Sequence[Any] = model.scores(answered, "answer", budget=job.budget).tolist()
        else:
            trained = gold if params["reward"] == params["gold"] else by_name(params["reward"], rows, answers)
        return [{"reward": mine, "gold": theirs} for mine, theirs in zip(trained, gold, strict=True)]

    return judge


def reward_model(stage: Stage, bench: Bench) -> RewardModel:
    """Load the reward model that judges a stage's answers."""
    artefact = bench.store.get(stage.reads["reward_model"])
    folder = artefact.file("model")
    if (folder / "adapter_config.json").exists():
        model = merge(load_adapter(load(bench, start_folder(bench, stage.start, stage.sft)), folder))
    else:
        model = load(bench, folder)
    end_id = int(np.int64(tokenizer_of(bench).eos_token_id))
    head = load_head(folder, bench.device)
    return RewardModel(model, head, end_id, artefact.info["score_mean"], artefact.info["score_std"])

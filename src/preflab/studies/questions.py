"""The prompts of a split that models answer, and how a stage has them answered."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from preflab.evals.responses import Question, sample_responses
from preflab.sampling.generate import GenerationSettings, Response
from preflab.studies.bench import Bench
from preflab.studies.prepare import Split
from preflab.studies.resources import tokenizer_of
from preflab.studies.stages import Job


def questions(split: Split, n: int | None = None) -> list[Question]:
    """Return the first `n` distinct prompts of a split, or all."""
    found: dict[bytes, Question] = {}
    for example, row, shown in zip(split.examples, split.rows, split.shown, strict=True):
        found.setdefault(row.prompt.tobytes(), Question(example, row.prompt, shown))
    return list(found.values())[:n]


def answered(
    model: PreTrainedModel,
    asked: Sequence[Question],
    params: Mapping[str, Any],
    seed: int,
    job: Job,
    bench: Bench,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Response]:
    """Sample one response to each question.

    Args:
        model: who answers.
        asked: the questions.
        params: of a stage: `max_new_tokens` and `batch_size`.
        seed: of the random numbers; the same question gets the same ones from every model.
        job: who asks; a job that ran out of memory asks fewer at a time.
        bench: what it works with.
        progress: called with prompts done and prompts to do.
    """
    settings = GenerationSettings(
        max_new_tokens=params["max_new_tokens"], batch_size=job.smaller(params["batch_size"]), seed=seed
    )
    return sample_responses(model, tokenizer_of(bench), asked, settings, end_ids=bench.end_ids, progress=progress)

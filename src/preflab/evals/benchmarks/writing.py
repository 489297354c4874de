"""Answers in writing to a benchmark's prompts, greedy, and what the checks say of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.data.examples import Message
from preflab.data.render import render_prompt
from preflab.data.tokens import response_text
from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.evals.benchmarks.items import WrittenItem
from preflab.evals.benchmarks.written import check
from preflab.sampling.generate import GenerationSettings, generate
from preflab.sampling.stops import before_stop

VERSION = 1
"""Raised when the same model would get another score."""

_CHUNK_BATCHES = 4
"""Batches between two calls of `kept`: what a kill can cost."""


def prompt_of(item: WrittenItem, tokenizer: PreTrainedTokenizerBase, *, chat: bool) -> str:
    """Return the text that a model continues: through its chat template, or plain."""
    if not chat:
        return item.plain
    turns = [
        Message(role, text.strip())
        for question, answer in item.turns
        for role, text in (("user", question), ("assistant", answer))
    ]
    messages = (*turns, Message("user", f"{item.lead}{item.question}".strip()))
    return render_prompt(messages, tokenizer, "chat")


def write_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: Benchmark,
    items: Sequence[WrittenItem],
    *,
    chat: bool,
    end_ids: Sequence[int],
    context: float,
    longest: int,
    batch_size: int,
    known: Sequence[dict[str, Any]] = (),
    kept: Callable[[list[dict[str, Any]]], None] = lambda records: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Return one record per item: its metrics and the answer they come from.

    Args:
        model: the model.
        tokenizer: its own.
        benchmark: whose items these are.
        items: the questions.
        chat: whether prompts go through the chat template.
        end_ids: tokens that end an answer.
        context: longest row that the model takes, in tokens; longer prompts lose their beginning, and `cut` says so.
        longest: tokens of an answer at most.
        batch_size: prompts decoded together; changes no answer beyond rounding.
        known: records of an earlier run that was stopped.
        kept: called every few batches with all records so far, which a later run may begin with.
        progress: called with items done and items to do.
    """
    found = {record["item"]: record for record in known}
    # Prompts of similar length decode together, in an order that a continued run repeats.
    left = sorted(
        ((prompt_of(item, tokenizer, chat=chat), item) for item in items if item.row.id not in found),
        key=lambda pair: (len(pair[0]), pair[1].row.id),
    )
    stops = () if chat else benchmark.stops
    settings = GenerationSettings(max_new_tokens=longest, batch_size=batch_size, seed=0, greedy=True, stops=stops)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    room = int(min(context, 1 << 30)) - longest
    progress(len(found), len(items))
    for start in range(0, len(left), batch_size * _CHUNK_BATCHES):
        chunk = left[start : start + batch_size * _CHUNK_BATCHES]
        # A rendered template brings its own beginning-of-sequence token.
        tokens = [np.asarray(tokenizer.encode(text, add_special_tokens=not chat), dtype=np.int64) for text, _ in chunk]
        done = len(found)
        responses = generate(
            model,
            [each[-room:] for each in tokens],
            [item.row.id for _, item in chunk],
            end_ids=end_ids,
            pad_id=int(pad),
            settings=settings,
            tokenizer=tokenizer,
            progress=lambda n, _, done=done: progress(done + n, len(items)),  # type: ignore[misc]
        )
        for (prompt, item), ids, response in zip(chunk, tokens, responses, strict=True):
            text = before_stop(response_text(response.tokens, tokenizer), stops)
            found[item.row.id] = {
                "item": item.row.id,
                "row": item.row.number,
                "cluster": item.cluster,
                **check(benchmark, item.row, text),
                "prompt": prompt,
                "response": text,
                "n_tokens": len(response.tokens),
                "truncated": response.truncated,
                "cut": len(ids) > room,
            }
        kept(list(found.values()))
    return [found[item.row.id] for item in items]

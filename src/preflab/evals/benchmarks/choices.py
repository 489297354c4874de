"""The native scorer of choice benchmarks: log-likelihoods in the engine's batching, accuracies as in lm-eval."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.evals.benchmarks.items import ChoiceItem, Option
from preflab.scoring.options import Choice, option_logps

VERSION = 1
"""Raised when the same model would get another score."""

Ids = NDArray[np.int64]


def score_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: Benchmark,
    items: Sequence[ChoiceItem],
    *,
    context: float,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Return one record per item: its metrics, and the log-likelihoods that they come from.

    Args:
        model: the model.
        tokenizer: its own.
        benchmark: whose items these are.
        items: the questions.
        context: longest row that the model takes, in tokens; longer prompts lose their beginning, and `cut` says so.
        budget: flat tokens per forward.
        progress: called with questions done and questions to do.
    """
    asked: list[Choice] = []
    place: list[list[tuple[int, int]]] = []
    cut: list[bool] = []
    encode = _Encoder(tokenizer, context)
    for item in items:
        encoded = [encode(option) for option in item.options]
        cut.append(any(each.cut for each in encoded))
        # Options share a prompt where its tokens are the same, which is all options but for Winogrande's.
        prompts: dict[bytes, int] = {}
        groups: list[tuple[Ids, list[Ids]]] = []
        places = []
        for each in encoded:
            number = prompts.setdefault(each.prompt.tobytes(), len(groups))
            if number == len(groups):
                groups.append((each.prompt, []))
            groups[number][1].append(each.continuation)
            places.append((len(asked) + number, len(groups[number][1]) - 1))
        asked += [Choice(prompt, tuple(options)) for prompt, options in groups]
        place.append(places)
    found = option_logps(model, asked, budget=budget, progress=progress)
    records = []
    for item, places, shortened in zip(items, place, cut, strict=True):
        logps = np.array([found[row][k] for row, k in places])
        records.append(
            {
                "item": item.row.id,
                "row": item.row.number,
                "cluster": item.cluster,
                **metrics(benchmark, item, logps),
                "logps": logps.tolist(),
                "answer": int(np.argmax(logps)),
                "correct": list(item.correct),
                "cut": shortened,
            }
        )
    return records


def metrics(benchmark: Benchmark, item: ChoiceItem, logps: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of one item from the log-likelihoods of its options, nats.

    `acc`: the likeliest option is right. `acc_norm`: the same per character of the answer, as in lm-eval. TruthfulQA:
    `mc1`, the likeliest of the mc1 options is its right one; `mc2`, the share of probability on right options of mc2.
    """
    if benchmark.name == "truthfulqa":
        return _truthfulqa(item, logps)
    lengths = np.array([len(option.text) for option in item.options])
    found = {
        "acc": float(int(np.argmax(logps)) in item.correct),
        "acc_norm": float(int(np.argmax(logps / lengths)) in item.correct),
    }
    return {name: found[name] for name in benchmark.metrics}


def _truthfulqa(item: ChoiceItem, logps: NDArray[np.float64]) -> dict[str, float]:
    by_answer = {option.text: logp for option, logp in zip(item.options, logps, strict=True)}
    one, two = item.row.values["mc1_targets"], item.row.values["mc2_targets"]
    first = np.array([by_answer[answer] for answer in one["choices"]])
    both = np.array([by_answer[answer] for answer in two["choices"]])
    right = np.array(two["labels"]) == 1
    shares = np.exp(both - both.max())
    return {"mc1": float(one["labels"][int(np.argmax(first))]), "mc2": float(shares[right].sum() / shares.sum())}


class _Encoded:
    """One option in tokens; `cut` where its prompt lost its beginning."""

    __slots__ = ("continuation", "cut", "prompt")

    def __init__(self, prompt: Sequence[int], continuation: Sequence[int], longest: float) -> None:
        room = longest - len(continuation)
        self.cut = len(prompt) > room
        self.prompt = np.asarray(prompt[-int(room) :] if self.cut else prompt, dtype=np.int64)
        self.continuation = np.asarray(continuation, dtype=np.int64)


class _Encoder:
    """Encodes context and continuation together and splits where the context alone ends, as lm-eval's HFLM does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: float) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._known: dict[str, list[int]] = {}

    def __call__(self, option: Option) -> _Encoded:
        context, continuation = option.context, option.continuation
        trailing = len(context) - len(context.rstrip())
        if trailing:
            continuation = context[-trailing:] + continuation
            context = context[:-trailing]
        if context not in self._known:
            self._known = {context: self._encode(context)}  # options of an item follow each other
        prompt = self._known[context]
        whole = self._encode(context + continuation)
        return _Encoded(prompt, whole[len(prompt) :], self._context)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text))

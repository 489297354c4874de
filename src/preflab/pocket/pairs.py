"""Preference pairs from the gold reward, with noise, length bias and gap under control."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from preflab.core.errors import ConfigError
from preflab.data.pairs import Answer, Pair, best_worst
from preflab.pocket.corpus import answer
from preflab.pocket.language import words_of
from preflab.pocket.paraphrase import paraphrase
from preflab.pocket.rewards import gold_reward
from preflab.pocket.tasks import Task

WRITTEN: Final[Mapping[str, float]] = {
    "helper": 0.3, "plain": 0.2, "windy": 0.15, "rude": 0.1, "reckless": 0.1, "careless": 0.15,
}  # fmt: skip
"""Shares of the voices among off-policy candidates."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A task and several responses to it.

    Args:
        task: what was asked.
        responses: at least two texts.
        source: who wrote them: `program`, or the start point they were sampled from.
    """

    task: Task
    responses: tuple[str, ...]
    source: str


def written_candidates(tasks: Sequence[Task], *, n: int, seed: int) -> Iterator[Candidates]:
    """Yield off-policy candidates: `n` responses a task, written by the program in random voices, right and wrong."""
    for task in tasks:
        rng = random.Random(f"{seed}/{task.prompt}")
        yield Candidates(task, tuple(answer(rng, task, WRITTEN) for _ in range(n)), "program")


def make_pairs(
    candidates: Sequence[Candidates],
    *,
    seed: int,
    noise: float = 0.0,
    length_bias: float = 0.0,
    min_gap: float = 0.0,
) -> list[dict[str, Any]]:
    """Turn candidates into preference pairs: the best against the worst by gold reward.

    Args:
        candidates: one entry a prompt.
        seed: of the draws for noise and length bias, which depend on the prompt too, not on the order of rows.
        noise: chance in [0, 1] that a pair's labels are swapped.
        length_bias: chance in [0, 1] that a pair is the longest against the shortest response, whatever their reward.
        min_gap: least difference of gold reward in [0, 1]; a prompt whose candidates are closer gives no pair.
            A length-biased pair only has to differ in length.

    Returns:
        Rows with `prompt` (messages), `chosen`, `rejected`, `family` and `meta`: the task's check, and under `pair` the
        source, both gold rewards, and whether the labels were swapped or chosen by length; under `paraphrase` the
        chosen response in other words, where there are others.

    Raises:
        ConfigError: noise, length_bias or min_gap outside [0, 1].
    """
    for name, value in (("noise", noise), ("length_bias", length_bias), ("min_gap", min_gap)):
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"make_pairs: {name}: must be in [0, 1]; got {value!r}.")
    rows = []
    for item in candidates:
        rng = random.Random(f"{seed}/{item.source}/{item.task.prompt}")
        by_length, swapped = rng.random() < length_bias, rng.random() < noise
        row = _pair(item, by_length=by_length, swapped=swapped, min_gap=min_gap)
        if row is not None:
            rows.append(row)
    return rows


def _pair(item: Candidates, *, by_length: bool, swapped: bool, min_gap: float) -> dict[str, Any] | None:
    texts = [text for text in dict.fromkeys(item.responses) if text.strip()]
    answers = [Answer(text, gold_reward((), text, item.task.meta)["reward"], item.source) for text in texts]
    pair = _longest_shortest(answers) if by_length else best_worst(answers, answers, lambda a: (-len(a.text), a.text))
    if pair is None or not (by_length or pair.gap >= max(min_gap, 1e-9)):
        return None
    better, worse = pair[::-1] if swapped else pair
    about = {
        "source": item.source,
        "chosen_reward": round(better.score, 4),
        "rejected_reward": round(worse.score, 4),
        "swapped": swapped,
        "by_length": by_length,
    }
    other = paraphrase(item.task, better.text, unlike=[worse.text])
    return {
        "prompt": [{"role": "user", "content": item.task.prompt}],
        "chosen": better.text,
        "rejected": worse.text,
        "family": item.task.family,
        "meta": {**item.task.meta, "pair": about, **({"paraphrase": other} if other else {})},
    }


def _longest_shortest(answers: Sequence[Answer]) -> Pair | None:
    order = sorted(answers, key=lambda answer: (len(words_of(answer.text)), answer.text))
    differ = len(order) > 1 and len(words_of(order[0].text)) < len(words_of(order[-1].text))
    return Pair(order[-1], order[0]) if differ else None

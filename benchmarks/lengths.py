"""Pairs as token ids: real ones from a file, or random ids with the lengths of well-known data.

Lengths decide the speed of preference training: how much prompt the two responses share, and how unequal the rows of a
batch are. Ids do not, so they are random, or cut from a file's texts, where lengths are asked for.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from benchmarks.jobs import BenchmarkError
from preflab.data.examples import TokenRow
from preflab.data.read import read
from preflab.data.tokens import TokenSettings, tokenize
from preflab.models.load import load_tokenizer

_FIRST_ID = 4
"""Ids below are often special tokens."""
_N_TEXTS = 400
"""Pairs whose texts are strung together where a file gives tokens and not lengths."""


class Row(NamedTuple):
    """One pair as token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def useful_tokens(self) -> int:
        """Tokens that a step cannot do without: the prompt once and both responses."""
        return len(self.prompt) + self.scored_tokens

    @property
    def scored_tokens(self) -> int:
        """Tokens of both responses."""
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Lengths in tokens: median, and standard deviation of the logarithm."""

    median: float
    sigma: float

    @classmethod
    def of(cls, *, median: float, mean: float) -> "LogNormal":
        """Return the distribution with this median and mean."""
        return cls(median, math.sqrt(2 * math.log(mean / median)))

    def draw(self, generator: np.random.Generator) -> int:
        """Return a length of at least one token."""
        return max(1, round(generator.lognormal(math.log(self.median), self.sigma)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long the parts of a pair are.

    Args:
        about: one sentence for the table.
        prompt: tokens of the prompt.
        chosen: tokens of the chosen response.
        rejected: tokens of the rejected one; None makes it as long as the chosen one.
        outlier_every: every so many pairs, the prompt fills nine tenths of the limit; 0 is off.
    """

    about: str
    prompt: LogNormal
    chosen: LogNormal
    rejected: LogNormal | None
    outlier_every: int = 0


# HH: harmless-base test, 2,312 pairs, characters / 4. UltraFeedback and TL;DR: median total length and ratio of the
# prompt to one response as github.com/frankxwang/dpo-prefix-sharing gives them; their spread is our choice.
_HH: Final = (
    LogNormal.of(median=90, mean=121),
    LogNormal.of(median=28, mean=42),
    LogNormal.of(median=36, mean=53),
)
DISTRIBUTIONS: Final = {
    "hh": Lengths(about="HH-like: dialogues, short responses", prompt=_HH[0], chosen=_HH[1], rejected=_HH[2]),
    "ultrafeedback": Lengths(
        about="UltraFeedback-like: short prompts, long responses",
        prompt=LogNormal(121, 0.9),
        chosen=LogNormal(288, 0.6),
        rejected=LogNormal(288, 0.6),
    ),
    "prompt-heavy": Lengths(
        about="TL;DR-like: a long prompt, a short response",
        prompt=LogNormal(382, 0.3),
        chosen=LogNormal(34, 0.4),
        rejected=LogNormal(34, 0.4),
    ),
    "worst": Lengths(
        about="nothing to save: a prompt of one token, responses of equal length",
        prompt=LogNormal(1, 0.0),
        chosen=LogNormal(128, 0.0),
        rejected=None,
    ),
    "outlier": Lengths(
        about="HH-like, but every eighth prompt is very long",
        prompt=_HH[0],
        chosen=_HH[1],
        rejected=_HH[2],
        outlier_every=8,
    ),
}


Ids = Iterator[int]


def synthetic(name: str, n: int, ids: Ids, *, seed: int, max_tokens: int) -> list[Row]:
    """Return pairs with the lengths of a distribution; responses are cut at `max_tokens` with the prompt.

    Fewer pairs are the first of more.

    Args:
        name: a key of `DISTRIBUTIONS`.
        n: pairs.
        ids: where tokens come from, one after another.
        seed: of the lengths.
        max_tokens: of the prompt with one response.
    """
    lengths, generator = DISTRIBUTIONS[name], np.random.default_rng(seed)
    rows = []
    for number in range(n):
        p = min(lengths.prompt.draw(generator), 3 * max_tokens // 4)
        if lengths.outlier_every and number % lengths.outlier_every == 3:
            p = 9 * max_tokens // 10
        c = lengths.chosen.draw(generator)
        r = c if lengths.rejected is None else lengths.rejected.draw(generator)
        rows.append(Row(*(list(islice(ids, size)) for size in (p, min(c, max_tokens - p), min(r, max_tokens - p)))))
    return rows


def random_ids(vocabulary: int, *, seed: int) -> Ids:
    """Yield random tokens for ever."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(_FIRST_ID, vocabulary))


def text_ids(path: Path, model: Path, *, seed: int) -> Ids:
    """Yield the tokens of a file's pairs for ever, one text after another.

    On random tokens a trained model's log-probs are large, and with them the rounding that parity must allow for.
    """
    for row in cycle(_tokenized(path, model, _N_TEXTS, seed=seed)):
        yield from map(int, row.prompt)
        yield from map(int, row.responses["chosen"])


def from_file(path: Path, model: Path, n: int, *, seed: int, max_tokens: int) -> list[Row]:
    """Return a random sample of the pairs of a file, in any format that preflab reads, as the model's tokens.

    Fewer pairs are the first of more. Pairs with an empty response or a prompt of three quarters of the limit are
    passed over; longer responses are cut.

    Raises:
        BenchmarkError: the file has too few pairs.
    """
    found = []
    for row in _tokenized(path, model, 4 * n, seed=seed):
        room = max_tokens - len(row.prompt)
        if len(row.prompt) < 3 * max_tokens // 4:
            parts = (row.prompt, row.responses["chosen"][:room], row.responses["rejected"][:room])
            found.append(Row(*([int(i) for i in ids] for ids in parts)))
    if len(found) < n:
        raise BenchmarkError(f"{path}: {len(found)} usable pairs; --pairs asks for {n}.")
    return found[:n]


def _tokenized(path: Path, model: Path, n: int, *, seed: int) -> list[TokenRow]:
    """Return up to `n` pairs of a file in a random order, whole, as the model's tokens."""
    examples = read(path).examples
    order = np.random.default_rng(seed).permutation(len(examples))
    sample = [examples[i] for i in order[:n] if all(text.strip() for text in examples[i].responses.values())]
    # `tokenize` refuses prompts beyond its limit; the caller passes them over instead.
    settings = TokenSettings(template="auto", max_tokens=2**20, max_prompt_tokens=2**20)
    rows = tokenize(sample, load_tokenizer(model), settings).rows
    return [row for row in rows if {"chosen", "rejected"} <= set(row.responses)]


def write_rows(rows: Sequence[Row], path: Path) -> Path:
    """Write rows as both arms read them."""
    path.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows), encoding="utf-8")
    return path


def summary(rows: Sequence[Row], batch_size: int) -> dict[str, float]:
    """Return means and medians of the lengths, and what padding and repeated prompts would add.

    `padded_ratio` is the tokens of padded rows of prompt and response, batch by batch, over the useful tokens: what the
    linear layers of a padding trainer compute for each token that counts.
    """
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    widths = [max(len(r.prompt) + max(len(r.chosen), len(r.rejected)) for r in batch) for batch in batches]
    padded = sum(2 * len(batch) * width for batch, width in zip(batches, widths, strict=True))
    useful = sum(row.useful_tokens for row in rows)
    return {
        **{f"{part}_mean": float(np.mean([len(getattr(r, part)) for r in rows])) for part in Row._fields},
        **{f"{part}_median": float(np.median([len(getattr(r, part)) for r in rows])) for part in Row._fields},
        "useful_tokens": useful,
        "padded_ratio": padded / useful,
    }

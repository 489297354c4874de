"""The tables of a diagnosis, as the command and every study write them: rows with probes, answers, gradients."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.data.examples import Example, TokenRow
from preflab.data.tokens import TokenSettings, response_text, tokenize
from preflab.evals.probes import PAIR, gradient_sizes, similarities
from preflab.sampling.generate import Response
from preflab.studies.bench import write_table

TOKENS_FILE = "tokens.parquet"
"""In a study's evaluation: its prompts and answers as tokens."""
ROWS_FILE, PROBES_FILE, ANSWERS_FILE, PAIRS_FILE, GRADIENTS_FILE = (
    f"{name}.parquet" for name in ("rows", "probes", "samples", "pairs", "gradients")
)
"""Of a start point its rows with probes, its answers and how alike pairs are; of a checkpoint the log-probs of
probes and its answers; of both, in an artefact of their own, gradients."""


def with_paraphrases(
    examples: Sequence[Example],
    rows: Sequence[TokenRow],
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenSettings,
) -> list[TokenRow]:
    """Give rows the role `paraphrase`, where their data say the chosen response in other words."""
    said = [i for i, example in enumerate(examples) if example.chosen and example.meta.get("paraphrase")]
    others = [
        replace(examples[i], chosen=str(examples[i].meta["paraphrase"]), rejected=None, others={}, scores={})
        for i in said
    ]
    found = list(rows)
    for i, own in zip(said, tokenize(others, tokenizer, settings).rows if others else (), strict=True):
        found[i] = replace(rows[i], responses={**rows[i].responses, "paraphrase": own.responses["chosen"]})
    return found


def write_rows(path: Path, rows: Sequence[TokenRow]) -> None:
    """Write the tokens of rows with their probes."""
    roles = dict.fromkeys(role for row in rows for role in row.responses)
    table = [
        {"row": row.row, "prompt_ids": row.prompt.tolist()}
        | {f"{role}_ids": _listed(row.responses.get(role)) for role in roles}
        for row in rows
    ]
    write_table(path, table)


def read_rows(path: Path) -> list[TokenRow]:
    """Read the tokens of rows with their probes."""
    table = pq.read_table(path)
    roles = [name.removesuffix("_ids") for name in table.column_names if name not in ("row", "prompt_ids")]
    return [
        TokenRow(
            record["row"],
            _ids(record["prompt_ids"]),
            {role: _ids(record[f"{role}_ids"]) for role in roles if record[f"{role}_ids"] is not None},
        )
        for record in table.to_pylist()
    ]


def answer_records(
    kind: str,
    rows: Sequence[TokenRow],
    found: Sequence[Response],
    described: Sequence[Mapping[str, float]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict[str, Any]]:
    """Return what a table keeps of answers to the prompts of rows.

    Args:
        kind: `greedy` or `sampled`.
        rows: whose prompts were answered.
        found: the answers.
        described: what both models make of them, by `describe_answers`.
        tokenizer: turns tokens into text.
    """
    return [
        {
            "row": row.row,
            "kind": kind,
            "text": response_text(response.tokens, tokenizer),
            "n_tokens": len(response.tokens),
            "truncated": response.truncated,
            **values,
        }
        for row, response, values in zip(rows, found, described, strict=True)
    ]


def similarity_records(model: PreTrainedModel, rows: Sequence[TokenRow], *, budget: int) -> list[dict[str, Any]]:
    """Return how alike the two responses of each pair are to the start point; rows with one response have none."""
    pairs = [row for row in rows if _is_pair(row)]
    scores = similarities(model, pairs, budget=budget)
    return [{"row": row.row, **found} for row, found in zip(pairs, scores, strict=True)]


def gradient_records(model: PreTrainedModel, rows: Sequence[TokenRow], n: int) -> list[dict[str, Any]]:
    """Return the gradient sizes of the first `n` pairs with distinct prompts."""
    first: dict[bytes, TokenRow] = {}
    for row in filter(_is_pair, rows):
        first.setdefault(row.prompt.tobytes(), row)
    pairs = list(first.values())[:n]
    return [{"row": row.row, **sizes} for row, sizes in zip(pairs, gradient_sizes(model, pairs), strict=True)]


def _is_pair(row: TokenRow) -> bool:
    return all(role in row.responses for role in PAIR)


def _listed(ids: NDArray[np.int64] | None) -> list[int] | None:
    return None if ids is None else ids.tolist()


def _ids(values: Sequence[int]) -> NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)

"""The data stage: read, check, exclude, split, tokenise once; every later stage reads what this one left."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from preflab.core.ids import canonical_json, digest_of
from preflab.data.examples import RANKED, Example, Message, Prompt, TokenRow
from preflab.data.problems import counts
from preflab.data.prompts import prompt_text
from preflab.data.tokens import TokenSettings, add_mismatched, tokenize
from preflab.models.load import tokenizer_digest
from preflab.scoring.flat import n_tokens
from preflab.store.artefacts import Artefact, StageSpec, Store
from preflab.studies.cells import resolve_sizes
from preflab.studies.config import StudyConfig
from preflab.studies.names import source_digest
from preflab.studies.splits import make_splits, sources

_VERSION = 6
_ROLES = (*RANKED, "gold", "mismatched")


@dataclass(frozen=True, slots=True)
class Split:
    """One split as later stages read it: examples, their tokens, and prompts as people read them, row by row."""

    examples: tuple[Example, ...]
    rows: tuple[TokenRow, ...]
    shown: tuple[str, ...]


def prepare(config: StudyConfig, tokenizer: PreTrainedTokenizerBase, store: Store, *, mismatched: bool) -> Artefact:
    """Return the study's data artefact, building it when it is not there.

    Args:
        config: the study.
        tokenizer: the one tokenizer of the study.
        store: where the artefact goes.
        mismatched: whether a method of the study needs mismatched responses.

    Raises:
        DataError: structural problems, or row problems that the study does not declare.
    """
    spec = _spec(config, tokenizer, mismatched)
    found = store.find(spec)
    if found is not None:
        return found
    data = config.data
    settings = TokenSettings(template=data.template, max_tokens=data.max_tokens, max_prompt_tokens=data.prompt_limit)
    splits = make_splits(config, tokenizer, settings)
    info: dict[str, Any] = {
        "source": {name: dataset.source for name, dataset in splits.datasets.items()},
        "detected": {name: dataset.detected for name, dataset in splits.datasets.items()},
        "kind": splits.datasets["train"].kind,
        "n_rows": {name: len(dataset.examples) for name, dataset in splits.datasets.items()},
        "excluded": counts(splits.excluded),
    } | {
        key: {}
        for key in (
            "splits",
            "n_prompts",
            "truncated",
            "unstable_template",
            "digest",
            "mean_tokens",
            "longest",
            "given",
        )
    }
    with store.write(spec, info) as folder:
        for name, examples in splits.examples.items():
            tokens = tokenize(examples, tokenizer, settings)
            rows: Sequence[TokenRow] = tokens.rows
            if name == "train" and mismatched:
                rows = add_mismatched(rows, blocks=resolve_sizes(config, len(rows)), max_tokens=data.max_tokens)
            split = Split(examples, tuple(rows), tuple(prompt_text(e.prompt) for e in examples))
            _write_split(folder / f"{name}.parquet", split)
            info["splits"][name] = len(rows)
            info["n_prompts"][name] = len({row.prompt.tobytes() for row in rows})
            info["truncated"][name] = dict(tokens.truncated)
            info["unstable_template"][name] = tokens.bare
            info["digest"][name] = split_digest(split)
            info["mean_tokens"][name] = _mean_tokens(rows)
            info["longest"][name] = max(n_tokens(row, tuple(row.responses)) for row in rows)
            info["given"][name] = _given(rows)
        lines = [{"file": p.file, "row": p.row, "code": p.code, "text": p.text} for p in splits.excluded]
        (folder / "excluded.jsonl").write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
        )
    return store.get(spec)


def read_split(artefact: Artefact, name: str, n: int | None = None) -> Split:
    """Read the first `n` rows of a split (all by default)."""
    return _read_split(artefact.file(f"{name}.parquet"), n)


def has_split(artefact: Artefact, name: str) -> bool:
    """Return whether the study has that split."""
    return name in artefact.info["splits"]


def rows_digest(rows: Sequence[TokenRow], roles: Sequence[str] = _ROLES, *, scores: bool = False) -> str:
    """Return the SHA-256 of the tokens of rows, in order: what a stage that trains or scores on them depends on.

    Args:
        rows: the rows.
        roles: the responses that it reads.
        scores: whether it reads the data's scores too.
    """
    given = [canonical_json([dict(row.scores) for row in rows])] if scores else []
    tokens = (
        f"{role}:{ids.tobytes().hex()}"
        for row in rows
        for role, ids in [("prompt", row.prompt), *((r, row.responses[r]) for r in roles if r in row.responses)]
    )
    return digest_of([*given, *tokens])


def split_digest(split: Split) -> str:
    """Return the SHA-256 of everything an evaluation reads of a split: tokens, rows, families, texts and meta."""
    texts = (
        canonical_json([e.row, e.family, _prompt_json(e.prompt), e.responses, dict(e.meta)]) for e in split.examples
    )
    return digest_of([rows_digest(split.rows), *texts])


def _spec(config: StudyConfig, tokenizer: PreTrainedTokenizerBase, mismatched: bool) -> StageSpec:
    data = config.data
    params = data.model_dump(mode="json", exclude={"train", "validation", "test", "ood"})
    params |= {k: getattr(data, k) for k in ("validation", "test") if isinstance(getattr(data, k), int)}
    params |= {"sizes": list(config.sizes) if mismatched else [], "mismatched": mismatched}
    params |= {"sft": "sft" in config.starts}
    inputs = {name: source_digest(source) for name, source in sources(config).items()}
    return StageSpec("data", _VERSION, params, {**inputs, "tokenizer": tokenizer_digest(tokenizer)}, {})


def _roles(rows: Sequence[TokenRow]) -> list[str]:
    """Return the roles of a split in order: those of pairs always, others where a row has them."""
    found = {"chosen", "rejected"}.union(*(row.responses for row in rows))
    return [role for role in _ROLES if role in found]


def _mean_tokens(rows: Sequence[TokenRow]) -> dict[str, float]:
    """Return mean tokens of the prompt and of each role, 0 where no row has the role."""
    means = {"prompt": float(np.mean([len(row.prompt) for row in rows]))}
    for role in _roles(rows):
        lengths = [len(row.responses[role]) for row in rows if role in row.responses]
        means[role] = float(np.sum(lengths) / len(rows))
    return means


def _given(rows: Sequence[TokenRow]) -> dict[str, int]:
    """Count the rows with each response, and (`score`) those whose chosen response has the higher score."""
    given = {role: sum(role in row.responses for row in rows) for role in _roles(rows)}
    pairs = [(row.scores.get("chosen"), row.scores.get("rejected")) for row in rows]
    return {**given, "score": sum(a is not None and b is not None and a > b for a, b in pairs)}


def _write_split(path: Path, split: Split) -> None:
    examples = split.examples
    columns: dict[str, Any] = {
        "row": [e.row for e in examples],
        "family": [e.family for e in examples],
        "shown": list(split.shown),
        "prompt": [json.dumps(_prompt_json(e.prompt), ensure_ascii=False) for e in examples],
        "chosen": pa.array([e.chosen for e in examples], pa.string()),
        "rejected": pa.array([e.rejected for e in examples], pa.string()),
        "others": [json.dumps(dict(e.others), ensure_ascii=False) for e in examples],
        "scores": [json.dumps(dict(e.scores)) for e in examples],
        "meta": [json.dumps(dict(e.meta), ensure_ascii=False) for e in examples],
        "prompt_ids": pa.array([row.prompt for row in split.rows], pa.list_(pa.int64())),
    }
    for role in _roles(split.rows):
        columns[f"{role}_ids"] = pa.array([row.responses.get(role) for row in split.rows], pa.list_(pa.int64()))
    pq.write_table(pa.table(columns), path)


def _read_split(path: Path, n: int | None) -> Split:
    table = pq.read_table(path)
    table = table if n is None else table.slice(0, n)
    records = table.to_pylist()
    roles = [role for role in _ROLES if f"{role}_ids" in table.column_names]
    examples = tuple(
        Example(
            row=r["row"],
            prompt=_prompt_from(json.loads(r["prompt"])),
            chosen=r["chosen"],
            rejected=r["rejected"],
            family=r["family"],
            meta=json.loads(r["meta"]),
            others=json.loads(r["others"]),
            scores=json.loads(r["scores"]),
        )
        for r in records
    )
    rows = tuple(
        TokenRow(
            row=r["row"],
            prompt=_ids(r["prompt_ids"]),
            responses={role: _ids(r[f"{role}_ids"]) for role in roles if r[f"{role}_ids"] is not None},
            scores=json.loads(r["scores"]),
        )
        for r in records
    )
    return Split(examples, rows, tuple(r["shown"] for r in records))


def _ids(values: list[int]) -> NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)


def _prompt_json(prompt: Prompt) -> Any:
    return prompt if isinstance(prompt, str) else [[m.role, m.content] for m in prompt]


def _prompt_from(value: Any) -> Prompt:
    return value if isinstance(value, str) else tuple(Message(role, content) for role, content in value)

"""The store of reference log-probs: scored once per response, shared by all methods, grids, seeds, sizes and studies.

A frozen reference gives the same log-probs to the same tokens for ever, so they are kept outside the studies, keyed by
the weights, the numeric policy and the token ids, per token. Shards are immutable Parquet files that appear by one
rename.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedModel

from preflab.core.errors import StoreError
from preflab.core.ids import content_id
from preflab.data.examples import TokenRow
from preflab.scoring.flat import n_tokens
from preflab.scoring.logps import score

_BLOCK_FORWARDS = 8
"""Forwards between two shards: what a kill can cost."""


class ReferenceStore:
    """Token log-probs of responses under one frozen model.

    Args:
        root: the cache folder.
        weights: digest of the model's weights.
        numeric: device type and dtype of the scoring forward.
    """

    def __init__(self, root: Path, weights: str, numeric: Mapping[str, Any]) -> None:
        self._folder = (
            root / "reference" / content_id({"weights": weights, "numeric": dict(numeric), "version": 1})[:20]
        )
        self._logps: dict[bytes, NDArray[np.float32]] = {}
        self._shards: set[str] = set()
        self.n_scored = 0
        """Responses scored by a forward since this object was made; zero when everything was there."""

    def complete(
        self,
        model: Callable[[], PreTrainedModel],
        rows: Sequence[TokenRow],
        roles: Sequence[str],
        *,
        budget: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Score what is missing, in blocks that are kept when the process is killed.

        Args:
            model: gives the frozen model; called only when something is missing.
            rows: what must be scored.
            roles: which responses.
            budget: flat tokens per forward.
            progress: called with rows done and rows to do.
        """
        self._read_shards()
        missing = [row for row in (self._unscored(row, roles) for row in rows) if row.responses]
        done = 0
        for block in _blocks(missing, roles, _BLOCK_FORWARDS * budget):
            scores = score(model(), block, roles, budget=budget)
            new: dict[bytes, NDArray[np.float32]] = {}
            for role in roles:
                for row, values in zip(block, scores[role], strict=True):
                    if values is not None:
                        new[_key(row, role)] = values
            self._append(new)
            done += len(block)
            progress(done, len(missing))

    def _unscored(self, row: TokenRow, roles: Sequence[str]) -> TokenRow:
        """Return the row with those of its responses that have no score yet."""
        present = {role: row.responses[role] for role in roles if role in row.responses}
        return TokenRow(row.row, row.prompt, {r: ids for r, ids in present.items() if _key(row, r) not in self._logps})

    def tokens(self, rows: Sequence[TokenRow], role: str) -> list[NDArray[np.float32] | None]:
        """Return the token log-probs of one role of every row, float32 `[token]` each, nats; None where a row lacks it.

        Raises:
            StoreError: a response has not been scored.
        """
        self._read_shards()
        found: list[NDArray[np.float32] | None] = []
        for row in rows:
            values = self._logps.get(_key(row, role)) if role in row.responses else None
            if role in row.responses and values is None:
                raise StoreError(
                    f"{self._folder}: no reference log-prob for row {row.row} ({role}); run the study again."
                )
            found.append(values)
        return found

    def _read_shards(self) -> None:
        """Read shards that appeared since the last look, oldest first, so that a response keeps its first score."""
        for path in sorted(self._folder.glob("*.parquet")):
            if path.name in self._shards:
                continue
            try:
                table = pq.read_table(path)
            except (OSError, pa.ArrowInvalid) as error:
                raise StoreError(
                    f"{path}: unreadable shard of reference log-probs ({error}); delete it and run again."
                ) from error
            keys = table["key"].to_pylist()
            for key, values in zip(keys, table["logps"], strict=True):
                self._logps.setdefault(key, values.values.to_numpy(zero_copy_only=False))
            self._shards.add(path.name)

    def _append(self, new: Mapping[bytes, NDArray[np.float32]]) -> None:
        if not new:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {"key": pa.array(list(new), pa.binary(16)), "logps": pa.array(list(new.values()), pa.list_(pa.float32()))}
        )
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        temporary = self._folder / f".tmp-{name}"
        with temporary.open("wb") as stream:
            pq.write_table(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self._folder / name)
        self._logps.update(new)
        self._shards.add(name)
        self.n_scored += len(new)


def _blocks(rows: Sequence[TokenRow], roles: Sequence[str], tokens: int) -> Iterator[list[TokenRow]]:
    """Yield consecutive rows of about `tokens` flat tokens."""
    block: list[TokenRow] = []
    size = 0
    for row in rows:
        block.append(row)
        size += n_tokens(row, roles)
        if size >= tokens:
            yield block
            block, size = [], 0
    if block:
        yield block


def _key(row: TokenRow, role: str) -> bytes:
    """Return 16 bytes that name a response to a prompt by their token ids."""
    digest = hashlib.blake2b(np.int64(len(row.prompt)).tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(row.prompt, dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(row.responses[role], dtype=np.int64).tobytes())
    return digest.digest()

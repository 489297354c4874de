"""What every stage of a study works with: where its artefacts, models and tokenizer are, and how to compute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from preflab.store.artefacts import Artefact, StageSpec, Store

Report = Callable[[str, int, int], None]
"""`report(what, done, total)`: progress within a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every stage of a study works with.

    Args:
        store: the study's artefacts.
        data: the data artefact's spec.
        models: `base` and `instruct` to their folders.
        tokenizer: folder of the study's tokenizer.
        end_ids: tokens that end a response.
        dtype: of weights and activations.
        device: where to compute.
        cache: folder of the reference store.
        benchmark_files: folder of the benchmark files; empty where the study asks for none.
        remote_code: model folders whose own Python code may run.
        checkpoint_every_s: seconds between checkpoints.
    """

    store: Store
    data: StageSpec
    models: Mapping[str, Path]
    tokenizer: Path
    end_ids: tuple[int, ...]
    dtype: str
    device: str
    cache: Path
    benchmark_files: str
    remote_code: frozenset[Path]
    checkpoint_every_s: float

    def allows_code(self, folder: Path) -> bool:
        """Return whether a model's own code may run: it was allowed by name, or is trained here from one that was."""
        return folder in self.remote_code or (bool(self.remote_code) and folder.is_relative_to(self.store.root))

    def artefact(self) -> Artefact:
        """Return the data artefact."""
        return self.store.get(self.data)


def start_folder(bench: Bench, start: str, sft: StageSpec | None) -> Path:
    """Return the folder with the weights of a start point."""
    if start == "sft":
        assert sft is not None
        return bench.store.get(sft).file("model")
    return Path(bench.models[start])


def write_table(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records as Parquet."""
    pq.write_table(pa.Table.from_pylist(list(records)), path)

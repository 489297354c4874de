"""What every stage of a study works with: its artefacts, models and tokenizer, and what is known of start points."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.ids import canonical_json
from preflab.data.examples import TokenRow
from preflab.models.load import load_model, load_tokenizer, weights_digest
from preflab.scoring.logps import prove, shares_prompts
from preflab.scoring.reference import ReferenceStore
from preflab.store.artefacts import Artefact, StageSpec, Store
from preflab.studies.stages import Job
from preflab.train.step import References

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


@functools.lru_cache(maxsize=2)
def _tokenizer_from(folder: Path, allow_remote_code: bool) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder, allow_remote_code=allow_remote_code)


def tokenizer_of(bench: Bench) -> PreTrainedTokenizerBase:
    """Return the study's tokenizer."""
    return _tokenizer_from(bench.tokenizer, bench.allows_code(bench.tokenizer))


_layouts: dict[str, bool] = {}
"""Architecture to whether its rows share prompts, once a loaded model has proven it."""


def load(bench: Bench, folder: Path) -> PreTrainedModel:
    """Load frozen weights; the first load of an architecture proves how its rows are laid out."""
    allowed = bench.allows_code(folder)
    model = load_model(folder, dtype=bench.dtype, device=bench.device, allow_remote_code=allowed)
    architecture = canonical_json({k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"})
    if architecture not in _layouts:
        prove(model)
        _layouts[architecture] = shares_prompts(model)
    model.get_decoder().shares_prompts = _layouts[architecture]
    return model.requires_grad_(False)


_start: dict[Path, PreTrainedModel] = {}
"""The start point that this process used last."""


def start_model(bench: Bench, folder: Path) -> PreTrainedModel:
    """Return the frozen weights of a start point, from memory where the stage before used them; nobody changes them."""
    if folder not in _start:
        forget_start()
        _start[folder] = load(bench, folder)
    return _start[folder]


def forget_start() -> None:
    """Make room."""
    _start.clear()


@functools.lru_cache(maxsize=4)
def _store(cache: Path, weights: str, device: str, dtype: str) -> ReferenceStore:
    return ReferenceStore(cache, weights, {"device": device, "dtype": dtype})


def reference_store(bench: Bench, weights: Path) -> ReferenceStore:
    """Return the store of a start point's log-probs."""
    return _store(bench.cache, weights_digest(weights), bench.device, bench.dtype)


def known_tokens(
    job: Job,
    bench: Bench,
    references: ReferenceStore,
    rows: Sequence[TokenRow],
    roles: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> References:
    """Return the start point's log-probs of some responses; those that nobody asked for before are scored now."""
    weights = start_folder(bench, job.stages[0].start, job.stages[0].sft)
    references.complete(lambda: start_model(bench, weights), rows, roles, budget=job.budget, progress=progress)
    return {role: references.tokens(rows, role) for role in roles}

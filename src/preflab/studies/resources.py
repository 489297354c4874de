"""The models, the tokenizer and the reference log-probs that stages work with, kept in memory from stage to stage."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.errors import DataError
from preflab.core.ids import canonical_json
from preflab.data.examples import TokenRow
from preflab.data.mismatched import add_mismatched
from preflab.models.load import load_model, load_tokenizer, weights_digest
from preflab.models.policies import LoraStack
from preflab.scoring.logps import prove, shares_prompts
from preflab.scoring.reference import ReferenceStore
from preflab.studies.bench import Bench, start_folder
from preflab.studies.stages import Job, Stage
from preflab.train.step import References


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


@contextlib.contextmanager
def trained(stage: Stage, bench: Bench) -> Iterator[PreTrainedModel]:
    """Give the trained model of a cell, or the start point itself; an adapter sits on the start point in memory."""
    weights = start_folder(bench, stage.start, stage.sft)
    if stage.train is None:
        yield start_model(bench, weights)
        return
    folder = bench.store.get(stage.train).file("model")
    if not (folder / "adapter_config.json").exists():
        yield load(bench, folder)
        return
    policy = LoraStack.saved(start_model(bench, weights), folder)
    try:
        with policy.alone(0):
            yield policy.model
    finally:
        policy.close()


def with_unseen(rows: Sequence[TokenRow], bench: Bench) -> Sequence[TokenRow]:
    """Give held-out rows an answer to another prompt each, which nobody trains on; too few prompts have none."""
    try:
        return add_mismatched(rows, blocks=(), max_tokens=bench.data.params["max_tokens"])
    except DataError:
        return rows

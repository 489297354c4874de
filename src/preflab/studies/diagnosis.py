"""`preflab diagnose`: checkpoints from anywhere on one probe set, one artefact each, and a page with the verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError
from preflab.data.examples import Example, TokenRow
from preflab.data.prompts import prompt_text
from preflab.diagnose.checkpoints import Diagnosis
from preflab.evals.probes import ROLES, add_probes, describe_answers, probe_records
from preflab.evals.responses import Question, sample_responses
from preflab.models.checkpoints import Checkpoint, find_checkpoints
from preflab.models.devices import default_device, float32_here
from preflab.models.load import (
    end_token_ids,
    load_model,
    load_tokenizer,
    quiet,
    resolve,
    tokenizer_digest,
    weights_digest,
)
from preflab.report.diagnosis import INDEX, write_diagnosis_report
from preflab.sampling.generate import GenerationSettings, Response
from preflab.scoring.logps import prove
from preflab.scoring.memory import is_out_of_memory
from preflab.scoring.reference import ReferenceStore
from preflab.store.artefacts import Artefact, StageSpec, Store, write_json
from preflab.store.ledger import study_lock
from preflab.studies.bench import write_table
from preflab.studies.names import model_source
from preflab.studies.prepare import rows_digest
from preflab.studies.probe_tables import (
    ANSWERS_FILE,
    GRADIENTS_FILE,
    PAIRS_FILE,
    PROBES_FILE,
    ROWS_FILE,
    answer_records,
    gradient_records,
    read_rows,
    similarity_records,
    write_rows,
)
from preflab.studies.probed_pairs import Request, check_context, read_pairs

_VERSION = 2
_BUDGET = 2048
"""Flat tokens per forward."""
_DECODED = 32
"""Prompts decoded together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What every checkpoint is measured with."""

    request: Request
    store: Store
    start: Path
    tokenizer: PreTrainedTokenizerBase
    end_ids: tuple[int, ...]
    device: str
    examples: tuple[Example, ...]
    rows: tuple[TokenRow, ...]
    say: Callable[[str], None]

    def answer(self, model: PreTrainedModel, rows: Sequence[TokenRow], *, greedy: bool) -> list[Response]:
        """Return a model's answers to the prompts of rows."""
        questions = [Question(self.examples[row.row], row.prompt, "") for row in rows]
        settings = GenerationSettings(
            max_new_tokens=self.request.max_new_tokens, batch_size=_DECODED, seed=0, greedy=greedy
        )
        return sample_responses(model, self.tokenizer, questions, settings, end_ids=self.end_ids)

    @property
    def prompts(self) -> list[TokenRow]:
        """The first row of each of the first distinct prompts, which are answered."""
        first = {row.prompt.tobytes(): row for row in reversed(self.rows)}
        return sorted(first.values(), key=lambda row: row.row)[: self.request.prompts]


def run_diagnosis(
    request: Request, folder: Path, *, command: str, say: Callable[[str], None]
) -> tuple[Path, tuple[Diagnosis, ...]]:
    """Measure the start point and every checkpoint, or what is missing, and write the page.

    Args:
        request: what to diagnose.
        folder: where the tables and the page go.
        command: what was typed.
        say: called with a line of progress.

    Raises:
        ConfigError: a model cannot be found, does not belong to the start point, or speaks of other tokens.
        DataError: the data hold no pairs, need mending, or have too few prompts for unseen answers.

    Returns:
        Path of the page, and the verdict on each checkpoint.
    """
    quiet()
    start = resolve(model_source(request.start))
    checkpoints = find_checkpoints([model_source(name) for name in request.models], start=start)
    tokenizer = load_tokenizer(start)
    examples, rows = read_pairs(request, tokenizer)
    check_context(request, start, rows)
    with study_lock(folder):
        store = Store(folder / "artefacts")
        store.sweep()
        bench = _Bench(
            request=request,
            store=store,
            start=start,
            tokenizer=tokenizer,
            end_ids=end_token_ids(start, tokenizer),
            device=default_device(),
            examples=examples,
            rows=rows,
            say=say,
        )
        began = _start(bench)
        first, _ = _gradients(bench, request.start, weights_digest(start), lambda: _model(bench, start))
        found = [_checkpoint(bench, began, checkpoint) for checkpoint in checkpoints]
        write_json(folder / INDEX, _index(bench, command, began, first, found, folder))
    return write_diagnosis_report(folder)


def _start(bench: _Bench) -> Artefact:
    """Answer the prompts from the start point, give the pairs their probes, and measure how alike their responses are.

    The artefact holds what every checkpoint is scored on.
    """
    request = bench.request
    spec = StageSpec(
        "start",
        _VERSION,
        {"prompts": request.prompts, "max_new_tokens": request.max_new_tokens, "end_ids": list(bench.end_ids)},
        {
            "weights": weights_digest(bench.start),
            "rows": rows_digest(bench.rows, ROLES),
            "tokenizer": tokenizer_digest(bench.tokenizer),
        },
        float32_here(),
    )
    there = bench.store.find(spec)
    if there is not None:
        return there
    bench.say(f"{request.start}: answering {len(bench.rows)} prompts")
    model = _model(bench, bench.start)
    both = {kind: bench.answer(model, bench.rows, greedy=kind == "greedy") for kind in ("greedy", "sampled")}
    probes = add_probes(bench.rows, **{kind: [answer.tokens for answer in found] for kind, found in both.items()})
    samples = [
        record
        for kind, found in both.items()
        for record in _samples(bench, model, model, kind, [found[row.row] for row in bench.prompts])
    ]
    with bench.store.write(spec, {"vocabulary": _vocabulary(model)}) as folder:
        write_rows(folder / ROWS_FILE, probes)
        write_table(folder / ANSWERS_FILE, samples)
        write_table(folder / PAIRS_FILE, similarity_records(model, bench.rows, budget=_BUDGET))
    return bench.store.get(spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What was measured of a checkpoint, and what a reader should know about it."""

    checkpoint: Checkpoint
    artefact: Artefact
    gradients: Artefact | None
    notes: tuple[str, ...]


def _checkpoint(bench: _Bench, start: Artefact, checkpoint: Checkpoint) -> _Measured:
    """Score the probes with one forward, sample, and commit that; then take gradients, which need more memory."""
    request, probes = bench.request, read_rows(start.file(ROWS_FILE))
    spec = StageSpec(
        "diagnose",
        _VERSION,
        {"prompts": request.prompts, "max_new_tokens": request.max_new_tokens},
        {"start": StageSpec(**start.spec).id, "weights": checkpoint.digest()},
        float32_here(),
    )
    if bench.store.find(spec) is None:
        bench.say(f"{checkpoint.name}: scoring {len(probes)} pairs with their probes")
        model = _fitted(bench, start, checkpoint)
        info: dict[str, Any] = {"finite": all(bool(p.isfinite().all()) for p in model.parameters())}
        tables = _tables(bench, checkpoint.name, model, probes) if info["finite"] else ([], [])
        with bench.store.write(spec, info) as folder:
            for name, records in zip((PROBES_FILE, ANSWERS_FILE), tables, strict=True):
                write_table(folder / name, records)
        del model  # its gradients come from a fresh one
    artefact = bench.store.get(spec)
    gradients, notes = None, checkpoint.notes
    if artefact.info["finite"]:
        gradients, note = _gradients(
            bench, checkpoint.name, checkpoint.digest(), lambda: _ready(_fitted(bench, start, checkpoint))
        )
        notes += note
    return _Measured(checkpoint=checkpoint, artefact=artefact, gradients=gradients, notes=notes)


def _tables(
    bench: _Bench, name: str, model: PreTrainedModel, probes: Sequence[TokenRow]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the log-probs of the probes, and the checkpoint's own answers."""
    first = _model(bench, bench.start)
    records = probe_records(_ready(model), probes, _start_logps(bench, first, probes), budget=_BUDGET)
    bench.say(f"{name}: answering {len(bench.prompts)} prompts")
    samples = [
        record
        for kind in ("greedy", "sampled")
        for record in _samples(bench, model, first, kind, bench.answer(model, bench.prompts, greedy=kind == "greedy"))
    ]
    return records, samples


def _gradients(
    bench: _Bench, name: str, weights: str, load: Callable[[], PreTrainedModel]
) -> tuple[Artefact | None, tuple[str, ...]]:
    """Take gradients of some pairs, an artefact of their own; without the memory for them the rest of it stands."""
    n = bench.request.gradients
    if not n:
        return None, ()
    inputs = {"weights": weights, "rows": rows_digest(bench.rows)}
    spec = StageSpec("gradients", _VERSION, {"pairs": n}, inputs, float32_here())
    there = bench.store.find(spec)
    if there is not None:
        return there, ()
    bench.say(f"{name}: gradients of {n} pairs")
    try:
        records = gradient_records(load(), bench.rows, n)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        bench.say(f"{name}: not enough memory for gradients; everything else of it is measured")
        return None, ("There was not enough memory for its gradients.",)
    with bench.store.write(spec, {}) as folder:
        write_table(folder / GRADIENTS_FILE, records)
    return bench.store.get(spec), ()


def _model(bench: _Bench, folder: Path) -> PreTrainedModel:
    return _ready(load_model(folder, dtype="float32", device=bench.device))


def _fitted(bench: _Bench, start: Artefact, checkpoint: Checkpoint) -> PreTrainedModel:
    """Return a checkpoint without the rows that its head was padded with in training, which no token of the data needs.

    Raises:
        ConfigError: the checkpoint's head has fewer rows than the start point's.
    """
    model = checkpoint.load(dtype="float32", device=bench.device)
    own, wanted = _vocabulary(model), int(start.info["vocabulary"])
    if own < wanted:
        raise ConfigError(
            f"{checkpoint.name}: its vocabulary has {own:,} rows and the start point's {wanted:,}; name the start "
            "point that it was trained from."
        )
    if own > wanted:
        model.resize_token_embeddings(wanted)
    return model


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


def _ready(model: PreTrainedModel) -> PreTrainedModel:
    prove(model)
    return model.requires_grad_(False)


def _start_logps(
    bench: _Bench, model: PreTrainedModel, probes: Sequence[TokenRow]
) -> dict[str, list[NDArray[np.float32] | None]]:
    """Return what the start point says of every probe, from the reference store where anything asked before."""
    store = ReferenceStore(cache_root(), weights_digest(bench.start), {"device": bench.device, "dtype": "float32"})
    store.complete(lambda: model, probes, ROLES, budget=_BUDGET)
    return {role: store.tokens(probes, role) for role in ROLES}


def _samples(
    bench: _Bench, model: PreTrainedModel, start: PreTrainedModel, kind: str, found: Sequence[Response]
) -> list[dict[str, Any]]:
    described = describe_answers(model, start, bench.prompts, found, budget=_BUDGET)
    return answer_records(kind, bench.prompts, found, described, bench.tokenizer)


def _index(
    bench: _Bench, command: str, start: Artefact, first: Artefact | None, found: Sequence[_Measured], folder: Path
) -> dict[str, Any]:
    def within(artefact: Artefact | None) -> str | None:
        return None if artefact is None else str(artefact.path.relative_to(folder))

    return {
        "schema_version": 1,
        "command": command,
        "request": asdict(bench.request),
        "rows": [
            {"row": place, "line": example.row, "prompt": prompt_text(example.prompt)}
            | {name: getattr(example, name) for name in ("chosen", "rejected", "family")}
            for place, example in enumerate(bench.examples)
        ],
        "start": within(start),
        "start_gradients": within(first),
        "checkpoints": [
            {
                "name": each.checkpoint.name,
                "folder": str(each.checkpoint.folder),
                "artefact": within(each.artefact),
                "gradients": within(each.gradients),
                "notes": list(each.notes),
            }
            for each in found
        ],
    }

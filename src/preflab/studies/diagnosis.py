"""`preflab diagnose`: checkpoints from anywhere on one probe set, one artefact each, and a page with the verdicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError, DataError
from preflab.core.seeds import permutation
from preflab.data.check import check, exclude
from preflab.data.examples import Example, TokenRow
from preflab.data.prompts import prompt_text
from preflab.data.read import read
from preflab.data.tokens import TokenSettings, response_text, tokenize
from preflab.diagnose.checkpoints import Diagnosis
from preflab.evals.probes import (
    PAIR,
    PROBES,
    add_probes,
    describe_answers,
    gradient_sizes,
    similarities,
    summary,
)
from preflab.evals.responses import Question, sample_responses
from preflab.models.checkpoints import Checkpoint, find_checkpoints
from preflab.models.load import (
    context_length,
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
from preflab.scoring.logps import prove, score
from preflab.scoring.reference import ReferenceStore
from preflab.store.artefacts import Artefact, StageSpec, Store, write_json
from preflab.store.ledger import study_lock
from preflab.studies.bench import write_table
from preflab.studies.config import SourceConfig
from preflab.studies.names import data_source, model_source
from preflab.studies.prepare import rows_digest

_VERSION = 1
_BUDGET = 2048
"""Flat tokens per forward."""
_DECODED = 32
"""Prompts decoded together."""
ROLES = (*PAIR, *PROBES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to diagnose.

    Args:
        start: the start point: folder, Hub id, or pocket:base.
        models: what became of it: folders, adapters, folders of checkpoints, Hub ids.
        data: preference pairs.
        rows: pairs to score.
        prompts: of them, those that every checkpoint answers.
        gradients: of them, those whose gradients are taken; 0 takes none.
        exclude: row problems to leave out.
        max_tokens: of prompt and response together.
        max_new_tokens: of an answer.
    """

    start: str
    models: tuple[str, ...]
    data: str
    rows: int
    prompts: int
    gradients: int
    exclude: tuple[str, ...]
    max_tokens: int
    max_new_tokens: int


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

    @property
    def numeric(self) -> dict[str, Any]:
        """What changes the last digits."""
        return {"device": self.device, "dtype": "float32", "threads": torch.get_num_threads()}

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
    examples, rows = _pairs(request, tokenizer)
    _check_context(request, start, rows)
    with study_lock(folder):
        store = Store(folder / "artefacts")
        store.sweep()
        bench = _Bench(
            request=request,
            store=store,
            start=start,
            tokenizer=tokenizer,
            end_ids=end_token_ids(start, tokenizer),
            device="cuda" if torch.cuda.is_available() else "cpu",
            examples=examples,
            rows=rows,
            say=say,
        )
        began = _start(bench)
        probes = _with_probes(bench, began)
        found = [_checkpoint(bench, began, probes, checkpoint) for checkpoint in checkpoints]
        write_json(folder / INDEX, _index(bench, command, began, list(zip(checkpoints, found, strict=True)), folder))
    return write_diagnosis_report(folder)


def _pairs(request: Request, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[Example, ...], tuple[TokenRow, ...]]:
    """Read, check and tokenise the pairs, and take some of them in an order of their own."""
    source = data_source(SourceConfig(path=request.data))
    dataset = read(source.path, split=source.split)
    if dataset.kind != "paired":
        raise DataError(f"{request.data}: a diagnosis needs pairs, a chosen and a rejected response to each prompt; "
                        f"these rows are {dataset.kind}.")  # fmt: skip
    settings = TokenSettings("auto", request.max_tokens, max(1, 3 * request.max_tokens // 4))
    dataset, _ = exclude(dataset, check(dataset, tokenizer=tokenizer, tokens=settings), request.exclude, study=False)
    order = permutation(len(dataset.examples), 0, "diagnosis")[: request.rows]
    examples = tuple(dataset.examples[i] for i in order)
    if len({example.prompt for example in examples}) < 2:
        raise DataError(
            f"{request.data}: {len(examples)} pair(s) with one prompt; answers to other prompts are the unseen ones, "
            "so a diagnosis needs at least two prompts."
        )
    rows = tokenize(examples, tokenizer, settings).rows
    # Tables name a row by its place here: a line added to the file must not move old results to other rows.
    rows = tuple(replace(row, row=place) for place, row in enumerate(rows))
    said = [i for i, example in enumerate(examples) if example.meta.get("paraphrase")]
    others = tuple(replace(examples[i], chosen=str(examples[i].meta["paraphrase"])) for i in said)
    if others:
        own = dict(zip(said, tokenize(others, tokenizer, settings).rows, strict=True))
        rows = tuple(
            replace(row, responses={**row.responses, "paraphrase": own[i].responses["chosen"]}) if i in own else row
            for i, row in enumerate(rows)
        )
    return examples, rows


def _check_context(request: Request, start: Path, rows: Sequence[TokenRow]) -> None:
    """Refuse rows that the models cannot see whole; any response may stand behind any prompt, as an unseen answer."""
    response = max(len(ids) for row in rows for ids in row.responses.values())
    needed = max(len(row.prompt) for row in rows) + max(response, request.max_new_tokens)
    context = context_length(start)
    if needed > context:
        raise ConfigError(
            f"{request.start}: its context has {context} positions, but the longest prompt with its longest response, "
            f"or with --max-new-tokens {request.max_new_tokens}, needs {needed}; lower --max-tokens or "
            "--max-new-tokens."
        )


def _start(bench: _Bench) -> Artefact:
    """Answer the prompts from the start point, and measure how alike the responses of each pair are to it."""
    request = bench.request
    spec = StageSpec(
        "start",
        _VERSION,
        {"prompts": request.prompts, "gradients": request.gradients, "max_new_tokens": request.max_new_tokens}
        | {"end_ids": list(bench.end_ids)},
        {
            "weights": weights_digest(bench.start),
            "rows": rows_digest(bench.rows),
            "tokenizer": tokenizer_digest(bench.tokenizer),
        },
        bench.numeric,
    )
    there = bench.store.find(spec)
    if there is not None:
        return there
    bench.say(f"{request.start}: answering {len(bench.rows)} prompts")
    model = _loaded(load_model(bench.start, dtype="float32", device=bench.device))
    both = {kind: bench.answer(model, bench.rows, greedy=kind == "greedy") for kind in ("greedy", "sampled")}
    samples = [
        record
        for kind, found in both.items()
        for record in _samples(bench, model, model, kind, [found[row.row] for row in bench.prompts])
    ]
    info: dict[str, Any] = {}
    with bench.store.write(spec, info) as folder:
        table = [
            {"row": row.row, **{f"{kind}_ids": both[kind][i].tokens.tolist() for kind in both}}
            for i, row in enumerate(bench.rows)
        ]
        write_table(folder / "answers.parquet", table)
        write_table(folder / "samples.parquet", samples)
        write_table(folder / "pairs.parquet", _similar(bench, model))
        write_table(folder / "gradients.parquet", _gradients(bench, model))
    return bench.store.get(spec)


def _gradients(bench: _Bench, model: PreTrainedModel) -> list[dict[str, Any]]:
    pairs = bench.prompts[: bench.request.gradients]
    return [{"row": row.row, **sizes} for row, sizes in zip(pairs, gradient_sizes(model, pairs), strict=True)]


def _similar(bench: _Bench, model: PreTrainedModel) -> list[dict[str, Any]]:
    scores = similarities(model, bench.rows, budget=_BUDGET)
    return [{"row": row.row, **scores[i]} for i, row in enumerate(bench.rows)]


def _with_probes(bench: _Bench, start: Artefact) -> list[TokenRow]:
    """Give the pairs their probes, among them what the start point answered."""
    records = pq.read_table(start.file("answers.parquet")).to_pylist()
    kinds = {
        kind: [Response(np.asarray(r[f"{kind}_ids"], dtype=np.int64), truncated=False) for r in records]
        for kind in ("greedy", "sampled")
    }
    return add_probes(bench.rows, **kinds, max_tokens=bench.request.max_tokens)


def _checkpoint(bench: _Bench, start: Artefact, probes: Sequence[TokenRow], checkpoint: Checkpoint) -> Artefact:
    """Score the probes with one forward, sample, and take gradients."""
    request = bench.request
    spec = StageSpec(
        "diagnose",
        _VERSION,
        {"prompts": request.prompts, "max_new_tokens": request.max_new_tokens, "gradients": request.gradients},
        {"start": StageSpec(**start.spec).id, "weights": checkpoint.digest(), "rows": rows_digest(probes, ROLES)},
        bench.numeric,
    )
    found = bench.store.find(spec)
    if found is not None:
        return found
    bench.say(f"{checkpoint.name}: scoring {len(probes)} pairs with their probes")
    model = checkpoint.load(dtype="float32", device=bench.device)
    first = _loaded(load_model(bench.start, dtype="float32", device=bench.device))
    info: dict[str, Any] = {"finite": all(bool(p.isfinite().all()) for p in model.parameters())}
    records: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    gradients: list[dict[str, Any]] = []
    if info["finite"]:
        _fit_head(checkpoint, model, first)
        records = _scored(_loaded(model), _start_logps(bench, first, probes), probes)
        bench.say(f"{checkpoint.name}: answering {len(bench.prompts)} prompts")
        samples = [
            record
            for kind in ("greedy", "sampled")
            for record in _samples(
                bench, model, first, kind, bench.answer(model, bench.prompts, greedy=kind == "greedy")
            )
        ]
        del first  # two models, and two gradients of one, need not be in memory together
        bench.say(f"{checkpoint.name}: gradients of {request.gradients} pairs")
        gradients = _gradients(bench, model)
    with bench.store.write(spec, info) as folder:
        write_table(folder / "probes.parquet", records)
        write_table(folder / "samples.parquet", samples)
        write_table(folder / "gradients.parquet", gradients)
    return bench.store.get(spec)


def _scored(
    model: PreTrainedModel, known: Mapping[str, Sequence[NDArray[np.float32] | None]], probes: Sequence[TokenRow]
) -> list[dict[str, Any]]:
    """Score the probes by one forward, and put them beside what the start point says."""
    own = score(model, probes, ROLES, budget=_BUDGET)
    return [
        {"row": row.row, "role": role, **summary(values, reference)}
        for i, row in enumerate(probes)
        for role in ROLES
        if (values := own[role][i]) is not None and (reference := known[role][i]) is not None
    ]


def _fit_head(checkpoint: Checkpoint, model: PreTrainedModel, start: PreTrainedModel) -> None:
    """Cut rows off a head that was padded in training, which no token of the data needs.

    Raises:
        ConfigError: the checkpoint's head has fewer rows than the start point's.
    """
    own, wanted = (m.get_output_embeddings().weight.shape[0] for m in (model, start))
    if own < wanted:
        raise ConfigError(
            f"{checkpoint.name}: its vocabulary has {own:,} rows and the start point's {wanted:,}; name the start "
            "point that it was trained from."
        )
    if own > wanted:
        model.resize_token_embeddings(wanted)


def _loaded(model: PreTrainedModel) -> PreTrainedModel:
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
    rows = bench.prompts
    measured = describe_answers(model, start, rows, found, budget=_BUDGET)
    return [
        {
            "row": row.row,
            "kind": kind,
            "text": response_text(response.tokens, bench.tokenizer),
            "n_tokens": len(response.tokens),
            "truncated": response.truncated,
            **values,
        }
        for row, response, values in zip(rows, found, measured, strict=True)
    ]


def _index(
    bench: _Bench,
    command: str,
    start: Artefact,
    found: Sequence[tuple[Checkpoint, Artefact]],
    folder: Path,
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "command": command,
        "request": asdict(bench.request),
        "rows": [
            {
                "row": place,
                "line": example.row,
                "prompt": prompt_text(example.prompt),
                "chosen": example.chosen,
                "rejected": example.rejected,
                "family": example.family,
            }
            for place, example in enumerate(bench.examples)
        ],
        "start": str(start.path.relative_to(folder)),
        "checkpoints": [
            {
                "name": checkpoint.name,
                "folder": str(checkpoint.folder),
                "artefact": str(artefact.path.relative_to(folder)),
                "notes": list(checkpoint.notes),
            }
            for checkpoint, artefact in found
        ],
    }

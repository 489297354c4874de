"""What a worker does for each kind of stage. Every function reads artefacts and leaves one artefact."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from preflab.core.ids import canonical_json
from preflab.data.examples import TokenRow
from preflab.evals.pairs import ROLES, margins, match_unpaired, score_pairs
from preflab.evals.responses import Question, describe_responses, rewards_of, sample_responses
from preflab.models.adapters import load_adapter
from preflab.models.load import load_model, load_tokenizer, weights_digest
from preflab.sampling.generate import GenerationSettings, Response
from preflab.scoring.logps import prove, shares_prompts
from preflab.scoring.reference import ReferenceStore
from preflab.store.artefacts import Artefact, StageSpec, Store
from preflab.studies.names import reward
from preflab.studies.prepare import Split, read_split
from preflab.studies.stages import Job, Stage
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


def run_stage(job: Job, bench: Bench, report: Report) -> dict[str, Any]:
    """Do a job of one stage that does not train, and commit its artefact; return the artefact's info.

    Raises:
        Interrupted: `report` said so.
        PreflabError: the stage failed.
    """
    functions = {"reference": _reference, "validate": _validate, "evaluate": _evaluate}
    began = time.perf_counter()
    (stage,) = job.stages
    info: dict[str, Any] = dict(job.mark)
    with bench.store.write(stage.spec, info) as folder:
        functions[stage.kind](job, bench, folder, info, report)
        info["seconds"] = round(time.perf_counter() - began, 3)
    bench.store.clear_work(stage.spec)
    return info


def start_folder(bench: Bench, start: str, sft: StageSpec | None) -> Path:
    """Return the folder with the weights of a start point."""
    if start == "sft":
        assert sft is not None
        return bench.store.get(sft).file("model")
    return Path(bench.models[start])


def _reference(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Fill the reference store with everything this study will ask of one start point."""
    (stage,) = job.stages
    data = bench.artefact()
    weights = start_folder(bench, stage.start, stage.sft)
    references = reference_store(bench, weights)
    model = functools.cache(lambda: load_frozen(bench, weights))
    for name, roles, n in stage.spec.params["scored"]:
        rows = read_split(data, name, n).rows
        references.complete(model, rows, roles, budget=job.budget, progress=functools.partial(report, name))
    info |= {"responses_scored": references.n_scored, "weights": weights_digest(weights)}
    (folder / "about.txt").write_text("Log-probs live in the reference store outside the study.\n", encoding="utf-8")


def _validate(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Score a cell on the validation split by the metric that selects settings."""
    (stage,) = job.stages
    params = stage.spec.params
    model, references = _cell_model(stage, bench)
    split = read_split(bench.artefact(), "validation", params["n_rows"])
    if params["metric"] == "reward":
        gold = reward(params["reward"])
        assert gold is not None
        questions = _questions(split, params["n_prompts"])
        responses = _sample(model, questions, job, bench, functools.partial(report, "sampling"))
        values = rewards_of(questions, responses, tokenizer_of(bench), gold)
    else:
        records = _score_split(model, references, split, job, bench, functools.partial(report, "scoring"))
        values = [0.5 if m == 0 else float(m > 0) for m in margins(records)]
    info |= {"metric": params["metric"], "value": float(np.mean(values)), "n": len(values)}
    pq.write_table(pa.table({"value": values}), folder / "values.parquet")


def _evaluate(job: Job, bench: Bench, folder: Path, info: dict[str, Any], report: Report) -> None:
    """Score pairs and sample responses on the test and out-of-distribution splits, per example."""
    (stage,) = job.stages
    params = stage.spec.params
    model, references = _cell_model(stage, bench)
    start = model if stage.train is None else load_frozen(bench, start_folder(bench, stage.start, stage.sft))
    pairs: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    data, gold = bench.artefact(), reward(params["reward"])
    for name in params["splits"]:
        split = read_split(data, name)
        compared = read_split(data, name, params["n_pairs"])
        progress = functools.partial(report, name)
        records = _score_split(model, references, compared, job, bench, progress)
        pairs += [{"split": name, **record} for record in records]
        questions = _questions(split, params["n_prompts"])
        responses = _sample(model, questions, job, bench, progress)
        described = describe_responses(
            model, start, tokenizer_of(bench), questions, responses, reward=gold, budget=job.budget, progress=progress
        )
        answers += [{"split": name, **record} for record in described]
    write_table(folder / "pairs.parquet", pairs)
    write_table(folder / "responses.parquet", answers)
    info |= {"n_pairs": len(pairs), "n_responses": len(answers)}


def _cell_model(stage: Stage, bench: Bench) -> tuple[PreTrainedModel, ReferenceStore]:
    """Return the trained model of a cell (or the start point itself) and its start point's reference log-probs."""
    weights = start_folder(bench, stage.start, stage.sft)
    references = reference_store(bench, weights)
    if stage.train is None:
        return load_frozen(bench, weights), references
    folder = bench.store.get(stage.train).file("model")
    if (folder / "adapter_config.json").exists():
        return cast(PreTrainedModel, load_adapter(load_frozen(bench, weights), folder).get_base_model()), references
    return load_frozen(bench, folder), references


def known_tokens(
    job: Job, bench: Bench, references: ReferenceStore, rows: Sequence[TokenRow], roles: Sequence[str]
) -> References:
    """Return the start point's log-probs; a store that was deleted since the reference stage is filled again."""
    stage = job.stages[0]
    start = functools.cache(lambda: load_frozen(bench, start_folder(bench, stage.start, stage.sft)))
    references.complete(start, rows, roles, budget=job.budget)
    return {role: references.tokens(rows, role) for role in roles}


def _score_split(
    model: PreTrainedModel,
    references: ReferenceStore,
    split: Split,
    job: Job,
    bench: Bench,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    known = known_tokens(job, bench, references, split.rows, ROLES)
    records = score_pairs(model, split.rows, known, budget=job.budget, progress=progress)
    return match_unpaired([{"family": e.family, **r} for e, r in zip(split.examples, records, strict=True)])


def _questions(split: Split, n: int) -> list[Question]:
    """Return the first `n` distinct prompts of a split."""
    questions: dict[bytes, Question] = {}
    for example, row, shown in zip(split.examples, split.rows, split.shown, strict=True):
        questions.setdefault(row.prompt.tobytes(), Question(example, row.prompt, shown))
    return list(questions.values())[:n]


def _sample(
    model: PreTrainedModel,
    questions: Sequence[Question],
    job: Job,
    bench: Bench,
    progress: Callable[[int, int], None],
) -> list[Response]:
    params = job.stages[0].spec.params
    settings = GenerationSettings(
        max_new_tokens=params["max_new_tokens"], batch_size=job.smaller(params["batch_size"]), seed=params["seed"]
    )
    tokenizer = tokenizer_of(bench)
    return sample_responses(model, tokenizer, questions, settings, end_ids=bench.end_ids, progress=progress)


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


def load_frozen(bench: Bench, folder: Path) -> PreTrainedModel:
    """Load frozen weights; the first load of an architecture proves how its rows are laid out."""
    allowed = bench.allows_code(folder)
    model = load_model(folder, dtype=bench.dtype, device=bench.device, allow_remote_code=allowed)
    architecture = canonical_json({k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"})
    if architecture not in _layouts:
        prove(model)
        _layouts[architecture] = shares_prompts(model)
    model.get_decoder().shares_prompts = _layouts[architecture]
    return model.requires_grad_(False)


def reference_store(bench: Bench, weights: Path) -> ReferenceStore:
    """Return the store of a start point's log-probs."""
    numeric = {"device": bench.device, "dtype": bench.dtype}
    return ReferenceStore(bench.cache, weights_digest(weights), numeric)

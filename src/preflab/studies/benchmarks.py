"""`preflab eval` and `preflab compare`: benchmarks on models from anywhere, one artefact per model and benchmark."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from preflab.core.errors import ConfigError
from preflab.evals.benchmarks.catalogue import named
from preflab.evals.benchmarks.files import data_folder
from preflab.evals.benchmarks.keys import Key
from preflab.evals.benchmarks.lm_eval_backend import score_with_lm_eval, scorer_name, supports
from preflab.evals.benchmarks.selection import profile
from preflab.evals.benchmarks.tasks import Task, Template, prepare
from preflab.models.checkpoints import Checkpoint, lone_checkpoint
from preflab.models.devices import default_device
from preflab.models.load import context_length, end_token_ids, load_tokenizer, quiet
from preflab.report.benchmarks import INDEX, Results, load_results, write_benchmarks_report
from preflab.scoring.logps import prove
from preflab.store.artefacts import StageSpec, Store, write_json
from preflab.store.ledger import study_lock
from preflab.studies.bench import write_table
from preflab.studies.names import model_source

_VERSION = 1
_BUDGET = 4096
"""Flat tokens per forward."""
_PARTIAL = "answers.json"
RECORDS = "items.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is evaluated and how.

    Args:
        models: folders, adapters, Hub ids, pocket models, or folders that `preflab eval` wrote.
        benchmarks: names; `thirteen` and `all` stand for several.
        profile: how much of each.
        data_dir: where the benchmark files are; None looks in the usual folder.
        template: `auto` or `none`.
        scorer: `native`, or `lm-eval` for the benchmarks that it has.
        dtype: of weights and activations.
        batch_size: prompts decoded together.
        allow_remote_code: models, as named, whose own Python code may run.
    """

    models: tuple[str, ...]
    benchmarks: tuple[str, ...]
    profile: str
    data_dir: str | None
    template: Template
    scorer: Literal["native", "lm-eval"]
    dtype: str
    batch_size: int
    allow_remote_code: tuple[str, ...] = ()


def run_benchmarks(request: Request, folder: Path, *, command: str, say: Callable[[str], None]) -> tuple[Path, Results]:
    """Score every model on every benchmark, or what is missing of it, and write tables and page.

    Args:
        request: what is wanted.
        folder: where artefacts, tables and page go.
        command: what was typed.
        say: called with a line of progress.

    Raises:
        ConfigError: a model cannot be had or loaded safely, or no benchmark is at hand.
        DataError: a benchmark file is damaged.

    Returns:
        Path of the page, and what it shows.
    """
    quiet()
    earlier = {name: Path(name).expanduser() for name in request.models if (Path(name).expanduser() / INDEX).exists()}
    checkpoints = [_checkpoint(name, request) for name in request.models if name not in earlier]
    tasks, absent = _tasks(request) if checkpoints else ([], [])
    for line in absent:
        say(line)
    with study_lock(folder):
        store = Store(folder / "artefacts")
        store.sweep()
        entries = []
        for name in request.models:
            if name in earlier:
                entries += _copied(earlier[name], folder, store)
            else:
                (checkpoint,) = (each for each in checkpoints if each.name == name)
                entries.append(_evaluate(checkpoint, tasks, request, store, say))
        entries = _told_apart(entries)
        index = {
            "schema_version": 1,
            "command": command,
            "request": asdict(request),
            "missing": absent,
            "models": entries,
        }
        write_json(folder / INDEX, index)
    return write_benchmarks_report(folder), load_results(folder)


def _checkpoint(name: str, request: Request) -> Checkpoint:
    found = lone_checkpoint(model_source(name), allow_remote_code=name in request.allow_remote_code)
    return Checkpoint(name, found.folder, found.start, found.notes)


def _tasks(request: Request) -> tuple[list[Task], list[str]]:
    folder = data_folder(Path(request.data_dir) if request.data_dir else None)
    tasks, absent = prepare(named(request.benchmarks), profile(request.profile), folder)
    if request.scorer == "lm-eval":
        absent += [
            f"{task.benchmark.name}: lm-eval has no such task." for task in tasks if not supports(task.benchmark)
        ]
        tasks = [task for task in tasks if supports(task.benchmark)]
    if not tasks:
        raise ConfigError(f"no benchmark is at hand: {' '.join(absent)}")
    return tasks, absent


def _evaluate(
    checkpoint: Checkpoint, tasks: Sequence[Task], request: Request, store: Store, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return a model's entry of the index, scoring what is not committed; weights load when it is needed."""
    remote = checkpoint.name in request.allow_remote_code
    source = checkpoint.tokenizer_folder
    tokenizer = load_tokenizer(source, allow_remote_code=remote)
    end_ids, weights = end_token_ids(source, tokenizer), checkpoint.digest()
    context = context_length(checkpoint.start, allow_remote_code=remote)
    numeric = {"device": default_device(), "dtype": request.dtype, "threads": torch.get_num_threads()}
    scorer = scorer_name() if request.scorer == "lm-eval" else ""
    model, scored = None, {}
    unfit = [line for task in tasks if (line := task.misfit(context))]
    for line in unfit:
        say(f"{checkpoint.name}: {line}")
    for task in (task for task in tasks if not task.misfit(context)):
        key = task.key(tokenizer, request.template, {"device": numeric["device"], "dtype": request.dtype}, scorer)
        batch = {"batch_size": request.batch_size} if task.benchmark.kind == "written" else {}
        spec = StageSpec("benchmark", _VERSION, key.as_json(), {"weights": weights}, {**numeric, **batch})
        if store.find(spec) is None and scorer:
            say(f"{checkpoint.name}: {task.benchmark.name} by {scorer}, {len(task.items)} items")
            records = score_with_lm_eval(
                checkpoint,
                task,
                chat=task.chats(tokenizer, request.template),
                dtype=request.dtype,
                device=default_device(),
                batch_size=request.batch_size,
            )
            _commit(store, spec, key, records)
        elif store.find(spec) is None:
            if model is None:
                say(f"{checkpoint.name}: loading")
                model = checkpoint.load(dtype=request.dtype, device=default_device(), allow_remote_code=remote)
                model.requires_grad_(False)
                prove(model)
            partial = store.work(spec) / _PARTIAL
            records = task.run(
                model,
                tokenizer,
                template=request.template,
                end_ids=end_ids,
                context=context,
                budget=_BUDGET,
                batch_size=request.batch_size,
                known=json.loads(partial.read_text(encoding="utf-8")) if partial.exists() else (),
                kept=lambda found, partial=partial: write_json(partial, found),  # type: ignore[misc]
                progress=_told(say, f"{checkpoint.name}: {task.benchmark.name}"),
            )
            _commit(store, spec, key, records)
        scored[task.benchmark.name] = f"artefacts/{store.path(spec).relative_to(store.root)}"
    return {"name": checkpoint.name, "weights": weights, "notes": [*checkpoint.notes, *unfit], "benchmarks": scored}


def _commit(store: Store, spec: StageSpec, key: Key, records: Sequence[dict[str, Any]]) -> None:
    with store.write(spec, {"key": key.as_json()}) as out:
        write_table(out / RECORDS, records)
    store.clear_work(spec)


def _copied(earlier: Path, folder: Path, store: Store) -> list[dict[str, Any]]:
    """Return the entries of an earlier evaluation, its artefacts beside ours."""
    index = json.loads((earlier / INDEX).read_text(encoding="utf-8"))
    if earlier.resolve() == folder.resolve():
        return list(index["models"])
    for entry in index["models"]:
        for place in entry["benchmarks"].values():
            store.adopt(earlier / place)
    return list(index["models"])


def _told_apart(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries, models with the same weights and results once, and models of one name with their weights'.

    Raises:
        ConfigError: nothing is left to show.
    """
    unique = {(each["name"], each["weights"], json.dumps(each["benchmarks"])): each for each in entries}
    names = [name for name, _, _ in unique]
    return [
        {**each, "name": each["name"] if names.count(each["name"]) == 1 else f"{each['name']} {each['weights'][:8]}"}
        for each in unique.values()
    ]


def _told(say: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """Return a progress that says a line at every tenth of the way."""
    steps: Iterator[int] = iter(range(11))
    following = next(steps)

    def progress(done: int, total: int) -> None:
        nonlocal following
        while following <= 10 and done * 10 >= following * total:
            if following in (0, 5, 10):
                say(f"{what}: {done} of {total}")
            following = next(steps, 11)

    return progress

"""The plan: every stage of a study with its id, what it needs, what is there already, and how long the rest takes."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError
from preflab.evals.benchmarks.files import data_folder
from preflab.methods.needs import roles_of
from preflab.models.devices import default_device
from preflab.models.load import context_length, end_token_ids, load_tokenizer, quiet, resolve
from preflab.store.artefacts import Artefact, StageSpec, Store
from preflab.studies.bench import Bench
from preflab.studies.benchmarking import tasks_of
from preflab.studies.cells import Cell, expand, resolve_methods, resolve_sizes
from preflab.studies.checks import check_given, check_kind, check_reward, check_stopping
from preflab.studies.config import StudyConfig
from preflab.studies.layout import Layout
from preflab.studies.names import model_source
from preflab.studies.notes import fairness_notes
from preflab.studies.prepare import prepare, read_split
from preflab.studies.schedule import groups_of
from preflab.studies.scorers import Scorer
from preflab.studies.search import Explorer
from preflab.studies.sizing import Sizing, size_up
from preflab.studies.stages import Stage


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study, resolved.

    Args:
        config: the study.
        folder: where it lives.
        bench: what its stages work with.
        layout: builds its stages.
        data: its data artefact.
        cells: its training runs.
        explorer: finds which stages there are, as validation decides.
        sizing: how it uses its machine.
        notes: what the reader should know about fairness and defaults.
    """

    config: StudyConfig
    folder: Path
    bench: Bench
    layout: Layout
    data: Artefact
    cells: tuple[Cell, ...]
    explorer: Explorer
    sizing: Sizing
    notes: tuple[str, ...]

    @property
    def store(self) -> Store:
        """The study's artefacts."""
        return self.bench.store

    def seconds(self, stage: Stage) -> float:
        """Return how long one worker will need for a stage."""
        return self.sizing.seconds(stage, self._beside.get(stage.together, 1))

    def wall_s(self, stages: Sequence[Stage]) -> float:
        """Return about how long stages take together: first each start point in one worker, then all workers."""
        if not stages:
            return 0.0
        first = sum(self.seconds(stage) for stage in stages if stage.kind in ("sft", "reference"))
        rest = sum(map(self.seconds, stages)) - first
        alone = min(self.workers, len(self.layout.starts()))
        return self.sizing.costs.load_s + first / alone + rest / self.workers

    @property
    def workers(self) -> int:
        """Processes that will run jobs."""
        return self.sizing.workers

    @functools.cached_property
    def _beside(self) -> dict[str, int]:
        """Cells that will train in one forward, for every `together`."""
        cells = Counter(stage.together for stage in self.explorer.known(guess=True).stages if stage.together)
        return {
            together: -(-n // groups_of(n, most=self.sizing.most_fused, workers=self.workers))
            for together, n in cells.items()
        }


def make_plan(config: StudyConfig, folder: Path) -> Plan:
    """Resolve a study: load its tokenizer, prepare its data, measure this machine, and lay out the stages.

    Raises:
        ConfigError: the study cannot be meant as written.
        DataError: its data must be mended, or exclusions declared.
    """
    quiet()
    resolved = resolve_methods(config)
    grids = {grid.name: grid for grid in resolved}
    online = any(grid.method.is_online for grid in grids.values())
    own = config.online_reward if online and config.online_reward != "model" else None
    gold, judge = _scorer(config.evaluate.reward, "evaluate.reward", config), _scorer(own, "online.reward", config)
    models = _models(config)
    tokenizer_folder, tokenizer = _tokenizer(config, models)
    store = Store(folder / "artefacts")
    mismatched = any("mismatched" in roles_of(grid.method) for grid in grids.values())
    data = prepare(config, tokenizer, store, mismatched=mismatched)
    check_kind(str(data.info["kind"]), grids, config)
    check_given(data.info, grids)
    check_reward(gold, data, where="evaluate.reward", splits=("validation", "test", "ood"))
    check_reward(judge, data, where="online.reward", splits=("train",))
    if any(grid.stops for grid in resolved):
        check_stopping(read_split(data, "validation", config.train.monitor_rows).rows)
    tasks, absent = tasks_of(config.evaluate.benchmarks)
    context = min(context_length(f, allow_remote_code=f in _remote_code(config)) for f in models.values())
    absent += tuple(line for task in tasks if (line := task.misfit(context)))
    tasks = tuple(task for task in tasks if not task.misfit(context))
    bench = Bench(
        store=store,
        data=StageSpec(**data.spec),
        models=models,
        tokenizer=tokenizer_folder,
        end_ids=end_token_ids(models["base"], tokenizer),
        dtype=config.models.dtype,
        device=_device(config),
        cache=cache_root(),
        benchmark_files=_benchmark_files(config),
        remote_code=_remote_code(config),
        checkpoint_every_s=config.run.checkpoint_every_s,
    )
    n_rows = data.info["splits"]["train"]
    sizing = size_up(config, grids, bench, data, folder)
    layout = Layout(
        config=config,
        grids=grids,
        data=data,
        bench=bench,
        sizes=resolve_sizes(config, n_rows),
        token_budget=sizing.token_budget,
        reward_code="" if gold is None else gold.digest,
        online_code="" if judge is None else judge.digest,
        tasks=tasks,
    )
    cells = expand(config, resolved, n_rows)
    notes = fairness_notes(config, grids, data.info)
    if not sizing.costs.shares_prompts:
        notes += (
            "Responses of this architecture cannot share a copy of their prompt; each is a row of its own, which takes "
            "longer and changes no number.",
        )
    notes += tuple(f"Not run: {line}" for line in absent)
    if config.diagnose and not layout.compares:
        notes += (
            f"There is no diagnosis: the first {config.diagnose.rows} test rows do not hold both better and worse "
            "responses.",
        )
    return Plan(
        config=config,
        folder=folder,
        bench=bench,
        layout=layout,
        data=data,
        cells=cells,
        explorer=Explorer(layout, cells, store),
        sizing=sizing,
        notes=notes,
    )


def _models(config: StudyConfig) -> dict[str, Path]:
    """Return the folders of the start points' weights.

    Raises:
        ConfigError: a model cannot be found, or its context is too short for the study.
    """
    sources = {"base": config.models.base, "instruct": config.models.instruct}
    allowed = config.models.allow_remote_code
    longest = max(config.data.max_tokens, config.data.prompt_limit + config.evaluate.max_new_tokens)
    models = {}
    for name, source in sources.items():
        if source is None:
            continue
        revision = config.models.revision if name == "base" else None
        models[name] = resolve(model_source(source), revision, allow_remote_code=source in allowed)
        context = context_length(models[name], allow_remote_code=source in allowed)
        if longest > context:
            raise ConfigError(
                f"models.{name}: its context has {context} positions, but data.max_tokens, or the longest prompt with "
                f"evaluate.max_new_tokens, needs {longest}; lower data.max_tokens."
            )
    return models


def _remote_code(config: StudyConfig) -> frozenset[Path]:
    """Return the folders of the models whose own code may run."""
    return frozenset(resolve(model_source(name)) for name in config.models.allow_remote_code)


def _tokenizer(config: StudyConfig, models: Mapping[str, Path]) -> tuple[Path, PreTrainedTokenizerBase]:
    """Return the one tokenizer of the study: named, or base's, or instruct's where only that has a chat template.

    Raises:
        ConfigError: start points differ in vocabulary, so they could not see the same tokens.
    """
    remote = _remote_code(config)
    tokenizers = {name: load_tokenizer(f, allow_remote_code=f in remote) for name, f in models.items()}
    first = tokenizers["base"]
    for name, other in tokenizers.items():
        if other.get_vocab() != first.get_vocab():
            raise ConfigError(
                f"models.{name}: its vocabulary differs from base's, so the start points would not see the same "
                "tokens; compare them in two studies."
            )
    if config.models.tokenizer is not None:
        folder = resolve(model_source(config.models.tokenizer))
        return folder, load_tokenizer(folder, allow_remote_code=folder in remote)
    chosen = "base" if first.chat_template or "instruct" not in tokenizers else "instruct"
    return models[chosen], tokenizers[chosen]


def _benchmark_files(config: StudyConfig) -> str:
    """Return the folder of the benchmark files, or an empty text where the study asks for none."""
    asked = config.evaluate.benchmarks
    return "" if asked is None else str(data_folder(Path(asked.data_dir) if asked.data_dir else None).resolve())


def _scorer(name: str | None, where: str, config: StudyConfig) -> Scorer | None:
    allowed = name in config.models.allow_remote_code
    return None if name is None else Scorer(name, where, _device(config), allow_remote_code=allowed)


def _device(config: StudyConfig) -> str:
    if config.numeric.device != "auto":
        return config.numeric.device
    return default_device()

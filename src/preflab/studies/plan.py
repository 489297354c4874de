"""The plan: every stage of a study with its id, what it needs, what is there already, and how long the rest takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, PreTrainedTokenizerBase

from preflab.core.cache import cache_root
from preflab.core.errors import ConfigError
from preflab.methods import compares_pairs
from preflab.methods.needs import needs_live_reference, reads_pair_scores, roles_of
from preflab.models.load import end_token_ids, load_tokenizer, quiet, resolve
from preflab.scoring.budget import default_token_budget
from preflab.store.artefacts import Artefact, StageSpec, Store
from preflab.studies.bench import Bench
from preflab.studies.calibrate import Probe, Speed, measure
from preflab.studies.cells import Cell, MethodGrid, expand, resolve_methods, resolve_sizes
from preflab.studies.config import StudyConfig
from preflab.studies.layout import Layout
from preflab.studies.names import model_source, reward, reward_digest
from preflab.studies.notes import fairness_notes
from preflab.studies.prepare import prepare
from preflab.studies.stages import Stage

_ACTIVATION_BYTES = 6 * 2**30
_BYTES_PER_PARAMETER = {"full": 20, "lora": 6}
"""Weights, gradients, AdamW's moments in float32 and a frozen copy for evaluation; frozen weights alone for LoRA."""


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
        stages: every stage whose id is known before the run: all but evaluations that wait for a selection.
        speed: this machine on this model.
        workers: processes that will run stages.
        most_fused: cells that may train in one forward.
        notes: what the reader should know about fairness and defaults.
    """

    config: StudyConfig
    folder: Path
    bench: Bench
    layout: Layout
    data: Artefact
    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    speed: Speed
    workers: int
    most_fused: int
    notes: tuple[str, ...]

    @property
    def store(self) -> Store:
        """The study's artefacts."""
        return self.bench.store

    def seconds(self, stage: Stage) -> float:
        """Return how long one worker will need for a stage."""
        work, speed = stage.work, self.speed
        return (
            speed.load_s
            + work.train_tokens / speed.train
            + work.score_tokens / speed.score
            + work.generate_tokens / speed.generate
        )

    def awaiting_selection(self) -> dict[tuple[str, str, int], list[Stage]]:
        """Return the training stages of every group with more than one setting: one of them will be evaluated."""
        groups: dict[tuple[str, str, int], list[Stage]] = {}
        for stage in self.stages:
            if stage.kind == "train" and stage.cell and len(self.layout.grids[stage.cell.method].settings) > 1:
                groups.setdefault(stage.cell.group, []).append(stage)
        return groups


def make_plan(config: StudyConfig, folder: Path) -> Plan:
    """Resolve a study: load its tokenizer, prepare its data, measure this machine, and lay out the stages.

    Raises:
        ConfigError: the study cannot be meant as written.
        DataError: its data must be mended, or exclusions declared.
    """
    quiet()
    resolved = resolve_methods(config)
    grids = {grid.method.name: grid for grid in resolved}
    reward(config.evaluate.reward)
    models = _models(config)
    tokenizer_folder, tokenizer = _tokenizer(config, models)
    store = Store(folder / "artefacts")
    mismatched = any("mismatched" in roles_of(grid.method) for grid in grids.values())
    data = prepare(config, tokenizer, store, mismatched=mismatched)
    _check_kind(str(data.info["kind"]), grids, config)
    _check_given(data.info, grids)
    bench = Bench(
        store=store,
        data=StageSpec(**data.spec),
        models=models,
        tokenizer=tokenizer_folder,
        end_ids=end_token_ids(models["base"], tokenizer),
        dtype=config.models.dtype,
        device=_device(config),
        cache=cache_root(),
        remote_code=_remote_code(config),
        checkpoint_every_s=config.run.checkpoint_every_s,
    )
    n_rows = data.info["splits"]["train"]
    layout = Layout(
        config=config,
        grids=grids,
        data=data,
        bench=bench,
        sizes=resolve_sizes(config, n_rows),
        token_budget=config.train.token_budget or _token_budget(bench),
        reward_code=reward_digest(config.evaluate.reward),
    )
    cells = expand(config, resolved, n_rows)
    speed = measure(_probe(config, bench, data), bench.cache)
    notes = fairness_notes(config, grids, data.info)
    if not speed.shares_prompts:
        notes += (
            "Responses of this architecture cannot share a copy of their prompt; each is a row of its own, which takes "
            "longer and changes no number.",
        )
    return Plan(
        config=config,
        folder=folder,
        bench=bench,
        layout=layout,
        data=data,
        cells=cells,
        stages=_stages(layout, cells),
        speed=speed,
        workers=config.run.workers or _default_workers(config, grids, models["base"], bench.device),
        most_fused=_most_fused(layout),
        notes=notes,
    )


def _most_fused(layout: Layout) -> int:
    """Return how many cells train in one forward: as many optimizer batches as the token budget holds."""
    config, means = layout.config, layout.data.info["mean_tokens"]["train"]
    row = means["prompt"] + means.get("chosen", 0.0) + means.get("rejected", 0.0)
    fits = int(layout.token_budget // (row * config.train.batch_size))
    return max(1, min(fits, config.run.fuse or fits))


def _stages(layout: Layout, cells: tuple[Cell, ...]) -> tuple[Stage, ...]:
    """Return all stages that can be named before the run, in dependency order."""
    starts = layout.starts()
    sft = [layout.sft(seed) for start, seed in starts if start == "sft" and seed is not None]
    references = [layout.reference(start, seed) for start, seed in starts]
    trains = [layout.train(cell) for cell in cells]
    searched = [t for t in trains if t.cell and len(layout.grids[t.cell.method].settings) > 1]
    final = [t for t in trains if t not in searched]
    return (
        *sft,
        *references,
        *trains,
        *(layout.validate(train) for train in searched),
        *(layout.evaluate_start(start, seed) for start, seed in starts),
        *(layout.evaluate(train) for train in final),
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
        model = AutoConfig.from_pretrained(models[name], trust_remote_code=source in allowed)
        context = getattr(model, "max_position_embeddings", None)
        if context is not None and longest > context:
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


def _check_kind(kind: str, grids: Mapping[str, MethodGrid], config: StudyConfig) -> None:
    """Refuse methods that the kind of data cannot feed, and a selection that it cannot decide.

    Raises:
        ConfigError: with the methods that can be used.
    """
    for name, grid in grids.items():
        roles = roles_of(grid.method)
        suits = {
            "paired": True,
            "unpaired": "rejected" in roles and not compares_pairs(grid.method.inputs),
            "sft": roles == ("chosen",),
        }[kind]
        if not suits:
            remedy = "unpaired data suits kto and bco_unpaired" if kind == "unpaired" else "demonstrations suit sft"
            raise ConfigError(f"methods.{name}: needs pairs of responses, but data.train is {kind}; {remedy}.")
        if kind == "sft" and len(grid.settings) > 1 and config.evaluate.reward is None:
            raise ConfigError(
                f"methods.{name}: its settings cannot be compared on demonstrations, which have no worse response; "
                "name one value each, or evaluate.reward."
            )


def _check_given(data: Mapping[str, Any], grids: Mapping[str, MethodGrid]) -> None:
    """Refuse methods that ask for a response or a score that some training rows do not have.

    Raises:
        ConfigError: with the column that gives it.
    """
    n, given = data["splits"]["train"], data["given"]["train"]
    for name, grid in grids.items():
        if "gold" in roles_of(grid.method) and given.get("gold", 0) < n:
            raise ConfigError(
                f"methods.{name}: needs a third response for every row, in a column gold; "
                f"{n - given.get('gold', 0)} of {n} training rows have none."
            )
        if reads_pair_scores(grid.method) and given["score"] < n:
            raise ConfigError(
                f"methods.{name}: needs columns score_chosen and score_rejected, with the higher score on the chosen "
                f"response; {n - given['score']} of {n} training rows have not. Take those rows out of the file."
            )


def _device(config: StudyConfig) -> str:
    if config.numeric.device != "auto":
        return config.numeric.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _default_workers(config: StudyConfig, grids: Mapping[str, MethodGrid], base: Path, device: str) -> int:
    """Return one worker per GPU, or per core as far as memory allows."""
    if device == "cuda":
        return torch.cuda.device_count()
    weights = sum(p.stat().st_size for p in base.glob("*.safetensors"))
    per_parameter = _BYTES_PER_PARAMETER["lora" if config.train.lora else "full"]
    if config.train.lora and any(needs_live_reference(grid.method) for grid in grids.values()):
        per_parameter += 4
    # Files hold two bytes a parameter at least; activations are bounded by the token budget.
    per_worker = weights / 2 * per_parameter + _ACTIVATION_BYTES
    fits = int(0.9 * psutil.virtual_memory().total / per_worker)
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count() or 1
    return max(1, min(cores // config.numeric.threads, fits))


def _token_budget(bench: Bench) -> int:
    base = bench.models["base"]
    return default_token_budget(AutoConfig.from_pretrained(base, trust_remote_code=bench.allows_code(base)))


def _probe(config: StudyConfig, bench: Bench, data: Artefact) -> Probe:
    means: Mapping[str, Any] = data.info["mean_tokens"]["train"]
    return Probe(
        model=bench.models["base"],
        dtype=bench.dtype,
        device=bench.device,
        threads=config.numeric.threads,
        lora=config.train.lora,
        # Powers of two, so that a few rows more do not cause another probe.
        mean_prompt=_power_of_two(means["prompt"]),
        mean_response=_power_of_two((means["chosen"] + means["rejected"]) / 2),
        batch_size=config.evaluate.batch_size,
        allow_remote_code=bench.allows_code(bench.models["base"]),
    )


def _power_of_two(value: float) -> int:
    return 1 << max(1, round(value) - 1).bit_length()

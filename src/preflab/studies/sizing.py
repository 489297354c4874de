"""How a study uses its machine: workers, flat tokens per forward, cells side by side; from what a probe measured."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from preflab.methods.needs import moves_reference, needs_live_reference
from preflab.store.artefacts import Artefact
from preflab.studies.bench import Bench
from preflab.studies.calibrate import Costs, Probe, measure
from preflab.studies.cells import MethodGrid
from preflab.studies.config import StudyConfig
from preflab.studies.schedule import recorded_budget
from preflab.studies.stages import Stage

_RECOMPUTE_COST = 4 / 3
"""One more forward beside a forward and a backward of twice its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What runs at a time.

    Args:
        costs: this machine on this model.
        token_budget: flat tokens per forward and backward of a worker.
        workers: processes that run jobs.
        most_fused: cells that may train in one forward.
        lora: whether cells train adapters on a start point that stays in memory.
        recompute: whether the longest row fits only when layers are computed again in the backward pass.
    """

    costs: Costs
    token_budget: int
    workers: int
    most_fused: int
    lora: bool
    recompute: bool

    def seconds(self, stage: Stage, beside: int = 1) -> float:
        """Return how long one worker will need for a stage.

        Args:
            stage: the stage.
            beside: cells that train in one forward with it, itself included.
        """
        work, costs = stage.work, self.costs
        kinds = ("reward_model", "leg", "train", "validate", "evaluate", "diagnose")
        keeps_model = self.lora and stage.kind in kinds
        return (
            (0.0 if keeps_model else costs.load_s)
            + work.train_passes * (costs.launch_s / max(1, beside) + costs.optimizer_s)
            + work.train_tokens * (_RECOMPUTE_COST if self.recompute else 1) / costs.train
            + work.score_tokens / costs.score
            + work.generate_tokens / costs.generate
        )

    @property
    def memory(self) -> float:
        """Bytes that a worker will hold at most."""
        return self.costs.memory(self.token_budget, self.most_fused)


def size_up(config: StudyConfig, grids: Mapping[str, MethodGrid], bench: Bench, data: Artefact, folder: Path) -> Sizing:
    """Measure the machine on the model, and decide; a study that ran before keeps its token budget."""
    costs = measure(_probe(config, bench, data), bench.cache)
    total = total_memory(bench.device)
    copies = max(_copies(grid, config, bench.device) for grid in grids.values())
    costs = replace(costs, fixed_bytes=costs.fixed_bytes + copies * _weight_bytes(bench))
    workers = config.run.workers or _default_workers(config, costs, total, bench.device)
    available = total if bench.device == "cuda" else total / workers
    budget = config.train.token_budget or recorded_budget(folder) or costs.token_budget(available)
    means = data.info["mean_tokens"]["train"]
    row = means["prompt"] + means.get("chosen", 0.0) + means.get("rejected", 0.0)
    # Only adapters train side by side; more of them than whole optimizer batches fit would take turns for nothing.
    batches = int(budget // (row * config.train.batch_size)) if config.train.lora else 1
    fits = min(batches, costs.cells_that_fit(available, budget))
    return Sizing(
        costs=costs,
        token_budget=budget,
        workers=workers,
        most_fused=max(1, min(fits, config.run.fuse or fits)),
        lora=config.train.lora is not None,
        recompute=not costs.fits(max(budget, data.info["longest"]["train"]), available),
    )


def _copies(grid: MethodGrid, config: StudyConfig, device: str) -> int:
    """Return how many models lie beside the one that a cell trains: a reference, a reward model, weights it keeps."""
    whole = config.train.lora is None
    reference = moves_reference(grid.method) or (whole and needs_live_reference(grid.method))
    judge = grid.method.is_online and config.online_reward == "model"
    return reference + judge + (grid.stops and whole and device == "cpu")


def _weight_bytes(bench: Bench) -> int:
    return sum(p.stat().st_size for p in bench.models["base"].glob("*.safetensors"))


def total_memory(device: str) -> float:
    """Return the bytes of the memory that workers share, or of one GPU."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(psutil.virtual_memory().total)


def _default_workers(config: StudyConfig, costs: Costs, total: float, device: str) -> int:
    """Return one worker per GPU, or per core as far as memory allows."""
    if device == "cuda":
        return torch.cuda.device_count()
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count() or 1
    return max(1, min(cores // config.numeric.threads, costs.workers_that_fit(total)))


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

"""What this machine takes on this model, in time and memory: a short probe, kept, that every estimate rests on."""

import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from preflab.core.ids import content_id
from preflab.models.load import weights_digest
from preflab.store.artefacts import write_json
from preflab.studies.config import LoraConfig
from preflab.studies.processes import clean_context
from preflab.studies.stages import SMALLEST_BUDGET

_BUDGETS = (1024, 4096, 16384)
"""Far apart, so that the noise of a probe seldom decides between two of them."""

_LAUNCH_SHARE, _CHEAP_LAUNCH_SHARE = 0.25, 0.05
"""Part of a pass that may go into starting operations, which a larger token budget spares, before that is worth its
memory; and before it is where the memory is hardly noticed."""

_CHEAP_MEMORY = 0.1
"""Part of a worker's memory that is hardly noticed."""

_SHARED = 0.15
"""Part of the machine that other programs may use during a probe whose times are trusted."""

_MEMORY_SHARE = 0.8
"""Part of the memory that workers may plan with; the rest is for the system and for what the probe did not see."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one worker takes on this machine, in time and memory.

    Args:
        train: flat tokens per second through forward and backward, without what each pass costs on top.
        launch_s: seconds of a forward and backward whatever their size.
        optimizer_s: seconds of an optimizer step.
        score: flat tokens per second through a forward.
        generate: new tokens per second, decoding a whole batch after its prompts were read (those count as scored).
        load_s: seconds to load the model.
        shares_prompts: whether the responses of a row share one copy of its prompt on this model.
        fixed_bytes: memory of a worker that trains one cell, before its first token.
        token_bytes: memory of a flat token between forward and backward.
        cell_bytes: memory of one more cell beside the first.
    """

    train: float
    launch_s: float
    optimizer_s: float
    score: float
    generate: float
    load_s: float
    shares_prompts: bool
    fixed_bytes: float
    token_bytes: float
    cell_bytes: float

    def memory(self, tokens: int, cells: int = 1) -> float:
        """Return the bytes of a worker that trains cells with so many tokens in flight."""
        return self.fixed_bytes + (cells - 1) * self.cell_bytes + tokens * self.token_bytes

    def token_budget(self, available: float) -> int:
        """Return how many flat tokens a forward and backward should hold.

        Args:
            available: bytes of memory for one worker.

        Returns:
            The smallest of a few at which starting operations hardly counts, as far as memory allows.
        """
        budget = _BUDGETS[0]
        for larger in _BUDGETS[1:]:
            cheap = self.memory(larger) <= _CHEAP_MEMORY * available
            share = self.launch_s / (self.launch_s + budget / self.train)
            if share <= (_CHEAP_LAUNCH_SHARE if cheap else _LAUNCH_SHARE):
                break
            budget = larger
        while budget > SMALLEST_BUDGET and not self.fits(budget, available):
            budget //= 2
        return budget

    def fits(self, tokens: int, available: float) -> bool:
        """Return whether so many tokens fit between a forward and its backward."""
        return self.memory(tokens) <= _MEMORY_SHARE * available

    def cells_that_fit(self, available: float, tokens: int) -> int:
        """Return how many cells may train side by side at a token budget."""
        room = _MEMORY_SHARE * available - self.memory(tokens)
        return max(1, 1 + int(room / self.cell_bytes))

    def workers_that_fit(self, available: float) -> int:
        """Return how many workers may run at a modest token budget."""
        return max(1, int(_MEMORY_SHARE * available / self.memory(1024)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What costs depend on besides the machine."""

    model: Path
    dtype: str
    device: str
    threads: int
    lora: LoraConfig | None
    mean_prompt: int
    mean_response: int
    batch_size: int
    allow_remote_code: bool


def measure(probe: Probe, cache: Path) -> Costs:
    """Return what this machine takes on this model, probing it for a few seconds when it is not known.

    Times taken beside other programs are kept only until the machine is quieter.
    """
    key = {
        "probe": 5,  # raised when a probe measures something else
        "machine": [platform.processor(), platform.machine(), psutil.cpu_count()],
        "torch": torch.__version__,
        "weights": weights_digest(probe.model),
        **{k: v for k, v in asdict(probe).items() if k not in ("model", "lora")},
        "lora": probe.lora and probe.lora.model_dump(mode="json"),
    }
    path = cache / "costs" / f"{content_id(key)[:20]}.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["others"] <= _SHARED or psutil.cpu_percent(interval=0.2) / 100 > kept["others"] / 2:
            return Costs(**kept["costs"])
    costs, others = _probed(probe)
    write_json(path, {"costs": asdict(costs), "others": others})
    return costs


def _probed(probe: Probe) -> tuple[Costs, float]:
    # In a process of its own: a probed model must not stay in the memory of the process that waits for the workers.
    with ProcessPoolExecutor(1, mp_context=clean_context()) as pool:
        return pool.submit(_measure, probe).result()


def _measure(probe: Probe) -> tuple[Costs, float]:
    """Return the costs, and the part of the machine that other programs used meanwhile."""
    from preflab.studies.probing import probe_costs

    began, before = time.perf_counter(), _others_s()
    costs = probe_costs(probe)
    seconds = time.perf_counter() - began
    return costs, max(0.0, _others_s() - before) / seconds / (psutil.cpu_count() or 1)


def _others_s() -> float:
    """Return the seconds that processors have worked for other processes than this one."""
    every, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return float(sum(every) - every.idle - getattr(every, "iowait", 0.0) - own.user - own.system)

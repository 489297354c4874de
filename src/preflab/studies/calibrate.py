"""How fast this machine is on this model: a short probe, kept per machine and model, that every estimate rests on."""

import json
import platform
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


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of one worker, and the seconds a stage spends before its first token.

    Args:
        train: flat tokens per second through forward, backward and step.
        score: flat tokens per second through a forward.
        generate: new tokens per second, decoding a whole batch after its prompts were read (those count as scored).
        load_s: seconds to load the model.
        shares_prompts: whether the responses of a row share one copy of its prompt on this model.
    """

    train: float
    score: float
    generate: float
    load_s: float
    shares_prompts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a speed depends on besides the machine."""

    model: Path
    dtype: str
    device: str
    threads: int
    lora: LoraConfig | None
    mean_prompt: int
    mean_response: int
    batch_size: int
    allow_remote_code: bool


def measure(probe: Probe, cache: Path) -> Speed:
    """Return the speed of this machine on this model, probing it for a few seconds when it is not known."""
    key = {
        "probe": 2,  # raised when a probe measures something else
        "machine": [platform.processor(), platform.machine(), psutil.cpu_count()],
        "torch": torch.__version__,
        "weights": weights_digest(probe.model),
        **{k: v for k, v in asdict(probe).items() if k not in ("model", "lora")},
        "lora": probe.lora and probe.lora.model_dump(mode="json"),
    }
    path = cache / "speed" / f"{content_id(key)[:20]}.json"
    if path.exists():
        return Speed(**json.loads(path.read_text(encoding="utf-8")))
    # In a process of its own: a probed model must not stay in the memory of the process that waits for the workers.
    with ProcessPoolExecutor(1, mp_context=clean_context()) as pool:
        speed = pool.submit(_measure, probe).result()
    write_json(path, asdict(speed))
    return speed


def _measure(probe: Probe) -> Speed:
    from preflab.studies.probing import probe_speed

    return probe_speed(probe)

"""How fast this machine is on this model: a short probe, kept per machine and model, that every estimate rests on."""

import json
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from transformers import PreTrainedModel

from preflab.core.ids import content_id
from preflab.data.examples import TokenRow
from preflab.methods import DPO
from preflab.models.load import load_model, quiet, weights_digest
from preflab.models.policies import LoraSettings, LoraStack, Policy, WholeModel
from preflab.sampling.generate import GenerationSettings, generate
from preflab.scoring.logps import prove, score, shares_prompts
from preflab.store.artefacts import write_json
from preflab.studies.config import LoraConfig
from preflab.studies.workers import clean_context
from preflab.train.lockstep import drive
from preflab.train.step import Given, gradient

_ROLES = ("chosen", "rejected")
_TOKENS = 1024
_NEW_TOKENS = 8


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
    quiet()
    torch.set_num_threads(probe.threads)
    began = time.perf_counter()
    model = load_model(probe.model, dtype=probe.dtype, device=probe.device, allow_remote_code=probe.allow_remote_code)
    load_s = time.perf_counter() - began
    prove(model)
    rows = _rows(probe, model.config.vocab_size)
    generated = _generate_speed(model, probe)
    tokens = sum(len(r.prompt) + sum(map(len, r.responses.values())) for r in rows)
    scored = tokens / _seconds(lambda: score(model, rows, _ROLES, budget=_TOKENS * 4))
    policy: Policy = WholeModel(model)
    if probe.lora is not None:
        policy = LoraStack.fresh(model, LoraSettings(**probe.lora.model_dump()), seeds=[0])
    references = {role: [np.full(len(r.responses[role]), -1.0, dtype=np.float32) for r in rows] for role in _ROLES}

    def step() -> None:
        drive(policy, {0: gradient(rows, Given(references=references), DPO, {"beta": 0.1}, budget=_TOKENS * 4)})

    train = tokens / _seconds(step)
    return Speed(train=train, score=scored, generate=generated, load_s=load_s, shares_prompts=shares_prompts(model))


def _generate_speed(model: PreTrainedModel, probe: Probe) -> float:
    generator = np.random.default_rng(0)
    n = min(probe.batch_size, 32)
    prompts = [generator.integers(0, model.config.vocab_size, 2) for _ in range(n)]
    settings = GenerationSettings(max_new_tokens=_NEW_TOKENS, batch_size=n, seed=0)

    def sample() -> None:
        # Without end tokens every prompt decodes to its full length.
        generate(model, prompts, [str(i) for i in range(n)], end_ids=[], pad_id=0, settings=settings)

    return n * _NEW_TOKENS / _seconds(sample)


def _rows(probe: Probe, vocabulary: int) -> list[TokenRow]:
    generator = np.random.default_rng(0)
    per_row = probe.mean_prompt + 2 * probe.mean_response
    return [
        TokenRow(
            i,
            generator.integers(0, vocabulary, probe.mean_prompt),
            {role: generator.integers(0, vocabulary, probe.mean_response) for role in _ROLES},
        )
        for i in range(max(1, _TOKENS // per_row))
    ]


def _seconds(action: Callable[[], object]) -> float:
    """Return the seconds of the second of two calls: the first one warms caches and allocators."""
    action()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began

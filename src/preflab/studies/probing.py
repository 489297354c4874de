"""The probe itself, in a process of its own: a few forwards, steps and decoded tokens on the model of the study."""

import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from preflab.data.examples import TokenRow
from preflab.methods import DPO
from preflab.models.load import load_model, quiet
from preflab.models.policies import LoraSettings, LoraStack, Policy, WholeModel
from preflab.sampling.generate import GenerationSettings, generate
from preflab.scoring.logps import prove, score, shares_prompts
from preflab.studies.calibrate import Probe, Speed
from preflab.train.lockstep import drive
from preflab.train.step import Given, gradient

_ROLES = ("chosen", "rejected")
_TOKENS = 1024
_NEW_TOKENS = 8


def probe_speed(probe: Probe) -> Speed:
    """Measure."""
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

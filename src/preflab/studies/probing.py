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
from preflab.scoring.flat import n_tokens
from preflab.scoring.logps import prove, score, shares_prompts
from preflab.scoring.memory import keep_memory, peak_bytes
from preflab.studies.calibrate import Costs, Probe
from preflab.train.lockstep import drive
from preflab.train.step import Given, gradient

_ROLES = ("chosen", "rejected")
_TOKENS = 1024
_NEW_TOKENS = 8
_ENOUGH_S = 0.25


def probe_costs(probe: Probe) -> Costs:
    """Train, score and decode a little; memory is read before anything but training has touched it."""
    quiet()
    torch.set_num_threads(probe.threads)
    keep_memory()
    began = time.perf_counter()
    model = load_model(probe.model, dtype=probe.dtype, device=probe.device, allow_remote_code=probe.allow_remote_code)
    load_s = time.perf_counter() - began
    prove(model)
    policy: Policy = WholeModel(model)
    if probe.lora is not None:
        policy = LoraStack.fresh(model, LoraSettings(**probe.lora.model_dump()), seeds=[0])
    parameters = list(policy.parameters(0).values())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, fused=True)
    rows = _rows(probe, model.config.vocab_size)
    few = rows[: max(1, len(rows) // 8)]

    def step(part: list[TokenRow]) -> None:
        known = {role: [np.full(len(r.responses[role]), -1.0, dtype=np.float32) for r in part] for role in _ROLES}
        drive(policy, {0: gradient(part, Given(references=known), DPO, {"beta": 0.1}, budget=10 * _TOKENS)})

    step(few)
    optimizer_s = _seconds(optimizer.step)  # its moments are part of the memory from here on
    small_s, small_bytes = _seconds(lambda: step(few)), peak_bytes(probe.device)
    large_s, large_bytes = _seconds(lambda: step(rows)), peak_bytes(probe.device)
    n_small, n_large = _count(few), _count(rows)
    token_s = max((large_s - small_s) / (n_large - n_small), large_s / n_large / 2)
    token_bytes = max(0.0, large_bytes - small_bytes) / (n_large - n_small)
    with policy.alone(0):
        scored = n_large / _seconds(lambda: score(model, rows, _ROLES, budget=10 * _TOKENS))
        generated = _generate_speed(model, probe)
    return Costs(
        train=1 / token_s,
        launch_s=max(0.0, small_s - n_small * token_s),
        optimizer_s=optimizer_s,
        score=scored,
        generate=generated,
        load_s=load_s,
        shares_prompts=shares_prompts(model),
        fixed_bytes=small_bytes - n_small * token_bytes,
        token_bytes=token_bytes,
        # Values, gradients and the two moments of AdamW.
        cell_bytes=float(sum(4 * p.numel() * p.element_size() for p in parameters)),
    )


def _count(rows: list[TokenRow]) -> int:
    return sum(n_tokens(row, _ROLES) for row in rows)


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
        for i in range(max(2, _TOKENS // per_row))
    ]


def _seconds(action: Callable[[], object]) -> float:
    """Return the seconds of the fastest of a few calls; the first one warms caches and allocators."""
    action()
    seconds: list[float] = []
    while len(seconds) < 5 and sum(seconds) < _ENOUGH_S:
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return min(seconds)

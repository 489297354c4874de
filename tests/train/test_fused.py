"""Cells that train side by side equal the same cells alone."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.tiny import CONFIGS, random_rows, tiny_model, train_settings

from preflab.core.errors import RunError
from preflab.methods import BCO, DPO, IPO, KTO, NCA, SFT, SIMPO, TDPO2, TR_DPO, leaves
from preflab.methods.needs import needs_live_reference
from preflab.models.policies import LoraSettings, LoraStack
from preflab.scoring.flat import flatten
from preflab.scoring.logps import score, token_logps
from preflab.train.cell import Task
from preflab.train.loop import Hooks, Interrupted, train
from preflab.train.stopping import EarlyStop

ROLES = ("chosen", "rejected", "mismatched")
ROWS = random_rows(12, roles=ROLES)
MONITOR = random_rows(3, seed=9)
LORA = LoraSettings(r=4, alpha=8.0, target_modules="all-linear")
SETTINGS = train_settings(epochs=13, batch_size=3, learning_rate=3e-3, max_grad_norm=0.5)
CELLS = [
    # Another method, size, seed, learning rate, clipping or micro-batch in every cell; two of them are alike.
    (DPO, {}, {}, (4, 12), 0),
    (DPO, {"beta": 0.5}, {}, (4, 12), 0),
    (IPO, {}, {"learning_rate": 1e-3}, (12,), 1),
    (KTO, {}, {"token_budget": 30}, (4, 12), 0),
    (SIMPO, {}, {"max_grad_norm": 0.0}, (4,), 2),
    (SFT, {}, {"epochs": 3}, (4, 12), 0),
    (NCA, {}, {}, (4, 12), 0),
    (BCO, {}, {}, (4, 12), 0),
    (TDPO2, {}, {}, (4, 12), 0),
    (TR_DPO, {"tau": 4.0}, {}, (4, 12), 0),
    (DPO, {}, {}, (4, 12), 0),
]


def stack(cells, dtype, name="llama"):
    return LoraStack.fresh(tiny_model(name, dtype=dtype), LORA, seeds=[seed for *_, seed in cells])


def tasks(cells, policy, dtype, name="llama"):
    start = tiny_model(name, dtype=dtype).requires_grad_(False)
    references = score(start, ROWS, ROLES, budget=1000)
    for method, hyperparameters, changed, blocks, seed in cells:
        live = None
        if needs_live_reference(method):
            moves = any(leaf.quantity == "moving_reference" for leaf in leaves(method.inputs))
            live = tiny_model(name, dtype=dtype).requires_grad_(False) if moves else policy.model
        yield Task(
            method=method,
            hyperparameters=dataclasses.asdict(method.hyperparameters(**hyperparameters)),
            rows=ROWS[: blocks[-1]],
            references={role: values[: blocks[-1]] for role, values in references.items()},
            live_reference=live,
            blocks=blocks,
            seed=seed,
            monitor=MONITOR,
            settings=dataclasses.replace(SETTINGS, **changed),
        )


def hooks(stop_after=None):
    seen = []
    return Hooks(
        progress=lambda step, steps: seen.append(step),
        should_stop=lambda: stop_after is not None and len(seen) >= stop_after,
        checkpoint_every_s=1e9,
    )


def run(cells, folder, dtype=torch.float64, stop_after=None, name="llama"):
    policy = stack(cells, dtype, name)
    folders = [folder / str(i) for i in range(len(cells))]
    ended = train(policy, list(tasks(cells, policy, dtype, name)), folders, hooks(stop_after))
    return policy, ended


def vector(policy, cell=0):
    return policy.parameters(cell)["adapter"].detach()


@pytest.mark.parametrize("cells", [CELLS, CELLS[:3]], ids=["any mix", "three"])
def test_a_fused_cell_equals_its_solo_run_over_fifty_steps(cells, tmp_path):
    policy, ended = run(cells, tmp_path / "fused")
    assert max(progress.step for progress in ended) >= 50
    for i, cell in enumerate(cells):
        alone, (progress,) = run([cell], tmp_path / f"alone{i}")
        assert float((vector(policy, i) - vector(alone)).abs().max()) < 1e-8, cell[0].name
        assert [r["step"] for r in ended[i].log] == [r["step"] for r in progress.log]
        for ours, theirs in zip(ended[i].log + ended[i].monitor, progress.log + progress.monitor, strict=True):
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                assert value is theirs[key] or value == pytest.approx(theirs[key], rel=1e-7, abs=1e-8), key


def test_in_float32_a_fused_cell_differs_as_a_solo_run_with_other_micro_batches_does(tmp_path):
    """Three times the distance between two solo runs that differ only in summation order."""
    policy, _ = run(CELLS[:3], tmp_path / "fused", torch.float32)
    for i, (method, hyper, changed, blocks, seed) in enumerate(CELLS[:3]):
        alone = vector(run([CELLS[i]], tmp_path / f"a{i}", torch.float32)[0])
        orders = [
            vector(
                run(
                    [(method, hyper, {**changed, "token_budget": n}, blocks, seed)],
                    tmp_path / f"b{i}-{n}",
                    torch.float32,
                )[0]
            )
            for n in (1, 30)
        ]
        distance = max(float((other - alone).norm()) for other in orders)
        assert float((vector(policy, i) - alone).norm()) <= 3 * distance


@pytest.mark.parametrize("name", ["gpt2", "gemma2_softcap"])
def test_other_architectures_fuse_too(name, tmp_path):
    cells = [(DPO, {}, {"epochs": 2}, (12,), 0), (SIMPO, {}, {"epochs": 2}, (4, 12), 1)]
    policy, _ = run(cells, tmp_path / "fused", name=name)
    for i, cell in enumerate(cells):
        alone, _ = run([cell], tmp_path / f"alone{i}", name=name)
        assert float((vector(policy, i) - vector(alone)).abs().max()) < (1e-4 if "gemma" in name else 1e-8)


def test_rows_that_cannot_share_prompts_fuse_too(tmp_path, monkeypatch):
    monkeypatch.setattr("preflab.scoring.logps.shares_prompts", lambda model: False)
    policy, _ = run(CELLS[:3], tmp_path / "fused")
    monkeypatch.undo()
    for i, cell in enumerate(CELLS[:3]):
        alone, _ = run([cell], tmp_path / f"alone{i}")
        assert float((vector(policy, i) - vector(alone)).abs().max()) < 1e-8


def test_adapters_train_on_a_base_in_bfloat16(tmp_path):
    """Their values and gradients stay float32; losses are those of float32 up to the rounding of bfloat16."""
    cells = [(DPO, {}, {"epochs": 2}, (12,), 0), (SIMPO, {}, {"epochs": 2}, (12,), 1)]
    policy, ended = run(cells, tmp_path / "half", torch.bfloat16)
    _, expected = run(cells, tmp_path / "single", torch.float32)
    for cell in range(2):
        assert vector(policy, cell).dtype == torch.float32
        losses = [[record["loss"] for record in how[cell].log] for how in (ended, expected)]
        assert losses[0] == pytest.approx(losses[1], rel=0.1, abs=0.1) and len(losses[0]) == 8


def test_a_model_has_its_own_layers_back_when_a_stack_is_closed():
    model = tiny_model()
    before = dict(model.named_modules())
    for _ in range(2):
        policy = LoraStack.fresh(model, LORA, seeds=[0, 1])
        assert dict(model.named_modules()).keys() != before.keys()
        policy.close()
        assert dict(model.named_modules()) == before


def test_a_cell_that_diverges_is_cut_out_and_its_neighbours_do_not_change(tmp_path):
    wild = (DPO, {}, {"learning_rate": 1e200, "max_grad_norm": 0.0}, (4, 12), 0)
    policy, ended = run([CELLS[0], wild, CELLS[2]], tmp_path / "fused")
    assert ended[1].diverged is not None and 0 < ended[1].step < 10 and len(ended[1].log) == ended[1].step
    for i, cell in ((0, CELLS[0]), (2, CELLS[2])):
        alone, _ = run([cell], tmp_path / f"alone{i}")
        assert ended[i].diverged is None
        assert float((vector(policy, i) - vector(alone)).abs().max()) < 1e-8


def test_a_cell_with_a_wrong_reference_fails_alone(tmp_path):
    policy = stack(CELLS[:2], torch.float64)
    right, wrong = tasks(CELLS[:2], policy, torch.float64)
    other = score(tiny_model(seed=1), ROWS, ROLES, budget=1000)
    wrong = dataclasses.replace(wrong, references=other)
    ended = train(policy, [right, wrong], [tmp_path / "0", tmp_path / "1"], hooks())
    assert ended[0].step == 52 and isinstance(ended[1], RunError)


def test_cells_that_stop_early_beside_others_keep_what_they_would_alone(tmp_path):
    """One ends long before its neighbours, one looks at every evaluation to the end, one does not stop."""
    changed = {"learning_rate": 3e-2, "monitor_points": 27}
    stops = (EarlyStop(2), EarlyStop(None), None)
    cells = [(DPO, {}, changed, (4, 12), 0), (DPO, {"beta": 0.5}, changed, (12,), 1), (IPO, {}, {}, (12,), 1)]

    def ended(chosen, folder):
        policy = stack([cells[i] for i in chosen], torch.float64)
        made = tasks([cells[i] for i in chosen], policy, torch.float64)
        made = [dataclasses.replace(task, stop=stops[i]) for i, task in zip(chosen, made, strict=True)]
        return policy, train(policy, made, [folder / str(i) for i in chosen], hooks())

    policy, together = ended((0, 1, 2), tmp_path / "fused")
    assert together[0].step < together[1].step == together[2].step == 52
    assert together[1].kept_step < 52 and together[2].kept_step is None
    for i in range(3):
        alone, (progress,) = ended((i,), tmp_path / "alone")
        assert (progress.step, progress.kept_step) == (together[i].step, together[i].kept_step)
        assert float((vector(policy, i) - vector(alone)).abs().max()) < 1e-8


def test_a_group_that_was_stopped_equals_the_uninterrupted_one_bit_for_bit(tmp_path):
    whole, expected = run(CELLS[:6], tmp_path / "whole", torch.float32)
    for stop in (2, 9, 14):
        with pytest.raises(Interrupted):
            run(CELLS[:6], tmp_path / "parts", torch.float32, stop_after=stop)
    resumed, found = run(CELLS[:6], tmp_path / "parts", torch.float32)
    for i in range(6):
        assert torch.equal(vector(whole, i), vector(resumed, i))
        assert dataclasses.replace(found[i], seconds=0.0) == dataclasses.replace(expected[i], seconds=0.0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_adapter_is_what_peft_loads(name, tmp_path):
    policy = stack(CELLS[:3], torch.float64, name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for cell in range(3):
            parameter = policy.parameters(cell)["adapter"]
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    policy.save(1, tmp_path)
    batch = flatten(ROWS, ROLES)
    with torch.no_grad(), policy.rows({1: batch.n_tokens}):
        ours = token_logps(policy.model, batch)
    with torch.no_grad():
        base = token_logps(policy.model, batch)
        peft = token_logps(PeftModel.from_pretrained(tiny_model(name), tmp_path).eval().get_base_model(), batch)
        torch.testing.assert_close(base, token_logps(tiny_model(name), batch), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(ours, peft, atol=1e-9, rtol=1e-9)
    assert not torch.allclose(ours, base)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
    assert all(k.startswith("base_model.model.") for k in load_file(tmp_path / "adapter_model.safetensors"))
    assert np.all([p.stat().st_mode & 0o044 for p in tmp_path.iterdir()])

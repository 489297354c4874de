import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from tests.tiny import random_rows, tiny_model, train_settings

from preflab.core.errors import RunError
from preflab.methods import BCO, BETA_DPO, DPO, KTO, SAMPO, SIMPO, TDPO2, TR_DPO, n_states
from preflab.methods.needs import needs_live_reference
from preflab.models.adapters import load_adapter, merge
from preflab.models.policies import LoraSettings, LoraStack, WholeModel
from preflab.models.stacked import StackedLinear
from preflab.scoring.logps import score
from preflab.train.cell import Task, monitor_steps
from preflab.train.loop import Hooks, Interrupted
from preflab.train.loop import train as train_cells
from preflab.train.optimize import clip, learning_rate
from preflab.train.source import batch_rows, epoch_order, n_steps, nested_order
from preflab.train.stopping import EarlyStop, best_step

ROLES = ("chosen", "rejected", "mismatched")
ROWS = random_rows(10, roles=ROLES)
MONITOR = random_rows(3, seed=9)


def make_task(method=DPO, *, seed=0, reference_seed=0, changed=None, **settings):
    references = score(tiny_model(dtype=torch.float32, seed=reference_seed), ROWS, ROLES, budget=1000)
    live = tiny_model(dtype=torch.float32, seed=reference_seed).requires_grad_(False)
    return Task(
        method=method,
        hyperparameters=dataclasses.asdict(method.hyperparameters(**(changed or {}))),
        rows=ROWS,
        references=references,
        live_reference=live if needs_live_reference(method) else None,
        blocks=(4, 10),
        seed=seed,
        monitor=MONITOR,
        settings=train_settings(**{"warmup_frac": 0.25, **settings}),
    )


def hooks(stop_after=None, checkpoint_every_s=1e9):
    seen = []

    def progress(step, steps):
        seen.append(step)

    return Hooks(
        progress=progress,
        should_stop=lambda: stop_after is not None and len(seen) >= stop_after,
        checkpoint_every_s=checkpoint_every_s,
    )


LORA = LoraSettings(r=4, alpha=8.0, target_modules="all-linear")


def policy(lora, seeds=(3,), **model):
    base = tiny_model(**{"dtype": torch.float32, **model})
    return LoraStack.fresh(base, LORA, seeds=seeds) if lora else WholeModel(base)


def train(trained, task, folder, hooks):
    """Train a single cell."""
    (ended,) = train_cells(trained, [task], [folder], hooks)
    if isinstance(ended, Exception):
        raise ended
    return ended


def weights(trained, cell=0):
    return {name: p.detach().clone() for name, p in trained.parameters(cell).items()}


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("method", "changed"),
    [(DPO, {}), (KTO, {}), (BCO, {}), (BETA_DPO, {}), (SAMPO, {}), (TDPO2, {}), (TR_DPO, {"tau": 2.0})],
    ids=["plain", "unpaired", "state", "state and draws", "draws", "whole distributions", "moving reference"],
)
def test_a_run_stopped_three_times_equals_the_uninterrupted_run_bit_for_bit(method, changed, lora, tmp_path):
    whole = policy(lora)
    expected = train(whole, make_task(method, changed=changed), tmp_path / "whole", hooks())
    for _ in range(3):
        with pytest.raises(Interrupted):
            train(policy(lora), make_task(method, changed=changed), tmp_path / "parts", hooks(stop_after=1))
    resumed = policy(lora)
    found = train(resumed, make_task(method, changed=changed), tmp_path / "parts", hooks())
    assert bool(found.state) == (n_states(method.inputs) > 0)
    assert dataclasses.replace(found, seconds=0.0) == dataclasses.replace(expected, seconds=0.0)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


@torch.no_grad()
def likeliest(model):
    """Return a record that every change of the weights changes."""
    logits = model(input_ids=torch.tensor([[3, 1, 2]])).logits[0, -1]
    return [{"row": 0, "first": int(logits.argmax()), "value": float(logits.double().sum())}]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_answers_on_the_way_change_nothing_and_survive_a_stop(lora, tmp_path):
    plain = policy(lora)
    expected = train(plain, make_task(monitor_points=4), tmp_path / "plain", hooks())
    task = dataclasses.replace(make_task(monitor_points=4), answer=likeliest)
    watched = policy(lora)
    found = train(watched, task, tmp_path / "watched", hooks())
    on_the_way = sorted(monitor_steps(task.blocks, task.settings) - {0, 6})
    assert [record["step"] for record in found.snapshots] == on_the_way
    assert len({record["value"] for record in found.snapshots}) == len(on_the_way) > 1
    assert dataclasses.replace(found, snapshots=[], seconds=0.0) == dataclasses.replace(expected, seconds=0.0)
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(watched)[name]), name
    with pytest.raises(Interrupted):
        train(policy(lora), task, tmp_path / "parts", hooks(stop_after=4))
    assert train(policy(lora), task, tmp_path / "parts", hooks()).snapshots == found.snapshots


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_reference_that_is_copied_at_every_step_is_the_policy(lora, tmp_path):
    """The loss stays at log 2, also where the policy is an adapter."""
    changed = {"alpha": 1.0, "tau": 1.0}
    log = train(policy(lora), make_task(TR_DPO, changed=changed), tmp_path, hooks()).log
    assert [record["loss"] for record in log] == pytest.approx([math.log(2)] * 6, abs=1e-5)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_moving_reference_is_the_mixture_of_weights(lora, tmp_path):
    trained = policy(lora)
    with torch.no_grad():
        for parameter in trained.parameters(0).values():
            parameter += 0.1
    target = tiny_model(dtype=torch.float32, seed=5)
    before = {name: p.detach().clone() for name, p in target.named_parameters()}
    trained.mix_into(target, 0, 0.25)
    trained.save(0, tmp_path)
    start = tiny_model(dtype=torch.float32)
    merged = (merge(load_adapter(start, tmp_path)) if lora else trained.model).state_dict()
    for name, parameter in target.named_parameters():
        torch.testing.assert_close(parameter, 0.75 * before[name] + 0.25 * merged[name])


def test_a_damaged_checkpoint_is_not_used(tmp_path):
    with pytest.raises(Interrupted):
        train(policy(False), make_task(), tmp_path, hooks(stop_after=2))
    (checkpoint,) = tmp_path.glob("step-*")
    data = bytearray((checkpoint / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (checkpoint / "weights.safetensors").write_bytes(bytes(data))
    assert len(train(policy(False), make_task(), tmp_path, hooks()).log) == 6  # from the start, not from the damage


def test_training_lowers_the_loss_on_eight_pairs(tmp_path):
    log = train(policy(False), make_task(epochs=20, schedule="constant"), tmp_path, hooks()).log
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert np.mean([r["loss"] for r in log[-3:]]) < 0.1


def test_seeds_change_data_order_and_adapters():
    orders = [epoch_order((4, 10), seed=s, epoch=0).tolist() for s in (0, 1)]
    assert orders[0] != orders[1]
    stack = policy(True, seeds=(0, 1, 0))
    first, other, again = (weights(stack, cell)["adapter"] for cell in range(3))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first, weights(policy(True, seeds=(0,)))["adapter"])
    assert all(not layer.b.any() for layer in stack.model.modules() if isinstance(layer, StackedLinear))


def test_a_smaller_size_is_the_beginning_of_the_larger_one():
    small, large = epoch_order((4,), seed=5, epoch=0), epoch_order((4, 10), seed=5, epoch=0)
    assert large[:4].tolist() == small.tolist()
    assert sorted(large.tolist()) == list(range(10))
    assert nested_order(10, data_seed=0).tolist() != nested_order(10, data_seed=1).tolist()


def test_batches_visit_every_row_once_per_epoch():
    steps = n_steps(10, batch_size=4, epochs=2)
    assert steps == 6
    rows = [batch_rows(step, (10,), batch_size=4, seed=0).tolist() for step in range(steps)]
    assert sorted(itertools.chain(*rows[:3])) == sorted(itertools.chain(*rows[3:])) == list(range(10))
    assert rows[:3] != rows[3:]


def test_a_reference_of_another_model_is_refused_at_step_zero(tmp_path):
    with pytest.raises(RunError, match=r"at policy = reference it must be 0\.693147"):
        train(policy(False), make_task(reference_seed=1), tmp_path, hooks())


def test_reference_free_methods_do_not_mind_the_reference(tmp_path):
    assert train(policy(False), make_task(SIMPO, reference_seed=1), tmp_path, hooks()).step == 6


def test_a_learning_rate_that_explodes_ends_as_diverged(tmp_path):
    run = train(policy(False), make_task(learning_rate=1e30, max_grad_norm=0.0, epochs=10), tmp_path, hooks())
    assert run.diverged is not None and 0 < run.step < 30
    assert len(run.log) == run.step and run.log[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)


def test_monitoring_has_the_first_and_the_last_step(tmp_path):
    monitor = train(policy(False), make_task(), tmp_path, hooks()).monitor
    assert sorted({r["step"] for r in monitor}) == [0, 3, 6]
    assert monitor_steps((7,), train_settings(epochs=1, batch_size=1, monitor_points=3)) == {0, 4, 7}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        # The warm-up of the run of three steps; the decay takes the last half: 1 - sqrt(0/3), 1 - sqrt(1/3), ...
        ("wsd", [1, 1, 1, 1, 1 - (1 / 3) ** 0.5, 1 - (2 / 3) ** 0.5]),
    ],
)
def test_schedules(schedule, expected):
    decay = 0.5 if schedule == "wsd" else None
    settings = train_settings(learning_rate=1.0, schedule=schedule, warmup_frac=0.3, decay_frac=decay)
    assert [learning_rate(s, 6, settings, smallest=3) for s in range(6)] == pytest.approx(expected)


def test_cosine_is_half_way_in_the_middle_and_zero_at_the_end():
    settings = train_settings(learning_rate=1.0, warmup_frac=0.0)
    assert learning_rate(50, 100, settings, smallest=1) == pytest.approx(0.5)
    assert learning_rate(100, 100, settings, smallest=1) == pytest.approx(0.0)


@pytest.mark.parametrize("method", [DPO, TR_DPO, BCO], ids=lambda method: method.name)
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_sizes_that_share_steps_end_as_if_each_was_trained_alone(method, lora, tmp_path):
    settings = {"schedule": "wsd", "decay_frac": 0.4, "batch_size": 1, "epochs": 1, "monitor_points": 3}

    def run(name, blocks, **task):
        made = policy(lora)
        task = dataclasses.replace(make_task(method, **settings), rows=ROWS[: blocks[-1]], blocks=blocks, **task)
        progress = train(made, task, tmp_path / name, hooks())
        return weights(made), progress

    alone = {blocks: run(f"alone{blocks[-1]}", blocks) for blocks in ((4,), (4, 7), (4, 7, 10))}
    run("leg2", (4,), until=2)
    run("leg4", (4, 7), until=4, origin=tmp_path / "leg2")
    shared = {
        (4,): run("4", (4,), origin=tmp_path / "leg2"),
        (4, 7): run("7", (4, 7), origin=tmp_path / "leg4"),
        (4, 7, 10): run("10", (4, 7, 10), origin=tmp_path / "leg4"),
    }
    for blocks, (expected, progress) in alone.items():
        found, continued = shared[blocks]
        assert all(torch.equal(found[name], value) for name, value in expected.items()), blocks
        assert progress.log == continued.log and progress.monitor == continued.monitor
        assert len(progress.log) == blocks[-1]


def test_clipping_scales_to_the_norm_and_reports_the_one_before():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert float(clip([parameter], 1.0)) == pytest.approx(5.0)
    assert float(parameter.grad.norm()) == pytest.approx(1.0, rel=1e-5)
    parameter.grad = torch.tensor([3.0, 4.0])
    clip([parameter], 0.0)
    assert float(parameter.grad.norm()) == pytest.approx(5.0)


def falling(patience, **settings):
    """Return a run at a learning rate that lowers the chosen responses after a rise, evaluated at every step."""
    task = make_task(learning_rate=3e-2, epochs=4, batch_size=2, monitor_points=21, **settings)
    return dataclasses.replace(task, stop=EarlyStop(patience))


def chosen_means(progress):
    records = pd.DataFrame(progress.monitor)
    return records.groupby("step")["chosen_total"].mean()


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_early_stopping_keeps_the_weights_of_the_best_evaluation(lora, tmp_path):
    """With endless patience the run is the one without it, and what is kept is what a run that ends there has."""
    plain, kept = policy(lora), policy(lora)
    expected = train(plain, dataclasses.replace(falling(None), stop=None), tmp_path / "plain", hooks())
    found = train(kept, falling(None), tmp_path / "kept", hooks())
    means = chosen_means(found)
    assert found.kept_step == means.drop(0).idxmax() and 0 < found.kept_step < found.step == 20
    assert dataclasses.replace(found, seconds=0.0, kept_step=None) == dataclasses.replace(expected, seconds=0.0)
    assert all(not torch.equal(value, weights(kept)[name]) for name, value in weights(plain).items())
    until = policy(lora)
    train(until, dataclasses.replace(falling(None), stop=None, until=found.kept_step), tmp_path / "until", hooks())
    assert all(torch.equal(value, weights(kept)[name]) for name, value in weights(until).items())


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_run_ends_when_its_patience_does(lora, tmp_path):
    endless = train(policy(lora), falling(None), tmp_path / "endless", hooks())
    for patience in (1, 3):
        found = train(policy(lora), falling(patience), tmp_path / str(patience), hooks())
        means = chosen_means(found)
        assert found.kept_step == means.drop(0).idxmax() and found.step == found.kept_step + patience
        assert found.log == endless.log[: found.step]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_run_that_stops_early_and_was_killed_ends_with_the_same_bits(lora, tmp_path):
    whole, resumed = policy(lora), policy(lora)
    expected = train(whole, falling(3), tmp_path / "whole", hooks())
    # Once before the best evaluation, and once behind it: then the kept weights come from a checkpoint.
    for steps in (expected.kept_step - 1, 2):
        with pytest.raises(Interrupted):
            train(policy(lora), falling(3), tmp_path / "parts", hooks(stop_after=steps))
    found = train(resumed, falling(3), tmp_path / "parts", hooks())
    assert dataclasses.replace(found, seconds=0.0) == dataclasses.replace(expected, seconds=0.0)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_a_leg_hands_on_where_a_run_stands_and_keeps_its_best(tmp_path):
    whole, leg, rest = policy(True), policy(True), policy(True)
    expected = train(whole, falling(3), tmp_path / "whole", hooks())
    until = expected.kept_step + 1
    first = train(leg, dataclasses.replace(falling(3), until=until), tmp_path / "leg", hooks())
    assert first.kept_step == expected.kept_step and first.step == until < expected.step
    assert torch.equal(weights(leg)["adapter"], weights(whole)["adapter"])
    found = train(rest, dataclasses.replace(falling(3), origin=tmp_path / "leg"), tmp_path / "rest", hooks())
    assert dataclasses.replace(found, seconds=0.0) == dataclasses.replace(expected, seconds=0.0)
    assert torch.equal(weights(rest)["adapter"], weights(whole)["adapter"])


def test_a_run_that_diverges_after_its_best_evaluation_stays_diverged(tmp_path):
    task = dataclasses.replace(make_task(learning_rate=1e30, max_grad_norm=0.0, epochs=10), stop=EarlyStop(None))
    assert train(policy(False), task, tmp_path, hooks()).diverged is not None


def test_the_best_step_is_the_first_of_ties_and_never_the_start():
    def monitor(*means):
        return [{"step": 5 * i, "chosen_total": m + d} for i, m in enumerate(means) for d in (-1.0, 1.0)]

    assert best_step(monitor(-1.0)) is None
    assert best_step(monitor(-1.0, -3.0, -2.0, -2.0)) == 10
    assert best_step([*monitor(-1.0, -3.0), {"step": 5, "chosen_total": None}]) == 5
    assert not EarlyStop(1).is_over(monitor(-1.0), None)
    assert [EarlyStop(2).is_over(monitor(0.0, -3.0, *[-4.0] * n), 5) for n in (0, 1, 2)] == [False, False, True]
    with pytest.raises(RunError, match="no validation row"):
        best_step([{"step": 0, "chosen_total": None}])

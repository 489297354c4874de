"""The policy's own answers: which step learns from which, stopping in the middle of them, and cells side by side."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import VOCABULARY, random_rows, tiny_model, train_settings

from preflab.data.examples import SAMPLED
from preflab.evals.value_heads import RewardModel, read_at_end
from preflab.methods import BRADLEY_TERRY, DPO, GRPO, PPO, RLOO, find
from preflab.methods.needs import needs_values, passes_of
from preflab.models.policies import LoraSettings, LoraStack, WholeModel, WithValues
from preflab.sampling.generate import GenerationSettings, generate
from preflab.scoring.logps import score
from preflab.train.cell import Task
from preflab.train.loop import Hooks, Interrupted, train
from preflab.train.rollout import Online, Rollout, place_of

ROWS = random_rows(10)
MONITOR = random_rows(3, seed=9)
LORA = LoraSettings(r=4, alpha=8.0, target_modules="all-linear")
END = 1
WANTED = 7


def wanted(rows, answers):
    """Reward the share of even tokens among the first four."""
    return [{"reward": float((answer.tokens[:4] % 2 == 0).mean()), "gold": None} for answer in answers]


def online(seed=0, *, samples=4, size=4, judge=wanted, n=6):
    settings = GenerationSettings(max_new_tokens=n, batch_size=64, seed=seed)

    def answer(model, rows, keys):
        return generate(model, [r.prompt for r in rows], keys, end_ids=[END], pad_id=0, settings=settings)

    return Online(samples=samples, round=size, answer=answer, judge=judge)


def hooks(stop_after=None):
    seen = []
    return Hooks(
        progress=lambda step, steps: seen.append(step),
        should_stop=lambda: stop_after is not None and len(seen) >= stop_after,
        checkpoint_every_s=1e9,
    )


CELLS = [
    (PPO, {"passes": 3}, {}, 0),
    (GRPO, {"passes": 2}, {"size": 8}, 0),
    (RLOO, {}, {"samples": 3}, 1),
    (find("online_dpo"), {}, {"size": 8}, 0),
    (DPO, {}, {}, 0),
]


def run(cells, folder, *, lora=True, dtype=torch.float64, stop_after=None, judge=wanted, **settings):
    base, start = tiny_model(dtype=dtype), tiny_model(dtype=dtype).requires_grad_(False)
    policy = LoraStack.fresh(base, LORA, seeds=[seed for *_, seed in cells]) if lora else WholeModel(base)
    policy = WithValues(policy, [i for i, cell in enumerate(cells) if needs_values(cell[0])])
    references = score(start, ROWS, ("chosen", "rejected"), budget=1000)
    tasks = [
        Task(
            method=method,
            hyperparameters=dataclasses.asdict(method.hyperparameters(**changed)),
            rows=ROWS,
            references={} if method.is_online else references,
            live_reference=(policy.model if lora else start) if method.is_online else None,
            online=online(seed, **{"judge": judge, **own}) if method.is_online else None,
            blocks=(4, 10),
            seed=seed,
            monitor=MONITOR,
            settings=train_settings(**{"learning_rate": 1e-2, "batch_size": 4, "epochs": 2, **settings}),
        )
        for method, changed, own, seed in cells
    ]
    return policy, train(policy, tasks, [folder / str(i) for i in range(len(cells))], hooks(stop_after))


def weights(policy, cell=0):
    return {name: p.detach().clone() for name, p in policy.parameters(cell).items()}


@given(
    n=st.integers(1, 40), batch=st.integers(1, 9), batches=st.integers(1, 4), passes=st.integers(1, 4),
    epochs=st.integers(1, 3),
)  # fmt: skip
def test_every_prompt_is_used_as_often_as_there_are_passes_and_rounds_follow_one_another(
    n, batch, batches, passes, epochs
):
    steps = epochs * passes * -(-n // batch)
    places = [place_of(s, n, round_size=batch * batches, batch_size=batch, passes=passes) for s in range(steps)]
    assert [p.round for p in places] == sorted(p.round for p in places)
    for epoch in range(epochs):
        own = [p for p in places if p.epoch == epoch]
        used = [range(n)[p.prompts][p.batch] for p in own]
        assert all(0 < len(prompts) <= batch for prompts in used)
        assert np.bincount([i for prompts in used for i in prompts], minlength=n).tolist() == [passes] * n
    first = {p.round: p.prompts.start for p in places}
    assert all(p.prompts.start == first[p.round] for p in places)


@pytest.mark.parametrize("cell", CELLS[:4], ids=[cell[0].name for cell in CELLS[:4]])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_run_stopped_in_the_middle_of_a_round_ends_with_the_same_bits(cell, lora, tmp_path):
    whole, (there,) = run([cell], tmp_path / "whole", lora=lora)
    for stop in (2, 1):
        with pytest.raises(Interrupted):
            run([cell], tmp_path / "parts", lora=lora, stop_after=stop)
    again, (here,) = run([cell], tmp_path / "parts", lora=lora)
    assert here.step == there.step == 2 * 3 * passes_of(cell[0], cell[1])
    assert all(torch.equal(mine, weights(whole)[name]) for name, mine in weights(again).items())
    assert here.answers == there.answers and len(here.answers) == 2 * 10 * cell[2].get("samples", 4)
    assert [r["loss"] for r in here.log] == [r["loss"] for r in there.log]


def test_cells_that_learn_from_own_answers_equal_their_solo_runs_beside_others(tmp_path):
    policy, together = run(CELLS, tmp_path / "fused")
    for i, cell in enumerate(CELLS):
        alone, (solo,) = run([cell], tmp_path / f"alone{i}")
        for name, value in weights(policy, i).items():
            assert float((value - weights(alone)[name]).abs().max()) < 1e-8, cell[0].name
        assert [r["reward"] for r in together[i].answers] == [r["reward"] for r in solo.answers]


@pytest.mark.parametrize("cell", CELLS[:4], ids=[cell[0].name for cell in CELLS[:4]])
def test_the_reward_rises(cell, tmp_path):
    method, changed, own, seed = cell
    tie = {"beta": 0.02 if method.credit else 0.5}
    _, (progress,) = run([(method, changed | tie, own, seed)], tmp_path, lora=False, epochs=12, learning_rate=0.03)
    rewards = np.array([r["reward"] for r in progress.answers])
    n = len(rewards) // 12
    assert rewards[-2 * n :].mean() > rewards[:n].mean() + 4 * rewards[:n].std() / n**0.5
    divergence = [r["kl_k1"] for r in progress.answers]
    # The first answers come from the start point itself.
    first = [r["kl_k1"] for r in progress.answers if r["round"] == 0]
    assert max(map(abs, first)) < 1e-5 < np.mean(divergence[-n:])


def test_answers_of_one_reward_teach_nothing(tmp_path):
    def alike(rows, answers):
        return [{"reward": 0.5, "gold": None} for _ in answers]

    for method, changed in ((find("online_dpo"), {}), (GRPO, {"beta": 0.0}), (RLOO, {"beta": 0.0})):
        policy, (progress,) = run(
            [(method, changed, {}, 0)], tmp_path / method.name, lora=False, judge=alike, weight_decay=0.0
        )
        start = tiny_model(dtype=torch.float64).requires_grad_(True)
        assert all(torch.equal(p, weights(policy)[name]) for name, p in WholeModel(start).parameters(0).items())
        assert {r["n_rows"] for r in progress.log} == ({0} if method.own_answers else {4, 2})


def test_pairs_are_the_best_and_the_worst_answer():
    tokens = [np.array([10 + i, END]) for i in range(6)]
    rollout = Rollout(
        {
            "round": np.array([0]),
            "numbers": np.array([3, 1]),
            "length": np.full(6, 2),
            "tokens": np.concatenate(tokens),
            "reward": np.array([0.2, 0.9, 0.1, 0.5, 0.5, 0.5]),
            "reference": -np.arange(12, dtype=np.float32),
        }
    )
    pairs, references = rollout.pairs(ROWS, slice(0, 2))
    assert [row.row for row in pairs] == [ROWS[3].row]  # the second prompt's answers tie
    assert pairs[0].responses["chosen"].tolist() == [11, END] and pairs[0].responses["rejected"].tolist() == [12, END]
    assert references["chosen"][0].tolist() == [-2, -3] and references["rejected"][0].tolist() == [-4, -5]
    assert [set(row.responses) for row in rollout.rows(ROWS, slice(0, 2))] == [set(SAMPLED[:3])] * 2


def test_a_reward_model_learns_what_separates_the_pairs_and_reads_whole_responses(tmp_path):
    generator = np.random.default_rng(0)

    def pair(row):
        body = generator.integers(10, VOCABULARY, 5)
        ids = {"chosen": np.append(body, WANTED), "rejected": np.append(body, WANTED + 1)}
        return dataclasses.replace(row, responses=ids)  # only the very last token tells them apart

    rows = [pair(row) for row in random_rows(64, seed=3)]
    task = Task(
        method=BRADLEY_TERRY,
        hyperparameters={},
        rows=[read_at_end(row, END) for row in rows[:48]],
        references={},
        blocks=(48,),
        seed=0,
        monitor=[read_at_end(row, END) for row in rows[48:]],
        settings=train_settings(learning_rate=1e-2, batch_size=16, epochs=6),
    )
    policy = WithValues(LoraStack.fresh(tiny_model(dtype=torch.float32), LORA, seeds=[0]), [0])
    (progress,) = train(policy, [task], [tmp_path], hooks())
    assert progress.log[0]["loss"] == pytest.approx(np.log(2))
    last = [r for r in progress.monitor if r["step"] == progress.step]
    assert np.mean([r["chosen_score"] > r["rejected_score"] for r in last]) > 0.9

    policy.save(0, tmp_path / "model")
    head = policy.parameters(0)["value_head"].detach()
    judge = RewardModel(policy.model, head, END, mean=0.5, std=2.0)
    with policy.alone(0):
        found = judge.scores(rows[48:], "chosen", budget=100)
    assert found == pytest.approx([(r["chosen_score"] - 0.5) / 2 for r in last], abs=1e-4)

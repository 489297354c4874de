"""Every method lowers its own objective on held-out pairs of the pocket world."""

import dataclasses
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from tests.tiny import train_settings

from preflab.data.examples import RANKED, Example, Message, TokenRow
from preflab.data.tokens import TokenSettings, add_mismatched, tokenize
from preflab.methods import ALL, Method, Moments
from preflab.methods.needs import needs_live_reference
from preflab.models.load import load_model, load_tokenizer
from preflab.models.policies import WholeModel
from preflab.pocket.assets import model_path
from preflab.pocket.pairs import written_candidates
from preflab.pocket.rewards import gold_reward
from preflab.pocket.splits import splits
from preflab.scoring.logps import score
from preflab.train.cell import Task
from preflab.train.lockstep import drive
from preflab.train.loop import Hooks, train
from preflab.train.step import Given, gradient

N_TRAIN, N_HELD_OUT = 128, 64
RATE = 5e-4
ROLES = (*RANKED, "gold", "mismatched")
SETTINGS = {"dpop": {"penalty": 5.0}}
"""At its published penalty of 50 DPOP does not lower its own objective here: any fall of a held-out chosen response, by
chance too, costs 5 per nat (docs/lab-log.md)."""
ONE_PER_KIND = ("sft", "dpo", "simpo", "kto", "ld_dpo", "nca", "bco", "tdpo2", "wpo", "sampo", "odpo", "tpo", "mpo")


@cache
def rows() -> tuple[tuple[TokenRow, ...], tuple[TokenRow, ...]]:
    """Scored lists of up to four responses to a prompt, as tokens: for training and held out."""
    examples = []
    for candidates in written_candidates(splits()["train"][:300], n=4, seed=12):
        texts = {text: gold_reward((), text, candidates.task.meta)["reward"] for text in candidates.responses}
        ranked = sorted(((reward, text) for text, reward in texts.items() if text.strip()), reverse=True)
        if len(ranked) < 2 or ranked[0][0] - ranked[-1][0] < 0.2:
            continue
        roles = [*RANKED[: len(ranked) - 1], RANKED[-1]]
        said = {role: text for role, (_, text) in zip(roles, ranked, strict=True)}
        examples.append(
            Example(
                row=len(examples) + 1,
                prompt=(Message("user", candidates.task.prompt),),
                chosen=said["chosen"],
                rejected=said["rejected"],
                others={**{role: said[role] for role in roles[1:-1]}, "gold": said["chosen"]},
                scores={role: reward for role, (reward, _) in zip(roles, ranked, strict=True)},
            )
        )
    examples = examples[: N_TRAIN + N_HELD_OUT]
    assert len(examples) == N_TRAIN + N_HELD_OUT
    found = tokenize(examples, load_tokenizer(model_path("base")), TokenSettings("auto", 96, 64)).rows
    with_partners = add_mismatched(found, blocks=(N_TRAIN, N_TRAIN + N_HELD_OUT))
    return with_partners[:N_TRAIN], with_partners[N_TRAIN:]


@cache
def references() -> tuple[dict, dict]:
    """Log-probs of all rows under the start point."""
    return tuple(score(start(), part, ROLES, budget=20_000) for part in rows())


def start():
    model = load_model(model_path("base"), dtype="float32", device="cpu")
    return model.requires_grad_(False)


def setting(method: Method) -> dict[str, float]:
    return dataclasses.asdict(method.hyperparameters(**SETTINGS.get(method.name, {})))


def objective(model: torch.nn.Module, method: Method, part: Sequence[TokenRow], known: dict, state: tuple) -> float:
    """The method's own loss on held-out rows, as one batch, with what it remembers after training."""
    live = start() if needs_live_reference(method) else None
    given = Given(references=known, model=live, state=state, stream=(7, 0))
    result = drive(WholeModel(model), {0: gradient(part, given, method, setting(method), budget=20_000)})[0]
    model.zero_grad(set_to_none=True)
    return result.read()["loss"]


def improves(method: Method, folder) -> tuple[float, float]:
    """Train and return the held-out objective before and after."""
    train_rows, held_out = rows()
    known, known_held_out = references()
    task = Task(
        method=method,
        hyperparameters=setting(method),
        rows=train_rows,
        references=known,
        live_reference=start() if needs_live_reference(method) else None,
        blocks=(N_TRAIN,),
        seed=0,
        monitor=(),
        settings=train_settings(
            batch_size=16, learning_rate=RATE, weight_decay=0.0, token_budget=20_000, monitor_points=2
        ),
    )
    model = start()
    hooks = Hooks(progress=lambda step, steps: None, should_stop=lambda: False, checkpoint_every_s=1e9)
    (progress,) = train(WholeModel(model), [task], [folder], hooks)
    assert progress.diverged is None and progress.step == 16
    state = tuple(Moments(*values) for values in progress.state)
    before, after = (objective(each, method, held_out, known_held_out, state) for each in (start(), model))
    return before, after


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=() if m.name in ONE_PER_KIND else pytest.mark.slow, id=m.name) for m in ALL],
)
def test_training_lowers_the_methods_own_objective_on_held_out_rows(method, tmp_path):
    before, after = improves(method, tmp_path)
    print(f"{method.name}: {before:.5g} -> {after:.5g}")
    assert after < before

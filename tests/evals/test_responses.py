import numpy as np
import pytest
import torch
from tests.tiny import random_rows, tiny_model, write_tiny_world

from preflab.data.examples import Example
from preflab.evals.pairs import margins, score_pairs
from preflab.evals.responses import Question, describe_responses, sample_responses, score_responses
from preflab.models.load import load_model, load_tokenizer
from preflab.sampling.generate import GenerationSettings, generate
from preflab.scoring.logps import score


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder, _ = write_tiny_world(tmp_path_factory.mktemp("world"))
    model = load_model(folder, dtype="float32", device="cpu")
    other = load_model(folder, dtype="float32", device="cpu")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model, other, load_tokenizer(folder)


def questions(n, meta=None):
    ids = np.array([2, 10, 11, 3])
    return [Question(Example(i + 1, "word5 word6", "word7", "word8", "f", meta or {}), ids, "shown") for i in range(n)]


def settings(n, seed=0):
    return GenerationSettings(max_new_tokens=n, batch_size=1000, seed=seed)


class OneByOne:
    def __init__(self, reward):
        self.reward = reward

    def scores(self, asked):
        return [self.reward(example.prompt, text, example.meta) for example, text in asked]


def described(policy, start, tokenizer, asked, responses, *, reward, budget):
    """Score under both models and describe."""
    scores = [score_responses(model, asked, responses, budget=budget) for model in (policy, start)]
    return describe_responses(asked, responses, *scores, tokenizer, scorer=reward and OneByOne(reward))


def test_a_model_has_no_divergence_from_itself(world):
    model, _, tokenizer = world
    asked = questions(3)
    responses = sample_responses(model, tokenizer, asked, settings(5), end_ids=[1])
    for record in described(model, model, tokenizer, asked, responses, reward=None, budget=1000):
        assert record["policy_total"] == record["reference_total"] and record["kl_k3"] == 0
        assert record["reward"] is None and record["chosen_reward"] is None


def test_both_estimates_of_kl_agree_with_the_exact_value(world):
    """First tokens only, where KL(policy || start) is a finite sum over the vocabulary."""
    start, policy, tokenizer = world
    n = 3000
    asked = questions(n)
    # `sample_responses` names streams by the prompt, so equal prompts would get equal answers.
    keys = [str(i) for i in range(n)]
    responses = generate(policy, [q.prompt for q in asked], keys, end_ids=[1], pad_id=0, settings=settings(1))
    records = described(policy, start, tokenizer, asked, responses, reward=None, budget=4000)
    with torch.no_grad():
        ids = torch.from_numpy(asked[0].prompt)[None]
        log_p = policy(ids).logits[0, -1].double().log_softmax(-1)
        log_q = start(ids).logits[0, -1].double().log_softmax(-1)
    exact = float((log_p.exp() * (log_p - log_q)).sum())
    k1 = np.array([r["policy_total"] - r["reference_total"] for r in records])
    k3 = np.array([r["kl_k3"] for r in records])
    assert (k3 >= -1e-6).all()
    for estimate in (k1, k3):
        assert abs(estimate.mean() - exact) < 5 * estimate.std() / np.sqrt(n)
    assert k3.std() < k1.std()


def test_rewards_see_prompt_text_and_meta_and_score_the_datas_response_too(world):
    model, _, tokenizer = world
    seen = []

    def reward(prompt, response, meta):
        seen.append((prompt, response, meta))
        return {"reward": float(len(response)), "short": 1.0}

    asked = questions(1, meta={"answer": 4})
    responses = sample_responses(model, tokenizer, asked, settings(4), end_ids=[1])
    (record,) = described(model, model, tokenizer, asked, responses, reward=reward, budget=1000)
    assert record["reward"] == len(record["response"]) and record["reward_short"] == 1.0
    assert record["chosen_reward"] == len("word7")
    assert seen[0][0] == "word5 word6" and seen[0][2] == {"answer": 4} and "<eos>" not in seen[0][1]


def test_margins_are_log_ratios_against_the_start_point():
    policy, start = tiny_model(dtype=torch.float32), tiny_model(dtype=torch.float32, seed=1)
    rows = random_rows(5)
    rows[2] = type(rows[2])(3, rows[2].prompt, {"rejected": rows[2].responses["rejected"]})
    known = score(start, rows, ("chosen", "rejected"), budget=1000)
    records = score_pairs(policy, rows, known, budget=50)
    assert records[2]["chosen_total"] is None and records[2]["reference_chosen_total"] is None
    found = margins(records)
    assert len(found) == 4  # a row without a pair has no margin
    first = score(policy, rows[:1], ("chosen", "rejected"), budget=1000)
    change = {role: first[role][0].sum() - known[role][0].sum() for role in ("chosen", "rejected")}
    expected = change["chosen"] - change["rejected"]
    assert found[0] == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(margins(score_pairs(start, rows, known, budget=50)), 0, atol=1e-4)

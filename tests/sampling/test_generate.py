import numpy as np
import pytest
import torch
from tests.tiny import VOCABULARY, tiny_model

from preflab.core.errors import ConfigError
from preflab.sampling.generate import GenerationSettings, generate

END = [1]


def sample(model, prompts, keys=None, *, n=12, batch_size=4, seed=0, **how):
    settings = GenerationSettings(max_new_tokens=n, batch_size=batch_size, seed=seed, **how)
    keys = keys or [str(i) for i in range(len(prompts))]
    return generate(model, prompts, keys, end_ids=END, pad_id=0, settings=settings)


def prompts_of(n, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(2, VOCABULARY, generator.integers(2, 9)) for _ in range(n)]


def test_batch_size_and_order_change_no_response():
    model, prompts = tiny_model(), prompts_of(7)
    keys = [f"k{i}" for i in range(7)]
    alone = sample(model, prompts, keys, batch_size=1)
    together = sample(model, prompts[::-1], keys[::-1], batch_size=7)[::-1]
    for a, b in zip(alone, together, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist() and a.truncated == b.truncated


def test_seeds_and_keys_name_different_streams():
    model, prompts = tiny_model(), prompts_of(1) * 3
    same = sample(model, prompts, ["a", "a", "b"])
    assert same[0].tokens.tolist() == same[1].tokens.tolist() != same[2].tokens.tolist()
    assert sample(model, prompts, ["a", "a", "b"], seed=1)[0].tokens.tolist() != same[0].tokens.tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
def test_first_tokens_follow_the_models_distribution(temperature):
    """Chi-square of 4,000 first tokens against the model's own probabilities, their logits divided."""
    model, (prompt,) = tiny_model(), prompts_of(1)
    n = 4000
    found = sample(model, [prompt] * n, [str(i) for i in range(n)], n=1, batch_size=n, temperature=temperature)
    counts = np.bincount([int(r.tokens[0]) for r in found], minlength=VOCABULARY)
    with torch.no_grad():
        expected = n * model(torch.from_numpy(prompt)[None]).logits[0, -1].div(temperature).softmax(-1).numpy()
    large = expected > 5
    statistic = ((counts[large] - expected[large]) ** 2 / expected[large]).sum()
    assert statistic < large.sum() + 5 * np.sqrt(2 * large.sum())


def test_responses_end_with_one_end_token_or_are_marked_truncated():
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[1] += 0.5
    for response in sample(model, prompts_of(40), n=6, batch_size=16):
        ends = int(np.isin(response.tokens, END).sum())
        assert 1 <= len(response.tokens) <= 6
        assert ends == (0 if response.truncated else 1)
        assert response.truncated or response.tokens[-1] == 1


def test_a_models_own_generation_defaults_do_not_bend_the_distribution():
    model, prompts = tiny_model(), prompts_of(5)
    plain = sample(model, prompts)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.no_repeat_ngram_size = 1
    model.generation_config.min_new_tokens = 11
    model.generation_config.suppress_tokens = list(range(2, 30))
    for a, b in zip(plain, sample(model, prompts), strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()


def test_golden_numbers_at_temperature_one_and_the_likeliest_tokens_near_zero():
    model, prompts = tiny_model(), prompts_of(5)

    def tokens(**how):
        return [response.tokens.tolist() for response in sample(model, prompts, **how)]

    # What this sampler gave before it knew temperatures.
    golden = [[11, 58, 25, 5, 60, 39], [44, 47, 24, 15, 49, 18]]
    assert [r.tokens.tolist() for r in sample(model, prompts_of(2), n=6)] == golden
    assert tokens(temperature=1e-6) == tokens(greedy=True) != tokens()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_out_of_its_range_is_refused(temperature):
    with pytest.raises(ConfigError, match=r"temperature: must be in \(0, inf\)"):
        GenerationSettings(max_new_tokens=1, batch_size=1, seed=0, temperature=temperature)

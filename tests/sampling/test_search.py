import numpy as np
import pytest

from preflab.core.errors import ConfigError
from preflab.core.seeds import derive
from preflab.sampling.generate import Response
from preflab.sampling.search import SearchSettings, search, step_length

LENGTH, END = 8, 1


def sampler(prompts, keys, max_new_tokens):
    """Eight tokens of 2, 3 or 4 behind a prompt of one token, then an end token."""
    found = []
    for prompt, key in zip(prompts, keys, strict=True):
        rng = np.random.default_rng(derive(0, key))
        rest = rng.integers(2, 5, LENGTH + 1 - len(prompt))
        tokens = np.append(rest, END)
        found.append(Response(tokens[:max_new_tokens], truncated=len(tokens) > max_new_tokens))
    return found


def share_of_twos(asked):
    return [float(np.mean(response.tokens[:LENGTH] == 2)) for _, response in asked]


def grow(n, *, exploration=0.3, prompts=2, sample=sampler, score=share_of_twos, longest=LENGTH + 1):
    settings = SearchSettings(simulations=n, width=3, step_tokens=2, exploration=exploration, max_new_tokens=longest)
    starts = [np.array([10 + i]) for i in range(prompts)]
    return search(starts, [str(i) for i in range(prompts)], sample, score, lambda t: min(2, len(t)), settings)


def test_answers_with_a_common_path_share_its_steps():
    for tree in grow(40):
        assert len(tree) == 40
        for a in tree:
            assert 1 <= len(a.path) <= 5 and not a.response.truncated
            for b in tree:
                common = next((i for i, (x, y) in enumerate(zip(a.path, b.path, strict=False)) if x != y), None)
                steps = min(len(a.path), len(b.path)) if common is None else common
                assert a.response.tokens[: 2 * steps].tolist() == b.response.tokens[: 2 * steps].tolist()


def test_the_same_search_gives_the_same_answers_and_trees_do_not_touch():
    both, alone = grow(20), grow(20, prompts=1)
    assert [a.response.tokens.tolist() for a in both[0]] == [a.response.tokens.tolist() for a in alone[0]]
    assert [a.path for a in both[0]] == [a.path for a in alone[0]]


def test_the_search_finds_better_answers_than_sampling():
    trees = grow(60, prompts=20)
    late = np.mean([a.score for tree in trees for a in tree[30:]])
    independent = np.mean([a.score for tree in trees for a in tree[:3]])
    assert independent == pytest.approx(1 / 3, abs=0.05)
    assert late > independent + 0.1


def test_exploration_spreads_over_the_first_steps():
    def of_best(exploration):
        tree = grow(60, prompts=1, exploration=exploration)[0]
        firsts = [a.path[0] for a in tree]
        return max(firsts.count(first) for first in set(firsts)) / len(firsts)

    assert of_best(0.0) > of_best(10.0)


def test_visits_and_means_are_those_of_the_answers_below():
    """With an exploration of zero the next answer goes below the first step with the best mean so far."""
    tree = grow(30, prompts=1, exploration=0.0)[0]
    for n in range(4, 30):
        before = tree[:n]
        means = {f: np.mean([a.score for a in before if a.path[0] == f]) for f in {a.path[0] for a in before}}
        # a subtree with nothing left to sample would be passed by; here none is exhausted that early
        assert means[tree[n].path[0]] == pytest.approx(max(means.values()))


def test_a_tree_with_nothing_left_to_say_stops():
    def always_the_same(prompts, keys, max_new_tokens):
        return [Response(np.array([5, END]), truncated=False) for _ in prompts]

    (tree,) = grow(20, prompts=1, sample=always_the_same, score=lambda asked: [1.0 for _ in asked])
    assert len(tree) == 3  # the width of the root


def test_answers_stay_below_the_limit_wherever_they_branched():
    (tree,) = grow(30, prompts=1, longest=6)
    assert {len(a.response.tokens) for a in tree} == {6}
    assert all(a.response.truncated for a in tree)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["a", "b", "\n", "c"], 3), (["\n", "a", "\n", "b"], 3), (["a"] * 9, 5), (["a\n", "b"], 1), (["a", "b"], 2)],
)
def test_a_step_ends_with_the_first_line_break_behind_text_or_at_its_limit(texts, expected):
    assert step_length(np.arange(len(texts)), texts.__getitem__, 5) == expected


def test_sizes_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match="--step-tokens: must be at least 1; got 0"):
        SearchSettings(simulations=4, width=2, step_tokens=0, exploration=1.0, max_new_tokens=8)
    with pytest.raises(ConfigError, match=r"--exploration: must be in \[0, inf\)"):
        SearchSettings(simulations=4, width=2, step_tokens=1, exploration=-1.0, max_new_tokens=8)

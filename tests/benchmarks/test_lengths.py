import pytest
from benchmarks.jobs import BenchmarkError
from benchmarks.lengths import DISTRIBUTIONS, LogNormal, Row, from_file, random_ids, summary, synthetic, text_ids

from preflab.pocket.assets import data_path, model_path


def draw(name, n, max_tokens=1024):
    return synthetic(name, n, random_ids(100, seed=0), seed=0, max_tokens=max_tokens)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_fewer_pairs_are_the_first_of_more(name):
    assert draw(name, 5) == draw(name, 20)[:5]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_row_is_longer_than_the_limit(name):
    for row in draw(name, 50, max_tokens=64):
        assert min(len(part) for part in row) >= 1
        assert len(row.prompt) + max(len(row.chosen), len(row.rejected)) <= 64


def test_worst_lengths_leave_nothing_to_share_or_to_pad():
    rows = draw("worst", 16)
    assert {tuple(map(len, row)) for row in rows} == {(1, 128, 128)}
    # Two rows of 129 tokens against a prompt token and both responses.
    assert summary(rows, 8)["padded_ratio"] == pytest.approx(258 / 257)


def test_every_eighth_prompt_is_an_outlier():
    rows = draw("outlier", 16)
    assert [i for i, row in enumerate(rows) if len(row.prompt) == 9 * 1024 // 10] == [3, 11]


def test_lognormal_of_median_and_mean_has_them():
    # Mean of a log-normal: median * exp(sigma^2 / 2).
    found = LogNormal.of(median=90, mean=121)
    assert found.median * 2.718281828 ** (found.sigma**2 / 2) == pytest.approx(121)


def test_summary_counts_padding_batch_by_batch():
    rows = [Row([1] * 4, [1] * 2, [1]), Row([1] * 2, [1], [1] * 6)]
    found = summary(rows, batch_size=2)
    assert found["useful_tokens"] == 7 + 9
    assert found["padded_ratio"] == 2 * 2 * 8 / 16
    assert summary(rows, batch_size=1)["padded_ratio"] == (2 * 6 + 2 * 8) / 16


def test_pairs_of_a_file_are_a_sample_within_the_limit():
    path, model = data_path("validation"), model_path("base")
    rows = from_file(path, model, 12, seed=1, max_tokens=64)
    assert rows[:5] == from_file(path, model, 5, seed=1, max_tokens=64)
    assert all(len(row.prompt) < 48 and len(row.prompt) + len(row.chosen) <= 64 for row in rows)


def test_lengths_can_be_filled_with_the_texts_of_a_file():
    path, model = data_path("validation"), model_path("base")
    rows = synthetic("worst", 3, text_ids(path, model, seed=0), seed=0, max_tokens=1024)
    assert [tuple(map(len, row)) for row in rows] == [(1, 128, 128)] * 3
    first = next(iter(from_file(path, model, 1, seed=0, max_tokens=1024)))
    assert [*rows[0].prompt, *rows[0].chosen][: len(first.prompt)] == first.prompt


def test_too_small_a_file_is_said():
    with pytest.raises(BenchmarkError, match=r"usable pairs; --pairs asks for 10000"):
        from_file(data_path("validation"), model_path("base"), 10000, seed=0, max_tokens=64)

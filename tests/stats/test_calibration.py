"""Calibration: closed forms, and what perfectly calibrated forecasts look like."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflab.stats.calibration import calibration


def test_a_small_case_by_hand():
    found = calibration([0.1, 0.3, 0.35, 0.95], [0, 1, 0, 1], n_bins=5)
    assert [(bin.low, bin.observed.n) for bin in found.bins] == [(0.0, 1), (0.2, 2), (0.8, 1)]
    assert found.error == pytest.approx((0.1 + 2 * abs(0.325 - 0.5) + 0.05) / 4)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.1225 + 0.0025) / 4)
    assert found.log_loss == pytest.approx(-sum(map(math.log, (0.9, 0.3, 0.65, 0.95))) / 4)


def test_forecasts_of_one_half_and_certain_ones():
    half = calibration([0.5] * 4, [0, 1, 0.5, 0.5])
    assert (half.error, half.brier) == (0, pytest.approx(0.125)) and half.log_loss == pytest.approx(math.log(2))
    sure = calibration([0, 1], [0, 1])
    assert sure.error == 0 and sure.log_loss == pytest.approx(0)
    assert calibration([1.0], [0]).log_loss > 20


def test_calibrated_forecasts_have_the_error_that_the_docstring_says():
    generator = np.random.default_rng(0)
    n = 2000
    errors = []
    for _ in range(50):
        p = generator.uniform(size=n)
        errors.append(calibration(p, generator.uniform(size=n) < p).error)
    assert 0.3 < np.mean(errors) / math.sqrt(10 / n) < 0.7


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40))
def test_bins_hold_every_forecast_once(pairs):
    p, y = np.array(pairs).T
    found = calibration(p, y)
    assert sum(bin.observed.n for bin in found.bins) == found.n == len(p)
    assert all(bin.low <= bin.forecast <= bin.high for bin in found.bins)
    assert 0 <= found.error <= 1


def test_bad_input_is_refused():
    for p, y in [([], []), ([0.5], [0, 1]), ([1.5], [1]), ([0.5], [2])]:
        with pytest.raises(ValueError):
            calibration(p, y)

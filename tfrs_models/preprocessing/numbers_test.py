import math

import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config import NumericFeature, TimeFeature
from retrieval_contract.data.fitted import FittedFeature
from tfrs_models.preprocessing.numbers import encode_numeric, encode_time


def numeric(values, scaling, state=None, **spec):
    feature = FittedFeature(spec=NumericFeature(name="x", scaling=scaling, **spec), **(state or {}))
    return encode_numeric(feature, tf.constant(values, tf.float64)).numpy()


def time(values, part, **state):
    feature = FittedFeature(spec=TimeFeature(name="t", part=part), **state)
    return encode_time(feature, tf.constant(values, tf.float64)).numpy()


@pytest.mark.parametrize(
    ("scaling", "state", "values", "expected"),
    [
        ("raw", {"missing_value": 3.5}, [1e300, -math.inf, math.nan, 0.5], [3.4028235e38, -3.4028235e38, 3.5, 0.5]),
        ("z_score", {"mean": 1.0, "std": 2.0}, [5.0, math.inf, -1e300, math.nan], [2.0, 1e4, -1e4, 0.0]),
        ("z_score", {"mean": 1.0, "std": 0.0}, [5.0, math.inf, math.nan], [0.0, 0.0, 0.0]),
        ("z_score", {"mean": 0.0, "std": 5e-324}, [1.0, -1.0, math.inf], [1e4, -1e4, 1e4]),
        ("log_z_score", {"mean": 0.0, "std": 1.0}, [math.e - 1, 1 - math.e, 0.0], [1.0, -1.0, 0.0]),
        (
            "min_max",
            {"low": 2.0, "high": 6.0, "missing_value": 0.25},
            [1.0, 3.0, math.inf, math.nan],
            [0, 0.25, 1, 0.25],
        ),
        ("min_max", {"low": 2.0, "high": 2.0}, [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
    ],
)
def test_numbers_are_scaled(scaling, state, values, expected):
    scaled = numeric(values, scaling, state)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, np.asarray(expected, np.float32), rtol=1e-7)


def test_a_flag_says_what_is_missing():
    flagged = numeric([1.0, math.nan, math.inf], "raw", missing_flag=True)
    assert flagged[:, 1].tolist() == [0, 1, 0]
    assert flagged.shape == (3, 2)


def test_numbers_are_rounded_to_float32_only_once():
    """At a mean of 1e8 a float32 number would be off by 4, and the score by 4 deviations."""
    assert numeric([1e8 + 1], "z_score", {"mean": 1e8, "std": 1.0}).tolist() == [1.0]


@pytest.mark.parametrize(
    ("part", "values", "rows"),
    [
        # The first of January 1970 was a Thursday.
        ("weekday", [0.0, 3 * 86_400.0, 4 * 86_400 - 1.0, 4 * 86_400.0, -1.0], [5, 8, 8, 2, 4]),
        ("hour", [0.0, 3_599.5, 3_600.0, -1.0, 86_400.0 * 20_000 + 36_000], [2, 2, 3, 25, 12]),
    ],
)
def test_moments_are_cut_into_parts(part, values, rows):
    assert time([*values, math.nan], part).tolist() == [*rows, 1]


def test_every_full_hour_is_itself():
    hours = np.arange(-1_000_000, 1_000_000)
    assert np.array_equal(time(hours * 3_600.0, "hour"), hours % 24 + 2)


@pytest.mark.parametrize("values", [[math.inf, -math.inf, 1e300, -1e300]])
@pytest.mark.parametrize("part", ["hour", "weekday", "hour_cycle", "weekday_cycle", "year_cycle", "age"])
def test_moments_beyond_all_calendars_stay_finite(part, values):
    assert np.isfinite(time(values, part, mean=1.0, std=2.0)).all()


def test_cycles_begin_at_zero():
    np.testing.assert_allclose(time([0.0, 21_600.0, math.nan], "hour_cycle"), [[0, 1], [1, 0], [0, 0]], atol=1e-7)
    np.testing.assert_allclose(time([4 * 86_400.0], "weekday_cycle"), [[0, 1]], atol=1e-7)
    np.testing.assert_allclose(time([365.2425 * 86_400 / 2], "year_cycle"), [[0, -1]], atol=1e-7)


def test_an_age_is_counted_to_the_last_train_row():
    state = {"reference_time": 864_000.0, "mean": math.log(2), "std": 0.5}
    ages = time([777_600.0, 864_000.0, 9e9, math.nan], "age", **state)
    np.testing.assert_allclose(ages, [0, -2 * math.log(2), -2 * math.log(2), 0], rtol=1e-6, atol=1e-7)

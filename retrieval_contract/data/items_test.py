import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_contract.data.items import age_rows, decayed


def bucket_by_hand(seconds, num_buckets):
    """1 + min(floor(log2(1 + hours)), num_buckets - 1), in whole numbers."""
    hours, exponent = 1 + Fraction(seconds, 3600), 0
    while 2 ** (exponent + 1) <= hours:
        exponent += 1
    return 1 + min(exponent, num_buckets - 1)


@given(seconds=st.integers(0, 3600 * 2**34), num_buckets=st.integers(1, 40))
def test_ages_equal_the_definition(seconds, num_buckets):
    assert age_rows(np.array([[seconds]]), num_buckets).tolist() == [[bucket_by_hand(seconds, num_buckets)]]


@pytest.mark.parametrize("exponent", range(1, 35))
def test_ages_change_at_the_very_second(exponent):
    turn = 3600 * (2**exponent - 1)
    rows = age_rows(np.array([turn - 1, turn]), 40)
    assert rows.dtype == np.int32
    assert rows.tolist() == [exponent, exponent + 1] == [bucket_by_hand(second, 40) for second in (turn - 1, turn)]


def test_weights_halve_with_every_half_life():
    day = 86_400
    weights = np.array([3.0, 3.0, 3.0, 0.0, 0.0], np.float32)
    seconds = np.array([0, 7 * day, 21 * day, 5, -(10**15)])
    got = decayed(weights, seconds, 7.0)
    assert got.dtype == np.float32
    assert got.tolist() == [3.0, 1.5, 0.375, 0.0, 0.0]


def test_weights_are_rounded_once():
    draw = np.random.default_rng(0)
    weights, seconds = draw.random(1_000).astype(np.float32), draw.integers(0, 10**8, 1_000)
    truth = [float(w) * math.exp2(-(s / (86_400 * 30.0))) for w, s in zip(weights, seconds.tolist(), strict=True)]
    np.testing.assert_allclose(decayed(weights, seconds, 30.0), truth, rtol=6e-8)


def test_a_very_old_item_weighs_nothing_and_not_nan():
    got = decayed(np.ones(2, np.float32), np.array([10**18, 10**12]), 0.001)
    assert got.tolist() == [0.0, 0.0]

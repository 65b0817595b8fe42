import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from retrieval_contract.config import NumericFeature
from retrieval_contract.data.numbers import encode_numeric, fit_numeric
from retrieval_contract.errors import UserError

LARGEST = float(np.finfo(np.float32).max)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def arrays(values):
    present = np.array([value is not None for value in values], np.bool_)
    return np.array([0.0 if value is None else value for value in values], np.float64), present


def fit(values, counts=None, **settings):
    values_R, present_R = arrays(values)
    counts_R = np.array(counts if counts is not None else [1] * len(values), np.int64)
    return fit_numeric(NumericFeature(name="x", **settings), values_R, present_R, counts_R, where="queries, column x")


def encode(feature, values):
    return encode_numeric(feature, *arrays(values))


def test_raw_is_what_it_was_within_float32():
    feature = fit([1.0, 3.0], scaling="raw")
    assert encode(feature, [0.1, None, -7.5, 1e300, -1e300]).tolist() == [
        np.float32(0.1), 2.0, -7.5, np.float32(LARGEST), -np.float32(LARGEST)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scaling", "mean", "zero"),
    [("raw", 3.0, 0.0), ("z_score", 0.0, 0.0), ("log_z_score", 0.0, 0.0), ("min_max", 0.25, 0.0)],
)
def test_a_missing_value_is_the_mean_of_the_scaled_rows_or_zero(scaling, mean, zero):
    values = [1.0, 1.0, 1.0, 9.0]
    for missing, wanted in (("mean", mean), ("zero", zero)):
        feature = fit(values, scaling=scaling, missing=missing)
        assert encode(feature, [None])[0] == wanted
        if missing == "mean":
            assert encode(feature, values).astype(np.float64).mean() == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("scaling", ["raw", "z_score", "log_z_score", "min_max"])
def test_a_missing_flag_is_a_second_number(scaling):
    feature = fit([1.0, 3.0], scaling=scaling, missing_flag=True)
    pairs = encode(feature, [1.0, None])
    assert pairs.shape == (2, 2)
    assert pairs.dtype == np.float32
    assert pairs[:, 1].tolist() == [0, 1]
    assert pairs[:, 0].tolist() == encode(fit([1.0, 3.0], scaling=scaling), [1.0, None]).tolist()


def test_z_scores_are_weighted_by_train_rows():
    feature = fit([10.0, 20.0, 99.0, None], [2, 1, 0, 5])
    assert feature.mean == pytest.approx(40 / 3, rel=1e-15)
    assert feature.std == pytest.approx(math.sqrt((100 + 100 + 400) / 3 - (40 / 3) ** 2), rel=1e-13)
    np.testing.assert_allclose(encode(feature, [10.0, 20.0]), [-(2**-0.5), 2**0.5], rtol=1e-7)


def test_log_z_score_is_odd_and_takes_large_numbers():
    feature = fit([0.0, math.e - 1, 1 - math.e], scaling="log_z_score")
    assert (feature.mean, feature.std) == (0, pytest.approx(math.sqrt(2 / 3), rel=1e-12))
    scaled = encode(feature, [math.e - 1, 1 - math.e, 0.0, math.e**2 - 1])
    np.testing.assert_allclose(scaled, np.array([1, -1, 0, 2]) / math.sqrt(2 / 3), rtol=1e-7)


@pytest.mark.parametrize("scaling", ["z_score", "log_z_score"])
def test_what_is_scaled_is_cut_off(scaling):
    feature = fit([0.0, 1e-9], scaling=scaling)
    assert encode(feature, [1e300, -1e300]).tolist() == [10_000, -10_000]


def test_min_max_is_cut_off_at_the_train_rows():
    feature = fit([2.0, 6.0, 100.0], [1, 3, 0], scaling="min_max")
    assert (feature.low, feature.high) == (2, 6)
    assert encode(feature, [2.0, 6.0, 5.0, -1e308, 1e308, None]).tolist() == [0, 1, 0.75, 0, 1, 0.75]


@pytest.mark.parametrize("scaling", ["z_score", "log_z_score", "min_max"])
@pytest.mark.parametrize("values", [[0.1, 0.1], [None], []])
def test_a_constant_or_nothing_becomes_zero(scaling, values):
    assert encode(fit(values, scaling=scaling), [0.1, 7.0, None]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("scaling", "values"), [("z_score", [1e200, -1e200]), ("min_max", [1e308, -1e308]), ("raw", [1.7e308, 1.6e308] * 3)]
)
def test_numbers_beyond_float64_are_refused(scaling, values):
    with pytest.raises(UserError, match=r"too large to scale \[queries, column x\]"):
        fit(values, scaling=scaling)


def test_buckets_begin_at_their_edges():
    feature = fit([1.0], scaling="buckets", edges=(18.0, 25.0, 35.0))
    rows = encode(feature, [17.999, 18.0, 24.9, 25.0, 35.0, 1e308, -1e308, None])
    assert rows.dtype == np.int32
    assert rows.tolist() == [2, 3, 3, 4, 5, 5, 2, 1]
    assert feature.num_rows == 6


@given(st.lists(FINITE, min_size=1, max_size=40, unique=True), st.integers(2, 12))
def test_quantiles_of_distinct_values_hold_equally_many_rows(values, num_quantiles):
    feature = fit(values, scaling="quantiles", num_quantiles=num_quantiles)
    counts = np.bincount(encode(feature, values) - 2, minlength=len(feature.edges) + 1)
    assert counts.min() >= 1, "no bucket is empty"
    assert len(counts) == min(num_quantiles, len(values))
    assert counts.max() - counts.min() <= 1


def test_quantiles_count_train_rows_and_join_where_values_repeat():
    assert fit([1.0, 2.0, 3.0], [8, 1, 1], scaling="quantiles", num_quantiles=5).edges == (2.0,)
    assert fit([1.0, 2.0, 3.0, 4.0], [1, 1, 1, 9], scaling="quantiles", num_quantiles=2).edges == (4.0,)
    constant = fit([5.0, 5.0, None], scaling="quantiles")
    assert (constant.edges, constant.num_rows) == ((), 3)
    assert encode(constant, [5.0, -1e300, None]).tolist() == [2, 2, 1]
    assert fit([], scaling="quantiles").edges == ()


@given(
    st.lists(st.tuples(FINITE, st.integers(0, 4)), min_size=2, max_size=20),
    st.sampled_from(["raw", "z_score", "log_z_score", "min_max", "quantiles"]),
    st.randoms(use_true_random=False),
)
def test_the_state_does_not_depend_on_the_order_of_rows(pairs, scaling, random):
    shuffled = random.sample(pairs, len(pairs))

    def state(order):
        try:
            return fit(*zip(*order, strict=True), scaling=scaling).model_dump_json()
        except UserError as error:
            return str(error)

    assert state(pairs) == state(shuffled)


@given(st.lists(st.none() | FINITE, min_size=1, max_size=20), st.lists(st.none() | FINITE, max_size=20))
def test_no_number_that_comes_out_is_other_than_finite(train, asked):
    for scaling in ("raw", "z_score", "log_z_score", "min_max"):
        try:
            feature = fit(train, scaling=scaling)
        except UserError:
            continue
        scaled = encode(feature, asked)
        assert np.isfinite(scaled).all()
        if scaling != "raw":
            assert (np.abs(scaled) <= 10_000).all()

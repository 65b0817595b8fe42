import datetime as dt
import math

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from retrieval_contract.config import TimeFeature
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.times import encode_time, fit_time, moments_of
from retrieval_contract.errors import UserError

DAY = 86_400
SUMMER = dt.datetime(2021, 7, 14, 23, 59, 59, tzinfo=dt.UTC)


def table(values, kind=None):
    return FeatureTable(table=pa.table({"x": pa.array(values, kind)}), name="queries", side="query", num_rows=3)


def fit(part, train=(0.0,), reference_time=0.0, counts=None, **settings):
    moments = np.array(train, np.float64)
    counts = np.array(counts or [1] * len(train), np.int64)
    return fit_time(
        TimeFeature(name="x", part=part, **settings), moments, np.isfinite(moments), counts,
        reference_time=reference_time, where="queries, column x",
    )  # fmt: skip


def encode(part, moments, **settings):
    present = np.array([moment is not None for moment in moments], np.bool_)
    values = np.array([0.0 if moment is None else moment for moment in moments], np.float64)
    return encode_time(fit(part, **settings), values, present)


@given(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC)))
def test_hour_and_weekday_are_the_calendars(moment):
    second = moment.timestamp()
    assert encode("hour", [second]).tolist() == [2 + moment.hour]
    assert encode("weekday", [second]).tolist() == [2 + moment.weekday()]


def test_rows_are_int32_and_missing_is_unknown():
    rows = encode("weekday", [SUMMER.timestamp(), None])
    assert rows.dtype == np.int32
    assert rows.tolist() == [2 + 2, 1]
    assert (fit("hour").num_rows, fit("weekday").num_rows, fit("age").num_rows) == (26, 9, 0)


@pytest.mark.parametrize(
    ("part", "moments"),
    [
        ("hour_cycle", [0, DAY // 4, DAY // 2, 3 * DAY // 4]),
        ("weekday_cycle", [4 * DAY + quarter * 7 * DAY / 4 for quarter in range(4)]),
        ("year_cycle", [quarter * 365.2425 * DAY / 4 for quarter in range(4)]),
    ],
)
def test_cycles_begin_at_midnight_on_monday_and_at_new_year_and_turn_evenly(part, moments):
    pairs = encode(part, moments)
    assert pairs.dtype == np.float32
    np.testing.assert_allclose(pairs, [[0, 1], [1, 0], [0, -1], [-1, 0]], atol=1e-7)


def test_a_missing_moment_gives_zeros():
    assert encode("year_cycle", [None]).tolist() == [[0, 0]]
    assert encode("age", [None], train=(0.0, -DAY)).tolist() == [0]


def test_age_is_the_z_scored_log_of_days_before_the_last_train_row():
    days = (0.0, math.e - 1, 6.0)
    now = 1e9
    feature = fit("age", train=[now - day * DAY for day in days], counts=[1, 1, 0], reference_time=now)
    assert (feature.mean, feature.std) == (pytest.approx(0.5), pytest.approx(0.5))
    assert feature.reference_time == now
    moments = np.array([now, now - (math.e - 1) * DAY, now - (math.e**2 - 1) * DAY, now + 5 * DAY])
    scaled = encode_time(feature, moments, np.ones(4, np.bool_))
    np.testing.assert_allclose(scaled, [-1, 1, 3, -1], atol=1e-6)


def test_an_age_of_one_moment_is_zero():
    assert encode("age", [5.0, 1e12], train=(7.0, 7.0), reference_time=9.0).tolist() == [0, 0]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_extremes_give_rows_and_numbers_that_exist(moment):
    for part in ("hour", "weekday"):
        row = encode(part, [moment])[0]
        assert 2 <= row < fit(part).num_rows
    for part in ("hour_cycle", "weekday_cycle", "year_cycle"):
        assert np.abs(encode(part, [moment])).max() <= 1
    age = encode("age", [moment], train=(0.0, 1e9), reference_time=1e9)
    assert np.isfinite(age).all()


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        ([3, None, -1], pa.int32(), [3, None, -1]),
        ([1.5, math.nan, None], pa.float64(), [1.5, None, None]),
        ([SUMMER, None], pa.timestamp("ns", "Asia/Tokyo"), [SUMMER.timestamp(), None]),
        ([dt.datetime(1970, 1, 2), None], pa.timestamp("s"), [DAY, None]),
        ([dt.date(1970, 1, 3)], pa.date32(), [2 * DAY]),
        ([dt.date(1970, 1, 3)], pa.date64(), [2 * DAY]),
        ([None, None], pa.null(), [None, None]),
    ],
)
def test_columns_of_every_type_become_seconds(values, kind, wanted):
    moments, present = moments_of(TimeFeature(name="x", part="hour"), table(values, kind))
    assert moments.dtype == np.float64
    assert [moment if there else None for moment, there in zip(moments, present, strict=True)] == wanted


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["2020-01-01"], pa.string(), "string where feature 'x' needs moments .*timestamps, dates, or Unix seconds"),
        ([[1]], pa.list_(pa.int64()), "list.* where feature 'x' needs moments"),
        ([dt.time(1)], pa.time32("s"), "time32.* where feature 'x' needs moments"),
        ([1.0, math.inf], pa.float64(), r"infinity \[queries, column x, rows 1\]"),
    ],
)
def test_what_is_no_moment_is_refused(values, kind, message):
    with pytest.raises(UserError, match=message):
        moments_of(TimeFeature(name="x", part="hour"), table(values, kind))


def test_a_request_has_the_interactions_time():
    spec = TimeFeature(name="x", part="hour", at="request")
    requests = FeatureTable(table=pa.table({}), name="interactions", side="context", num_rows=2, times=np.array([7, 8]))
    moments, present = moments_of(spec, requests)
    assert (moments.tolist(), present.all()) == ([7, 8], True)
    assert not moments_of(spec, FeatureTable(table=pa.table({}), name="x", side="query", num_rows=2))[1].any()

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
)
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.hashing import buckets_of

VALUES = ("a", "b", "é")


@pytest.mark.parametrize(
    ("spec", "state", "num_rows"),
    [
        (IdFeature(name="f"), {"values": VALUES}, 5),
        (CategoricalFeature(name="f", encoding="one_hot", width=3), {"values": VALUES}, 5),
        (CategoricalFeature(name="f", num_buckets=7), {"num_buckets": 7}, 9),
        (MultivalentFeature(name="f", shares="g"), {"num_buckets": 7}, 9),
        (HistoryFeature(name="f"), {"values": VALUES}, 5),
        (HistoryFeature(name="f", ids=False, fields=("g",)), {}, 0),
        (AffinityFeature(name="f", of="g", width=3), {"values": VALUES}, 5),
        (TextFeature(name="f", num_buckets=7), {"num_buckets": 7}, 9),
        (CrossFeature(name="f", of=("g", "h")), {"num_buckets": 7}, 9),
        (NumericFeature(name="f"), {"mean": 3.0, "std": 1.0}, 0),
        (NumericFeature(name="f", scaling="quantiles"), {"edges": (1.0, 2.0)}, 5),
        (NumericFeature(name="f", scaling="quantiles"), {"edges": ()}, 3),
        (TimeFeature(name="f", part="hour"), {}, 26),
        (TimeFeature(name="f", part="weekday"), {}, 9),
        (TimeFeature(name="f", part="hour_cycle"), {}, 0),
        (DenseFeature(name="f", width=3), {}, 0),
    ],
)
def test_rows_count_padding_and_unknown(spec, state, num_rows):
    feature = FittedFeature(spec=spec, **state)
    assert feature.num_rows == num_rows
    assert (feature.name, feature.kind) == ("f", spec.kind)
    assert FittedFeature.model_validate_json(feature.model_dump_json()) == feature


@pytest.mark.parametrize(
    ("spec", "state", "message"),
    [
        (IdFeature(name="f"), {}, "'f': kind id has no vocabulary and num_buckets None"),
        (IdFeature(name="f"), {"values": VALUES, "num_buckets": 7}, "'f': kind id has a vocabulary and num_buckets 7"),
        (NumericFeature(name="f"), {"values": VALUES}, "'f': kind numeric has a vocabulary"),
        (HistoryFeature(name="f", ids=False, fields=("g",)), {"values": VALUES}, "'f': kind history has a vocabulary"),
        (DenseFeature(name="f", width=2), {"num_buckets": 2}, "'f': kind dense has no vocabulary and num_buckets 2"),
        (IdFeature(name="f"), {"values": ("a", "b", "a")}, "'f': a value stands twice"),
        (NumericFeature(name="f"), {"mean": float("nan")}, "finite"),
        (NumericFeature(name="f"), {"std": -1.0}, "greater than or equal to 0"),
        (NumericFeature(name="f", scaling="quantiles"), {"edges": (float("inf"),)}, "finite"),
    ],
)
def test_a_state_that_is_not_its_kinds_is_refused(spec, state, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        FittedFeature(spec=spec, **state)


def test_values_are_looked_up_or_hashed_or_nothing_is_known():
    values = pa.array(["é", None, "x", "a"])
    assert FittedFeature(spec=IdFeature(name="f"), values=VALUES).rows_of(values).tolist() == [4, 1, 1, 2]
    hashed = FittedFeature(spec=IdFeature(name="f", num_buckets=7), num_buckets=7).rows_of(values)
    assert hashed.tolist() == [2 + buckets_of(["é"], 7)[0], 1, *(2 + buckets_of(["x", "a"], 7))]
    without = FittedFeature(spec=HistoryFeature(name="f", ids=False, fields=("g",))).rows_of(values)
    assert without.tolist() == [1, 1, 1, 1]
    assert without.dtype == hashed.dtype == np.int32


def test_lengths_are_the_configs():
    assert FittedFeature(spec=HistoryFeature(name="f", max_length=7), values=VALUES).max_length == 7


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.text(st.characters(codec="utf-8")), unique=True, max_size=8),
    FINITE,
    st.floats(0, allow_infinity=False),
    st.lists(FINITE, max_size=5),
)
def test_any_state_comes_back_from_json_whole(values, mean, std, edges):
    for feature in (
        FittedFeature(spec=IdFeature(name="f"), values=tuple(values)),
        FittedFeature(spec=NumericFeature(name="é"), mean=mean, std=std, missing_value=-mean, low=mean, high=std),
        FittedFeature(spec=NumericFeature(name="f", scaling="quantiles"), edges=tuple(edges)),
    ):
        again = FittedFeature.model_validate_json(feature.model_dump_json())
        assert again == feature
        assert again.model_dump_json() == feature.model_dump_json()


def test_a_copy_with_other_values_looks_its_own_up():
    """The original keeps what it looks up in, and a copy begins with all that its original holds."""
    first = FittedFeature(spec=IdFeature(name="f"), values=VALUES)
    assert first.rows_of(pa.array(["é"])).tolist() == [4]
    second = first.model_copy(update={"values": ("é",)})
    assert second.rows_of(pa.array(["é", "a"])).tolist() == [2, 1]
    assert first.rows_of(pa.array(["é"])).tolist() == [4]
    assert first == FittedFeature(spec=IdFeature(name="f"), values=VALUES)

import math

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.data.columns import as_numbers, as_text, column_of, nearest
from retrieval_contract.errors import UserError


def chunked(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(10, 2)])
def test_numbers_of_every_type_become_floats(kind):
    values, present = as_numbers(chunked([1, None, 3], pa.int8()).cast(kind), where="x")
    assert values.dtype == np.float64
    assert values.tolist() == [1, 0, 3]
    assert present.tolist() == [True, False, True]


def test_booleans_and_empty_columns_are_numbers():
    assert as_numbers(chunked([True, False, None]), where="x")[0].tolist() == [1, 0, 0]
    assert as_numbers(chunked([None, None]), where="x")[1].tolist() == [False, False]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_with_their_rows(bad):
    with pytest.raises(UserError, match=r"NaN or infinity \[queries, column age, rows 1, 3\]"):
        as_numbers(chunked([0.0, bad, 2.0, bad]), where="queries, column age")


def test_text_in_a_number_column_is_refused():
    with pytest.raises(UserError, match="string where numbers are needed"):
        as_numbers(chunked(["1", "two"]), where="x")


def test_text_keeps_ids_as_they_are():
    assert as_text(chunked(["007", "Ü", "", None]), where="x").to_pylist() == ["007", "Ü", "", None]
    assert as_text(chunked([7, None]), where="x").to_pylist() == ["7", None]
    assert as_text(chunked(["a", "b", "a"]).dictionary_encode(), where="x").to_pylist() == ["a", "b", "a"]


def test_nan_among_categories_is_refused():
    with pytest.raises(UserError, match="NaN"):
        as_text(chunked([1.0, math.nan]), where="x")


def test_lists_are_no_text():
    with pytest.raises(UserError, match="multivalent"):
        as_text(chunked([["a"], ["b"]]), where="x")


def test_a_missing_column_names_the_nearest_and_who_wants_it():
    table = pa.table({"rating": [1], "other": [2]})
    with pytest.raises(UserError, match=r"no column 'ratings', which a rule needs .*did you mean 'rating'"):
        column_of(table, "ratings", where="interactions", wanted_by="a rule")
    assert nearest("zzz", ["rating"]) == "there are: rating"


def test_nan_may_be_missing_and_infinity_never():
    values, present = as_numbers(chunked([1.0, math.nan, None]), where="x", nan_is_missing=True)
    assert (values.tolist(), present.tolist()) == ([1, 0, 0], [True, False, False])
    text = as_text(chunked([1.5, math.nan, None]), where="x", nan_is_missing=True)
    assert text.to_pylist() == ["1.5", None, None]
    for read in (as_numbers, as_text):
        with pytest.raises(UserError, match=r"infinity \[x, rows 1\]"):
            read(chunked([1.0, math.inf]), where="x", nan_is_missing=True)

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.data.multivalent import lists_of
from retrieval_contract.errors import UserError


def chunked(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def test_lists_are_flattened_with_their_places():
    lists = lists_of(chunked([["a", "b"], None, [], ["c"]]), max_length=5, where="x")
    assert lists.values.to_pylist() == ["a", "b", "c"]
    assert lists.rows.tolist() == [0, 0, 3]
    assert lists.places.tolist() == [0, 1, 0]
    assert lists.padded(np.array([7, 8, 9], np.int32)).tolist() == [[7, 8], [0, 0], [0, 0], [9, 0]]


def test_only_the_first_values_are_kept():
    lists = lists_of(chunked([[1, 2, 3], [4]]), max_length=2, where="x")
    assert lists.values.to_pylist() == ["1", "2", "4"]
    assert lists.padded(np.array([2, 3, 4], np.int32)).shape == (2, 2)


def test_text_is_divided_at_bars_and_empty_values_are_left_out():
    lists = lists_of(chunked(["a|b", "", None, "|c"]), max_length=5, where="x")
    assert lists.values.to_pylist() == ["a", "b", "c"]
    assert lists.rows.tolist() == [0, 0, 3]
    assert lists.places.tolist() == [0, 1, 0]


def test_a_sliced_column_of_several_chunks_reads_right():
    column = pa.chunked_array([[["x"], ["a", "b"]], [["c", "d"], ["e"]]]).slice(1, 2)
    lists = lists_of(column, max_length=5, where="x")
    assert (lists.values.to_pylist(), lists.rows.tolist()) == (["a", "b", "c", "d"], [0, 0, 1, 1])


def test_no_value_at_all_still_has_a_width():
    lists = lists_of(chunked([[], []], pa.list_(pa.string())), max_length=3, where="x")
    assert lists.padded(np.array([], np.int32)).tolist() == [[0], [0]]


def test_single_values_are_refused():
    with pytest.raises(UserError, match="int64 where a multivalent feature needs lists"):
        lists_of(chunked([1, 2]), max_length=3, where="x")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (chunked([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2)), ["a", "b", "c", "d"]),
        (chunked([["a"], None, ["c", "d"]], pa.large_list(pa.string())), ["a", "c", "d"]),
        (chunked([None, ["c", "d"]], pa.list_(pa.string(), 2)), ["c", "d"]),
        (chunked(["a|b", "c", "a|b"]).dictionary_encode(), ["a", "b", "c", "a", "b"]),
        (chunked(["a|b", None], pa.large_string()), ["a", "b"]),
        (chunked([None, None]), []),
        (chunked([[1.5, float("nan")]]), ["1.5", None]),
    ],
)
def test_lists_of_every_type_are_read(column, values):
    lists = lists_of(column, max_length=9, where="x")
    assert lists.values.to_pylist() == values
    assert lists.num_rows == len(column)
    assert len(lists.rows) == len(lists.places) == len(values)


# ---------------------------------------------------------------- weights


def weighted(values, weights, max_length=9):
    return lists_of(chunked(values), max_length=max_length, where="queries, column x", weights=weights)


@pytest.mark.parametrize(
    "weights",
    [chunked([[1, 2, 0], None, [4]]), chunked([[1.0, 2.0, 0.0], [], [4.0]]), chunked(["1|2.0|0", None, "4e0"])],
)
def test_weights_stand_beside_their_values(weights):
    lists = weighted([["a", "b", "c"], None, ["d"]], weights, max_length=2)
    assert lists.weights.dtype == np.float32
    assert lists.weights.tolist() == [1, 2, 4]
    assert lists.padded(lists.weights).tolist() == [[1, 2], [0, 0], [4, 0]]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[1.0], [2.0]], r"differ in length, first 1 against 2 \[queries, column x, rows 0\]"),
        ([[1.0, 2.0], None], r"differ in length, first 0 against 1 .*rows 1"),
        ([[1.0, 2.0], [-1.0]], r"missing, negative or too large .*rows 1"),
        ([[1.0, None], [1.0]], r"missing, negative or too large .*rows 0"),
        ([[1.0, float("nan")], [1.0]], "missing, negative"),
        ([[1.0, float("inf")], [1.0]], "infinity"),
        ([[1.0, 1e39], [1.0]], "too large"),
        ([["a", "b"], ["c"]], "string where numbers are needed"),
        (["1|2", "x"], "weights that are no numbers"),
        ([1.0, 2.0], "double where a multivalent feature needs lists"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        weighted([["a", "b"], ["c"]], chunked(weights))

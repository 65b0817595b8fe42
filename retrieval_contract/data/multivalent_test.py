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

import pytest
import tensorflow as tf

from tfrs_models.preprocessing.lists import at_windows, padded, ragged_lists, windows
from tfrs_models.preprocessing.rows import MISSING_TEXT


def as_lists(tensors):
    return [tensor if tensor is None else tensor.to_list() for tensor in tensors]


def test_ragged_lists_are_taken_as_they_are():
    values, weights = tf.ragged.constant([["", "a"], []]), tf.ragged.constant([[1.0, 2.0], []])
    assert as_lists(ragged_lists(values, weights, None)) == [[[b"", b"a"], []], [[1.0, 2.0], []], None]


def test_empty_texts_pad_a_rectangle_and_what_stands_beside_them():
    values = tf.constant([["a", "", "b"], ["", "", ""], ["c", "", ""]])
    weights = tf.constant([[1.0, 9.0, 2.0], [9.0, 9.0, 9.0], [3.0, 9.0, 9.0]])
    expected = [[[b"a", b"b"], [], [b"c"]], [[1.0, 2.0], [], [3.0]]]
    assert as_lists(ragged_lists(values, weights)) == expected
    ragged_weights = tf.ragged.constant([[1.0, 2.0], [], [3.0]])
    assert as_lists(ragged_lists(values, ragged_weights)) == expected


def test_negative_numbers_pad_a_rectangle():
    values = tf.constant([[0, 7, -1], [-1, -1, -1]], tf.int64)
    assert as_lists(ragged_lists(values)) == [[[0, 7], []]]


def test_a_rectangle_may_have_no_column():
    assert as_lists(ragged_lists(tf.zeros([2, 0], tf.string), tf.zeros([2, 0]))) == [[[], []], [[], []]]


def test_text_is_split_at_bars():
    assert as_lists(ragged_lists(tf.constant(["a||b", "", "|", MISSING_TEXT, "c"]))) == [
        [[b"a", b"b"], [], [], [], [b"c"]]
    ]


def test_lists_of_other_lengths_are_refused():
    values, weights = tf.ragged.constant([["a"], ["b", "c"]]), tf.ragged.constant([[1.0, 2.0], [3.0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="lists that belong together differ"):
        ragged_lists(values, weights)
    graph = tf.function(lambda values, weights: ragged_lists(values, weights)[1].to_tensor())
    with pytest.raises(tf.errors.InvalidArgumentError, match="lists that belong together differ"):
        graph(values, weights)


WHOLE = tf.ragged.constant([[1, 2, 3], [], [4]])


def test_the_first_values_are_kept_and_there_is_always_a_place():
    assert padded(WHOLE, 2).numpy().tolist() == [[1, 2], [0, 0], [4, 0]]
    assert padded(WHOLE, 9).numpy().tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]]
    assert padded(tf.ragged.constant([[], []], dtype=tf.int32), 5).numpy().tolist() == [[0], [0]]
    assert padded(WHOLE[:0], 5).shape == (0, 1)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [[3], [0], [4]]), (2, [[2, 3], [0, 0], [4, 0]]), (4, [[1, 2, 3, 0], [0] * 4, [4, 0, 0, 0]])],
)
def test_windows_hold_the_last_values(length, expected):
    assert at_windows(WHOLE.flat_values, windows(WHOLE, length)).numpy().tolist() == expected


def test_windows_of_nothing():
    assert windows(WHOLE[:0], 3).shape == (0, 3)
    assert at_windows(tf.zeros([0]), windows(WHOLE[1:2], 2)).numpy().tolist() == [[0, 0]]

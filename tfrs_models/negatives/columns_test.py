import pytest
import tensorflow as tf

from tfrs_models.negatives.columns import Columns, joined


def _columns(first, num, *, bias=True, dtype=tf.float32):
    numbers = tf.cast(tf.range(first, first + num), dtype)
    return Columns(
        tf.stack([numbers, -numbers], axis=1), tf.range(first, first + num), numbers / 10, numbers * 2 if bias else None
    )


def test_parts_follow_one_another():
    both = joined([_columns(1, 2), _columns(7, 3)])
    assert both.rows_N.numpy().tolist() == [1, 2, 7, 8, 9]
    assert both.vectors_ND.numpy()[:, 1].tolist() == [-1, -2, -7, -8, -9]
    assert both.bias_N.numpy().tolist() == [2, 4, 14, 16, 18]


def test_one_part_is_itself_and_an_empty_part_adds_nothing():
    part = _columns(1, 2)
    assert joined([part]) is part
    assert joined([part, _columns(5, 0)]).rows_N.numpy().tolist() == [1, 2]


def test_without_a_bias_there_is_none():
    assert joined([_columns(1, 2, bias=False), _columns(3, 1, bias=False)]).bias_N is None


def test_some_with_a_bias_and_some_without_is_a_mistake():
    with pytest.raises(AssertionError, match="bias"):
        joined([_columns(1, 2), _columns(3, 1, bias=False)])


def test_float64_stays_float64():
    both = joined([_columns(1, 1, dtype=tf.float64), _columns(2, 1, dtype=tf.float64)])
    assert {tensor.dtype for tensor in both} == {tf.float64, tf.int32}

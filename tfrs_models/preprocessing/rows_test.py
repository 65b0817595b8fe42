import math

import pytest
import siphash24
import tensorflow as tf

from tfrs_models.preprocessing.rows import MISSING_TEXT, HashedRows, VocabularyTable, bucket_rows, cross_rows

KEY = bytes.fromhex("65776f742d6f7774 312d687361682d72")
"""The key as bytes, written down once more: `two-tower-hash-1` by words of eight, each back to front."""


def bucket(text, num_buckets):
    return int.from_bytes(siphash24.siphash24(text.encode(), key=KEY).digest(), "little") % num_buckets


def test_a_vocabulary_gives_rows_from_two_and_one_to_the_rest():
    table = VocabularyTable(["b", "", "é"])
    values = tf.constant(["é", "b", "", "e\u0301", "B", MISSING_TEXT])
    assert table(values).numpy().tolist() == [4, 2, 3, 1, 1, 1]
    assert table(tf.ragged.constant([["b"], [], ["x", "é"]])).to_list() == [[2], [], [1, 4]]
    assert VocabularyTable([])(tf.constant(["b"])).numpy().tolist() == [1]


def test_hashed_values_have_the_rows_of_the_stated_hash():
    texts = ["", "a", "日本", "x" * 1_000]
    expected = [2 + bucket(text, 1_000) for text in texts]
    assert HashedRows(1_000)(tf.constant(texts)).numpy().tolist() == expected
    assert HashedRows(1_000)(tf.ragged.constant([texts, []])).to_list() == [expected, []]
    assert HashedRows(1)(tf.constant(texts)).numpy().tolist() == [2] * 4


def test_a_missing_value_is_not_hashed():
    assert HashedRows(50)(tf.constant([MISSING_TEXT, "a"])).numpy()[0] == 1


def test_a_cross_hashes_rows_in_decimal():
    parts = [tf.constant([1, 12]), tf.constant([13, 3]), tf.constant([0, 100_000])]
    expected = [2 + bucket("1x13x0", 77), 2 + bucket("12x3x100000", 77)]
    assert cross_rows(parts, 77).numpy().tolist() == expected


@pytest.mark.parametrize(
    ("edges", "values", "rows"),
    [
        ((), [-math.inf, 0.0, math.inf], [2, 2, 2]),
        ((18.0, 25.0), [17.999, 18.0, 24.0, 25.0, 1e300, -math.inf], [2, 3, 3, 4, 4, 2]),
        ((0.0,), [0.0, -0.0, 5e-324, -5e-324], [3, 3, 3, 2]),
        ((-0.0,), [0.0, -0.0, 5e-324, -5e-324], [3, 3, 3, 2]),
        ((-2.0, -1.0), [-3.0, -2.0, -1.5, -1.0], [2, 3, 3, 4]),
    ],
)
def test_an_edge_belongs_to_the_bucket_above(edges, values, rows):
    present = tf.ones([len(values)], tf.bool)
    assert bucket_rows(tf.constant(values, tf.float64), present, edges).numpy().tolist() == rows


def test_a_missing_number_has_row_one():
    assert bucket_rows(
        tf.constant([math.nan, 5.0], tf.float64), tf.constant([False, True]), (1.0,)
    ).numpy().tolist() == [1, 3]

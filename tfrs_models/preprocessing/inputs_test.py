import math

import pytest
import tensorflow as tf

from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_inputs import RawInput, input_names
from tfrs_models.preprocessing.inputs import MISSING_MOMENT, RawRows
from tfrs_models.preprocessing.rows import MISSING_TEXT

CITY, PRICE, DAY = RawInput("city", "text"), RawInput("price", "number"), RawInput("time", "moment", "request")
TAGS, WEIGHTS = RawInput("tags", "texts"), RawInput("tag_weights", "numbers")
VECTOR, TOKENS = RawInput("vector", "vector", width=2), RawInput("title", "tokens")
ALL = (CITY, PRICE, DAY, TAGS, WEIGHTS, VECTOR, TOKENS)


def rows(**raw):
    return RawRows(input_names(ALL), raw)


def test_what_is_left_out_is_missing():
    left = rows(city=tf.constant(["x", "y"]))
    assert left.column(CITY).numpy().tolist() == [b"x", b"y"]
    assert left.column(DAY).numpy().tolist() == [MISSING_MOMENT] * 2
    assert all(math.isnan(value) for value in left.column(PRICE).numpy())
    assert left.column(VECTOR).shape == (2, 2)
    values, weights = left.lists(TAGS, WEIGHTS)
    assert values.to_list() == [[], []]
    assert weights is None
    assert rows(price=tf.constant([1.0])).column(CITY).numpy().tolist() == [MISSING_TEXT]


def test_numbers_are_read_as_training_read_them():
    """As Arrow writes them: whole numbers in decimal, booleans as words; as numbers, booleans are 0 and 1."""
    assert rows(city=tf.constant([7, -1])).column(CITY).numpy().tolist() == [b"7", b"-1"]
    assert rows(city=tf.constant([True, False])).column(CITY).numpy().tolist() == [b"true", b"false"]
    assert rows(price=tf.constant([True, False])).column(PRICE).numpy().tolist() == [1.0, 0.0]
    assert rows(price=tf.constant([3], tf.int32)).column(PRICE).dtype == tf.float64
    assert rows(tags=tf.ragged.constant([[1, 22], []])).lists(TAGS)[0].to_list() == [[b"1", b"22"], []]


@pytest.mark.parametrize(
    ("raw", "read", "message"),
    [
        ({"city": tf.constant([1.5])}, CITY, "input 'city': float32 where string is needed"),
        ({"price": tf.constant(["1.5"])}, PRICE, "input 'price': string where float64 is needed"),
        ({"time": tf.constant([1.5])}, DAY, "input 'time': float32 where int64 is needed"),
        ({"city": tf.constant([["x"]])}, CITY, r"input 'city': shape \(1, 1\) where rank 1 is needed"),
        ({"vector": tf.constant([[1.0, 2.0, 3.0]])}, VECTOR, "width 3 where the feature has width 2"),
    ],
)
def test_inputs_of_another_type_or_shape_are_refused(raw, read, message):
    with pytest.raises(UserError, match=message):
        rows(**raw).column(read)


def test_a_column_of_lists_needs_lists():
    with pytest.raises(UserError, match=r"input 'tag_weights': shape \(1,\) where rank 2 is needed"):
        rows(tags=tf.constant(["a|b"]), tag_weights=tf.constant([1.0])).lists(TAGS, WEIGHTS)
    with pytest.raises(UserError, match="input 'title': shape"):
        rows(title=tf.constant([1])).lists(TOKENS)


def test_unknown_names_and_no_input_are_refused():
    with pytest.raises(UserError, match=r"no input 'citty'.*did you mean 'city'"):
        rows(citty=tf.constant(["x"]))
    with pytest.raises(UserError, match=r"nobody knows how many rows.*city, price"):
        rows()

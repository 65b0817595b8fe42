import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config import HistoryFeature, IdFeature, MultivalentFeature, NumericFeature, Tower
from tfrs_models.layers.features import FeatureCombiner

TABLE = np.asarray([[0, 0], [1, 10], [2, 20], [3, 30], [4, 40]], np.float32)


def _combiner(*features, combine="concat", dtype="float32"):
    combiner = FeatureCombiner(
        Tower(features=features, combine=combine), {feature.name: 5 for feature in features}, dtype=dtype
    )
    for table in combiner.tables.values():
        table.assign(TABLE.astype(dtype))
    return combiner


ID = IdFeature(name="a", width=2)
LIST = MultivalentFeature(name="b", width=2)
HISTORY = HistoryFeature(name="h", width=2)
NUMBER = NumericFeature(name="n")


def test_parts_stand_in_the_configured_order():
    features = {"a": tf.constant([4, 1]), "n": tf.constant([0.5, -2.0]), "not_asked_for": tf.constant([1])}
    assert _combiner(ID, NUMBER)(features).numpy().tolist() == [[4, 40, 0.5], [1, 10, -2]]
    assert _combiner(NUMBER, ID)(features).numpy().tolist() == [[0.5, 4, 40], [-2, 1, 10]]


def test_sum_adds_embeddings():
    combined = _combiner(ID, LIST, combine="sum")({"a": tf.constant([1]), "b": tf.constant([[2, 4]])})
    assert combined.numpy().tolist() == [[1 + 3, 10 + 30]]


@pytest.mark.parametrize("feature", [LIST, HISTORY])
def test_a_list_is_the_mean_of_what_it_holds(feature):
    rows = tf.constant([[2, 3, 0], [4, 0, 0], [3, 3, 1], [0, 0, 0]])
    combined = _combiner(feature)({feature.name: rows})
    np.testing.assert_allclose(combined, [[2.5, 25], [4, 40], [7 / 3, 70 / 3], [0, 0]], rtol=1e-6)


def test_masked_equals_deleted():
    combiner = _combiner(LIST)
    wide = combiner({"b": tf.constant([[2, 3, 0, 0], [1, 0, 0, 0]])})
    np.testing.assert_array_equal(wide, combiner({"b": tf.constant([[2, 3], [1, 0]])}))


def test_the_padding_row_neither_matters_nor_learns():
    combiner, rows = _combiner(LIST), {"b": tf.constant([[2, 0], [0, 0]])}
    want = combiner(rows).numpy()
    combiner.tables["b"].scatter_update(tf.IndexedSlices(tf.constant([[float("nan"), 7.0]]), tf.constant([0])))
    with tf.GradientTape() as tape:
        combined = combiner(rows)
    np.testing.assert_array_equal(combined, want)
    gradient = tf.convert_to_tensor(tape.gradient(combined, combiner.tables["b"]))
    assert gradient.numpy().tolist() == [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0]]


def test_an_empty_width_of_lists_is_all_empty_lists():
    assert _combiner(LIST)({"b": tf.zeros([2, 0], tf.int32)}).numpy().tolist() == [[0, 0], [0, 0]]


def test_the_gradient_of_a_table_is_sparse_and_counts_duplicates():
    combiner = _combiner(ID)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(combiner({"a": tf.constant([3, 3, 1])}))
    gradient = tape.gradient(total, combiner.tables["a"])
    assert isinstance(gradient, tf.IndexedSlices)
    assert tf.convert_to_tensor(gradient).numpy()[:, 0].tolist() == [0, 1, 0, 2, 0]


def test_float64_numbers_come_from_float32_ones():
    combined = _combiner(ID, NUMBER, dtype="float64")({"a": tf.constant([2]), "n": tf.constant([0.1], tf.float32)})
    assert combined.dtype == tf.float64
    assert combined.numpy().tolist() == [[2, 20, float(np.float32(0.1))]]

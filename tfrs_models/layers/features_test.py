import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    ComiRecPooling,
    CrossFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
    Tower,
)
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


ONE_ROW = {
    "categorical": CategoricalFeature(name="f", width=2),
    "buckets": NumericFeature(name="f", scaling="buckets", edges=(1.0, 2.0), width=2),
    "quantiles": NumericFeature(name="f", scaling="quantiles", width=2),
    "hour": TimeFeature(name="f", part="hour", width=2),
    "weekday": TimeFeature(name="f", part="weekday", width=2),
}


@pytest.mark.parametrize("kind", ONE_ROW)
def test_one_row_is_its_embedding(kind):
    assert _combiner(ONE_ROW[kind])({"f": tf.constant([3, 1])}).numpy().tolist() == [[3, 30], [1, 10]]


def test_a_cross_is_looked_up_beside_its_parts():
    city = CategoricalFeature(name="c", width=2)
    cross = CrossFeature(name="x", of=("a", "c"), width=2)
    found = _combiner(ID, city, cross)({"a": tf.constant([1]), "c": tf.constant([2]), "x": tf.constant([4])})
    assert found.numpy().tolist() == [[1, 10, 2, 20, 4, 40]]


def test_numbers_stand_as_they_are():
    features = {
        "flagged": tf.constant([[0.5, 1.0]]),
        "age": tf.constant([2.0]),
        "cycle": tf.constant([[0.1, 0.2]]),
        "vector": tf.constant([[1.0, 2.0, 3.0]]),
        "shares": tf.constant([[0.25, 0.75]]),
        "colour": tf.constant([3]),
    }
    found = _combiner(
        NumericFeature(name="flagged", missing_flag=True),
        TimeFeature(name="age", part="age"),
        TimeFeature(name="cycle", part="hour_cycle"),
        DenseFeature(name="vector", width=3),
        AffinityFeature(name="shares", of="genre", width=2),
        CategoricalFeature(name="colour", width=2, encoding="one_hot"),
    )(features)
    np.testing.assert_allclose(found, [[0.5, 1, 2, 0.1, 0.2, 1, 2, 3, 0.25, 0.75, 0, 1]], rtol=1e-7)


def test_a_dense_vector_goes_through_its_projection():
    combiner = _combiner(DenseFeature(name="d", width=3, projection=2))
    combiner.projections["d"].assign([[1, 0], [0, 1], [1, 1]])
    assert combiner({"d": tf.constant([[1.0, 2, 3]])}).numpy().tolist() == [[4, 5]]


@pytest.mark.parametrize(("pooling", "want"), [("sum", [7, 70]), ("max", [4, 40]), ("mean", [3.5, 35])])
def test_texts_and_lists_are_pooled_as_they_say(pooling, want):
    rows = tf.constant([[3, 4, 0], [0, 0, 0]])
    for kind in (TextFeature, MultivalentFeature):
        found = _combiner(kind(name="t", width=2, pooling=pooling))({"t": rows})
        assert found.numpy().tolist() == [want, [0, 0]]


def test_a_list_is_weighed_where_weights_stand_beside_it():
    weighed = MultivalentFeature(name="b", width=2, weights_column="w")
    found = _combiner(weighed)({"b": tf.constant([[2, 4, 0]]), "b.weights": tf.constant([[3.0, 1.0, 9.0]])})
    assert found.numpy().tolist() == [[2.5, 25]]


def test_the_contexts_arrays_have_a_prefix():
    combiner = FeatureCombiner(Tower(features=(CategoricalFeature(name="c", width=2),)), {"c": 5}, side="context")
    combiner.tables["c"].assign(TABLE)
    assert combiner({"c": tf.constant([2]), "context.c": tf.constant([3])}).numpy().tolist() == [[3, 30]]


def test_a_shared_lookup_is_the_candidates_variable():
    candidate = _combiner(ID, LIST)
    shares = CategoricalFeature(name="last", width=2, shares="a")
    combiner = FeatureCombiner(Tower(features=(shares, NUMBER)), {}, candidate=candidate)
    assert not combiner.tables
    assert combiner.lookups["last"] is candidate.tables["a"]
    assert combiner({"last": tf.constant([4]), "n": tf.constant([0.5])}).numpy().tolist() == [[4, 40, 0.5]]


def test_the_other_features_stand_beside_each_interest():
    history = HistoryFeature(name="h", width=2, pooling=ComiRecPooling(num_interests=3, attention_dim=2))
    combiner = _combiner(history, ID)
    found = combiner({"h": tf.constant([[2, 4], [0, 0]]), "a": tf.constant([1, 3])}).numpy()
    assert found.shape == (2, 3, 4)
    # Kernels are zero, so that attention is even.
    assert found[0].tolist() == [[3, 30, 1, 10]] * 3
    assert found[1].tolist() == [[0, 0, 3, 30]] * 3

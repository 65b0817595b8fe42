import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
    Tower,
    WeightedMeanPooling,
)
from tfrs_models.layers.history import HistoryEncoder, numbers

CANDIDATE = Tower(
    features=(
        IdFeature(name="id", width=2),
        MultivalentFeature(name="genres", width=2, pooling="sum", weights_column="w"),
        TextFeature(name="title", width=2, pooling="max"),
        CategoricalFeature(name="city", width=2),
        CategoricalFeature(name="colour", width=3, encoding="one_hot"),
        NumericFeature(name="price"),
        NumericFeature(name="size", missing_flag=True),
        DenseFeature(name="vector", width=3, projection=7),
    )
)
FIELDS = tuple(feature.name for feature in CANDIDATE.features[1:])
TABLES = ("past", "past.genres", "past.title", "past.city")
COUNTS = [3, 1, 0]
REAL = np.arange(3) < np.asarray(COUNTS)[:, None]
GENERATOR = np.random.default_rng(0)


def _rows(*shape):
    return GENERATOR.integers(1, 5, shape).astype(np.int32)


ARRAYS = {
    "past": _rows(3, 3) * REAL,
    "past.genres": _rows(3, 3, 2) * REAL[:, :, None] * np.asarray([1, 0]),
    "past.genres.weights": GENERATOR.uniform(0.5, 2, (3, 3, 2)).astype(np.float32),
    "past.title": _rows(3, 3, 2) * REAL[:, :, None],
    "past.city": _rows(3, 3) * REAL,
    "past.colour": _rows(3, 3) * REAL,
    "past.price": GENERATOR.normal(size=(3, 3)).astype(np.float32),
    "past.size": GENERATOR.normal(size=(3, 3, 2)).astype(np.float32),
    "past.vector": GENERATOR.normal(size=(3, 3, 3)).astype(np.float32),
    "past.ages": _rows(3, 3) * REAL,
    "past.weights": GENERATOR.uniform(0.5, 2, (3, 3)).astype(np.float32) * REAL,
}


def _tensors(arrays=ARRAYS):
    integers = {name: values.astype(np.int32) for name, values in arrays.items() if values.dtype.kind == "i"}
    return {name: tf.constant(values) for name, values in {**arrays, **integers}.items()}


def _encoder(dtype="float64", shared=None, **settings):
    history = HistoryFeature(name="past", width=2, max_length=3, fields=FIELDS, age_buckets=4, **settings)
    sizes = dict.fromkeys(TABLES, 5)
    encoder = HistoryEncoder(history, CANDIDATE, sizes, dtype, shared)
    generator = np.random.default_rng(1)
    for variable in encoder.variables:
        variable.assign(generator.normal(size=variable.shape))
    return encoder


def _item(encoder, row, place, *, ids=True):
    """One item, field by field."""
    table = {name: variable.numpy() for name, variable in encoder.lookups.items()}
    kernel = {name: variable.numpy() for name, variable in encoder.kernels.items()}
    at = {name.removeprefix("past."): values[row, place] for name, values in ARRAYS.items()}
    x = table["past"][at["past"]].copy() if ids else np.zeros(2)
    for genre, weight in zip(at["genres"], at["genres.weights"], strict=True):
        x += weight * table["past.genres"][genre] if genre else 0
    x += table["past.title"][at["title"]].max(axis=0)
    x += table["past.city"][at["city"]]
    x += kernel["colour"][at["colour"] - 2] if at["colour"] >= 2 else 0
    x += at["price"] * kernel["price"][0] + at["size"] @ kernel["size"] + at["vector"] @ kernel["vector"]
    return x + table["past.age"][at["ages"]]


@pytest.mark.parametrize("ids", [True, False])
def test_items_by_hand(ids):
    encoder = _encoder(ids=ids)
    items, real = encoder._items(_tensors(), None)
    np.testing.assert_array_equal(real, REAL)
    for row, count in enumerate(COUNTS):
        for place in range(3):
            want = _item(encoder, row, place, ids=ids) if place < count else np.zeros(2)
            np.testing.assert_allclose(items[row, place], want, rtol=1e-6)


def test_a_mean_and_a_weighted_mean_by_hand():
    for pooling, weights in (({}, REAL), ({"pooling": WeightedMeanPooling()}, ARRAYS["past.weights"])):
        encoder = _encoder(**pooling)
        found = encoder(_tensors())
        for row, count in enumerate(COUNTS):
            items = [weights[row, place] * _item(encoder, row, place) for place in range(count)]
            want = sum(items) / weights[row].sum() if count else np.zeros(2)
            np.testing.assert_allclose(found[row], want, rtol=1e-6)


def test_shared_tables_are_the_candidates_and_numbers_keep_own_maps():
    names = ("id", "genres", "title", "city")
    shared = {name: tf.Variable(np.full((5, 2), number + 1.0)) for number, name in enumerate(names)}
    encoder = _encoder(shares=True, shared=shared)
    assert set(encoder.tables) == {"past.age"}
    assert [encoder.lookups[name] for name in TABLES] == [shared[name] for name in names]
    assert set(encoder.kernels) == {"colour", "price", "size", "vector"}


def test_padded_places_neither_matter_nor_learn():
    encoder = _encoder()
    spoiled = {
        name: np.where(REAL.reshape(REAL.shape + (1,) * (values.ndim - 2)), values, 3 if name != "past" else 0)
        for name, values in ARRAYS.items()
    }
    spoiled["past.price"] = np.where(REAL, ARRAYS["past.price"], np.float32(np.nan))
    gradients = []
    for arrays in (ARRAYS, spoiled):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(encoder(_tensors(arrays)) ** 2)
        gradients.append([tf.convert_to_tensor(x).numpy() for x in tape.gradient(total, encoder.trainable_variables)])
    for before, after in zip(*gradients, strict=True):
        assert np.isfinite(before).all()
        np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-15)


def test_dropout_acts_on_items_by_its_seed():
    encoder, seed = _encoder(dropout=0.5), tf.constant([1, 2], tf.int64)
    plain, dropped = encoder._items(_tensors(), None)[0].numpy(), encoder._items(_tensors(), seed)[0].numpy()
    np.testing.assert_array_equal(encoder._items(_tensors(), seed)[0], dropped)
    assert set(np.round(dropped[REAL] / plain[REAL], 6).ravel()) == {0.0, 2.0}


def test_numbers_of_features():
    one_hot = numbers(CANDIDATE.features[4], tf.constant([0, 1, 2, 4, 5]), "float32")
    assert one_hot.numpy().tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    for feature, shape in (
        (NumericFeature(name="a"), (4,)),
        (NumericFeature(name="a", missing_flag=True), (4, 2)),
        (TimeFeature(name="a", part="age"), (4,)),
        (TimeFeature(name="a", part="hour_cycle"), (4, 2)),
        (DenseFeature(name="a", width=1), (4, 1)),
        (DenseFeature(name="a", width=3, projection=1), (4, 3)),
        (AffinityFeature(name="a", of="b", width=1), (4, 1)),
    ):
        x = numbers(feature, tf.zeros(shape, tf.float32), "float64")
        assert (x.shape, x.dtype) == ((4, shape[1] if len(shape) > 1 else 1), tf.float64)

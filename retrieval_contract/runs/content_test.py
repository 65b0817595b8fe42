"""Content vectors against a loop over candidates and values."""

import numpy as np
import pytest

from retrieval_contract import config as c
from retrieval_contract.runs.content import content_vectors

RANDOM = np.random.default_rng(0)
LISTS = np.array([[2, 3, 4], [3, 0, 0], [0, 0, 0], [1, 2, 2]], np.int32)
LIST_WEIGHTS = np.array([[1, 2, 0.5], [3, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32)


def by_hand(pooling, table, weighted):
    vectors = np.zeros((4, table.shape[1]))
    for row, values in enumerate(LISTS):
        items = [(table[value], LIST_WEIGHTS[row, m] if weighted else 1.0) for m, value in enumerate(values) if value]
        if not items:
            continue
        if pooling == "max":
            vectors[row] = np.max([vector for vector, _ in items], axis=0)
            continue
        total = np.sum([weight * vector for vector, weight in items], axis=0)
        size = sum(weight for _, weight in items)
        size = {"sum": 1.0, "mean": size, "sqrt_n": sum(weight**2 for _, weight in items) ** 0.5}[pooling]
        vectors[row] = total / size if size else 0
    return vectors


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrt_n", "max"])
def test_lists_are_pooled_as_the_feature_says(pooling, weighted):
    tags = c.MultivalentFeature(name="tags", width=3, pooling=pooling, weights_column="w" if weighted else None)
    table = RANDOM.standard_normal((5, 3)).astype(np.float32)
    # Padding has a row in the table, which must not count.
    table[0] = 100
    features = {"tags": LISTS, **({"tags.weights": LIST_WEIGHTS} if weighted else {})}
    found = content_vectors(c.Tower(features=(tags,)), features, {"candidate.embedding.tags": table})
    np.testing.assert_allclose(found, by_hand(pooling, table, weighted), rtol=1e-6, atol=1e-7)


def test_features_stand_end_to_end_in_order_without_the_id():
    tower = c.Tower(
        features=(
            c.DenseFeature(name="dense", width=2, projection=3),
            c.IdFeature(name="candidate_id", width=7),
            c.CategoricalFeature(name="colour", width=2),
            c.CategoricalFeature(name="shape", width=2, encoding="one_hot"),
            c.NumericFeature(name="price", missing_flag=True),
            c.NumericFeature(name="size", scaling="buckets", edges=(1.0,), width=2),
            c.TimeFeature(name="age", part="age"),
            c.TextFeature(name="words", width=2, num_buckets=3),
        )
    )
    features = {
        "candidate_id": np.array([2, 3], np.int32),
        "dense": np.array([[1, 2], [0, 1]], np.float32),
        "colour": np.array([1, 2], np.int32),
        "shape": np.array([3, 1], np.int32),
        "price": np.array([[0.5, 0], [0, 1]], np.float32),
        "size": np.array([2, 3], np.int32),
        "age": np.array([-1, 1], np.float32),
        "words": np.array([[2], [0]], np.int32),
    }
    tables = {"colour": (3, 2), "size": (4, 2), "words": (5, 2)}
    weights = {f"candidate.embedding.{name}": RANDOM.random(shape, np.float32) for name, shape in tables.items()}
    weights["candidate.projection.dense"] = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    found = content_vectors(tower, features, weights)
    colour, size, words = (weights[f"candidate.embedding.{name}"] for name in tables)
    expected = [
        [1, 2, 3, *colour[1], 0, 1, 0.5, 0, *size[2], -1, *words[2]],
        [0, 1, 1, *colour[2], 0, 0, 0, 1, *size[3], 1, 0, 0],
    ]
    np.testing.assert_allclose(found, np.array(expected, np.float32))


def test_a_tower_of_ids_has_no_content():
    assert content_vectors(c.Tower(features=(c.IdFeature(name="candidate_id"),)), {}, {}) is None

import math

import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    HistoryFeature,
    IdFeature,
    MeanPooling,
    MultivalentFeature,
    NumericFeature,
    WeightedMeanPooling,
)
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.errors import UserError
from tfrs_models.preprocessing import MISSING_MOMENT, FeaturePreprocessor

IDS = ["c0", "c1", "c2"]
CATALOGUE = {
    "candidate_id": np.asarray([2, 3, 1], np.int32),
    "genre": np.asarray([2, 4, 1], np.int32),
    "tags": np.asarray([[2, 3], [3, 1], [0, 0]], np.int32),
    "tags.weights": np.asarray([[0.5, 1.5], [2, 2], [0, 0]], np.float32),
    "year": np.asarray([0.5, -0.5, 1.5], np.float32),
}
CANDIDATE = (
    FittedFeature(spec=IdFeature(name="candidate_id"), values=("c0", "c1")),
    FittedFeature(spec=CategoricalFeature(name="genre"), values=("a", "b", "c")),
    FittedFeature(spec=MultivalentFeature(name="tags", weights_column="w"), values=("x", "y")),
    FittedFeature(spec=NumericFeature(name="year", scaling="raw"), missing_value=7.0),
)


def encode(spec, values=("c1", "c2"), **raw):
    values = None if isinstance(spec, HistoryFeature) and not spec.ids else values
    fitted = FittedFeatures(query=(FittedFeature(spec=spec, values=values),), candidate=CANDIDATE)
    preprocessor = FeaturePreprocessor(fitted, "query", candidate_ids=IDS, candidate_features=CATALOGUE)
    return {name: tensor.numpy().tolist() for name, tensor in preprocessor(raw).items()}


PASTS = tf.ragged.constant([["c0", "c1", "c2", "c1"], [], ["c9"]])


def test_the_last_items_are_kept_oldest_first():
    assert encode(HistoryFeature(name="h", max_length=3), history=PASTS) == {"h": [[2, 3, 2], [0, 0, 0], [1, 0, 0]]}
    assert encode(HistoryFeature(name="h", max_length=5), history=PASTS)["h"][0] == [1, 2, 3, 2, 0]


def test_ids_that_share_a_hashed_table_are_hashed():
    feature = FittedFeature(spec=HistoryFeature(name="h", max_length=2, shares=True), num_buckets=50)
    hashed = FittedFeature(spec=CategoricalFeature(name="id", num_buckets=50), num_buckets=50)
    candidate_id = FittedFeature(spec=IdFeature(name="candidate_id", num_buckets=50), num_buckets=50)
    fitted = FittedFeatures(query=(feature, hashed), candidate=(candidate_id,))
    encoded = FeaturePreprocessor(fitted, "query")({"history": PASTS, "id": tf.constant(["c2", "c1", "c9"])})
    rows = encoded["id"].numpy().tolist()
    assert encoded["h"].numpy().tolist() == [[rows[0], rows[1]], [0, 0], [rows[2], 0]]
    assert min(rows) >= 2


def test_fields_of_a_candidate_that_is_not_in_the_catalogue_are_those_of_one_without_any_attribute():
    spec = HistoryFeature(name="h", max_length=2, ids=False, fields=("genre", "tags", "year"))
    encoded = encode(spec, history=tf.ragged.constant([["c0", "c1"], ["c9"], []]))
    assert encoded["h"] == [[1, 1], [1, 0], [0, 0]]
    assert encoded["h.genre"] == [[2, 4], [1, 0], [0, 0]]
    assert encoded["h.tags"] == [[[2, 3], [3, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert encoded["h.tags.weights"] == [[[0.5, 1.5], [2, 2]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert encoded["h.year"] == [[0.5, -0.5], [7, 0], [0, 0]]


def test_ages_fall_into_buckets_that_double():
    hours = [0, 0.99, 1, 2.99, 3, 6.99, 7, 1e6]
    times = tf.constant([[100_000_000_000 - int(3_600 * hour) for hour in hours]], tf.int64)
    history, now = tf.constant([["c0"] * len(hours)]), tf.constant([100_000_000_000], tf.int64)
    spec = HistoryFeature(name="h", max_length=8, age_buckets=4)
    assert encode(spec, history=history, history_times=times, time=now)["h.ages"] == [[1, 1, 2, 2, 3, 3, 4, 4]]
    spec = HistoryFeature(name="h", max_length=8, age_buckets=200)
    assert encode(spec, history=history, history_times=times, time=now)["h.ages"][0][-1] == 20


@pytest.mark.parametrize(
    "times",
    [
        {},
        {"time": tf.constant([500], tf.int64)},
        {"history_times": tf.constant([[-(10**12)]], tf.int64)},
        {"history_times": tf.constant([[5]], tf.int64), "time": tf.constant([MISSING_MOMENT])},
        {"history_times": tf.constant([[MISSING_MOMENT]]), "time": tf.constant([500], tf.int64)},
        {"history_times": tf.constant([[501]], tf.int64), "time": tf.constant([500], tf.int64)},
    ],
)
def test_an_age_that_is_not_known_is_none(times):
    spec = HistoryFeature(name="h", max_length=1, age_buckets=4, pooling=WeightedMeanPooling(half_life_days=0.001))
    encoded = encode(spec, history=tf.constant([["c0"]]), **times)
    assert (encoded["h.ages"], encoded["h.weights"]) == ([[1]], [[1.0]])


def test_without_the_requests_time_ages_count_to_the_newest_item():
    times = tf.ragged.constant([[0, 3_600, 7_200], [], [500]], dtype=tf.int64)
    pasts = tf.ragged.constant([["c0", "c1", "c2"], [], ["c0"]])
    spec = HistoryFeature(name="h", max_length=4, age_buckets=4)
    expected = [[2, 2, 1, 0], [0] * 4, [1, 0, 0, 0]]
    assert encode(spec, history=pasts, history_times=times)["h.ages"] == expected
    now = tf.constant([MISSING_MOMENT, 5, 500 + 3 * 3_600])
    assert encode(spec, history=pasts, history_times=times, time=now)["h.ages"] == [*expected[:2], [3, 0, 0, 0]]


def test_weights_halve_with_age():
    given = {
        "history": tf.constant([["c0", "c1", "c0"]]),
        "history_times": tf.constant([[0, 86_400, 172_800]], tf.int64),
        "history_weights": tf.constant([[4.0, -1.0, math.nan]], tf.float64),
        "time": tf.constant([172_800], tf.int64),
    }
    halving = HistoryFeature(name="h", max_length=3, pooling=WeightedMeanPooling(half_life_days=2.0))
    assert encode(halving, **given)["h.weights"] == [[2.0, 0.0, 1.0]]
    plain = HistoryFeature(name="h", max_length=2, pooling=WeightedMeanPooling())
    given = {"history": given["history"], "history_weights": given["history_weights"]}
    assert encode(plain, **given)["h.weights"] == [[0.0, 1.0]]


def test_a_mean_reads_neither_weights_nor_times():
    fitted = FittedFeatures(
        query=(FittedFeature(spec=HistoryFeature(name="h", pooling=MeanPooling()), values=("c0",)),),
        candidate=CANDIDATE,
    )
    assert list(FeaturePreprocessor(fitted, "query").inputs) == ["history"]


def test_an_affinity_splits_weights_over_known_values():
    """c0 has x and y; c1 has y and an unknown value; c2 has none, and c9 is not in the catalogue."""
    pasts = tf.ragged.constant([["c1", "c0", "c1"], ["c2", "c9"], []])
    weights = tf.ragged.constant([[100.0, 2.0, 3.0], [1.0, 1.0], []], dtype=tf.float64)
    spec = AffinityFeature(name="a", of="tags", width=3, max_length=2)
    shares = encode(spec, values=("x", "y"), history=pasts, history_weights=weights)["a"]
    np.testing.assert_allclose(shares, [[0.2, 0.8, 0], [0, 0, 0], [0, 0, 0]], rtol=1e-7)
    spec = AffinityFeature(name="a", of="genre", width=3)
    assert encode(spec, values=("a", "b", "c"), history=pasts)["a"][0] == [
        pytest.approx(1 / 3),
        0,
        pytest.approx(2 / 3),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "feature 'h' looks 'genre' of candidates up, and no catalogue is given"),
        ({"candidate_ids": IDS, "candidate_features": {}}, "candidate_features lacks 'genre'"),
        ({"candidate_ids": IDS[:2], "candidate_features": CATALOGUE}, "3 rows of 'genre' for 2 candidate_ids"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_refused(given, message):
    spec = HistoryFeature(name="h", fields=("genre",))
    fitted = FittedFeatures(query=(FittedFeature(spec=spec, values=("c0",)),), candidate=CANDIDATE)
    with pytest.raises(UserError, match=message):
        FeaturePreprocessor(fitted, "query", **given)

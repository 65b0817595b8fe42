import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config_text import config_from_tree
from tfrs_models.inputs import feature_tensors
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.weights import assign


@pytest.fixture
def build(make_problem):
    def _build(dtype="float64", **branches):
        problem = make_problem(**branches)
        towers = TwoTower(problem.config, problem.sizes, dtype)
        assign(towers, problem.weights)
        batch = problem.batches[0]
        return problem, towers, feature_tensors(batch.query_features), feature_tensors(batch.candidate_features)

    return _build


def test_vectors_by_hand(build):
    problem, towers, query, candidate = build(model={"normalize": False})
    weights = {name: array.astype(np.float64) for name, array in problem.weights.items()}
    ids, cities = query["query_id"].numpy(), query["city"].numpy()
    lists = query["history"].numpy()
    history = weights["query.embedding.history"]
    pooled = [history[row[row > 0]].mean(axis=0) if row.any() else np.zeros(3) for row in lists]
    parts = [
        weights["query.embedding.query_id"][ids],
        weights["query.embedding.city"][cities],
        query["age"].numpy()[:, None],
    ]
    x = np.concatenate([*parts, pooled], axis=1)
    for layer in range(3):
        x = x @ weights[f"query.dense.{layer}.kernel"] + weights[f"query.dense.{layer}.bias"]
        x = np.tanh(x) if layer < 2 else x
    np.testing.assert_allclose(towers.encode_query(query), x, rtol=1e-12)
    assert towers.encode_candidate(candidate).shape == (6, 4)


def test_the_bias_is_looked_up_by_candidate_id(build):
    problem, towers, _, candidate = build()
    want = problem.weights["candidate.bias"][candidate["candidate_id"].numpy(), 0]
    np.testing.assert_array_equal(towers.candidate_bias(candidate), want)


def test_served_vectors_rank_as_the_logits_do(build):
    problem, towers, query, candidate = build()
    temperature = problem.config.loss.temperature
    served = tf.matmul(towers.query_vectors(query), towers.candidate_vectors(candidate), transpose_b=True)
    inner = tf.matmul(towers.encode_query(query), towers.encode_candidate(candidate), transpose_b=True)
    np.testing.assert_allclose(served / temperature, inner / temperature + towers.candidate_bias(candidate), rtol=1e-12)
    assert towers.query_vectors(query).shape == (6, problem.config.vector_dim)


def test_without_a_bias_served_vectors_are_the_towers(build):
    _, towers, query, candidate = build(model={"candidate_bias": False})
    assert towers.candidate_bias(candidate) is None
    np.testing.assert_array_equal(towers.query_vectors(query), towers.encode_query(query))
    np.testing.assert_array_equal(towers.candidate_vectors(candidate), towers.encode_candidate(candidate))


def test_the_sides_draw_their_dropout_apart():
    tower = {"features": [{"name": "a", "kind": "id", "width": 64}], "feature_dropout": 0.5}
    config = config_from_tree({"query": tower, "candidate": tower, "model": {"dim": 64}}, where="test")
    towers = TwoTower(config, {"query": {"a": 3}, "candidate": {"a": 3}})
    for side in (towers.query, towers.candidate):
        side.features.tables["a"].assign(tf.ones([3, 64]))
    rows, seed = {"a": tf.fill([20], 2)}, tf.constant([1, 2], tf.int64)
    query, candidate = towers.encode_query(rows, seed).numpy(), towers.encode_candidate(rows, seed).numpy()
    assert 0.3 < (query != candidate).mean() < 0.7
    np.testing.assert_array_equal(query, towers.encode_query(rows, seed))


LEARNED = {"learn_temperature": True, "temperature": 0.5, "temperature_range": (0.2, 2.0)}


def test_a_fixed_temperature_is_a_number(build):
    assert build()[1].temperature() == 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_learned_temperature_is_clamped(build, dtype):
    problem, towers, *_ = build(dtype, loss=LEARNED)
    low, high = problem.config.loss.log_temperature_range
    for theta, want in ((-0.5, np.exp(-0.5)), (-9.0, np.exp(low)), (9.0, np.exp(high))):
        towers.log_temperature.assign([theta])
        temperature = towers.temperature()
        assert (temperature.dtype, temperature.shape) == (dtype, ())
        np.testing.assert_allclose(temperature, want, rtol=1e-6 if dtype == "float32" else 1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_a_learned_temperature_stops_outside_its_bounds(build, dtype):
    problem, towers, *_ = build(dtype, loss=LEARNED)
    low, high = problem.config.loss.log_temperature_range
    for theta, passes in ((-0.5, True), (low, True), (high, True), (low - 1e-3, False), (high + 1e-3, False)):
        towers.log_temperature.assign([theta])
        with tf.GradientTape() as tape:
            temperature = towers.temperature()
        gradient = tape.gradient(temperature, towers.log_temperature).numpy()
        np.testing.assert_allclose(gradient, [float(temperature) * passes], rtol=1e-6)


def test_served_vectors_use_the_learned_temperature(build):
    problem, towers, _, candidate = build(loss=LEARNED)
    temperature = np.exp(problem.weights["loss.log_temperature"].astype(np.float64))
    bias = towers.candidate_bias(candidate)
    np.testing.assert_allclose(towers.candidate_vectors(candidate)[:, -1], temperature * bias, rtol=1e-12)
    assert abs(float(temperature[0]) - 0.5) > 0.1

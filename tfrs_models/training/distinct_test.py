from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.inputs import batch_tensors
from tfrs_models.training.distinct import distinct, encode_once
from tfrs_models.training.model import RetrievalModel
from tfrs_models.training.trainer import TwoTowerTrainer
from tfrs_models.weights import assign, parameters_by_name


def test_first_places_and_where_each_row_finds_its_own():
    first, places = distinct(tf.constant([7, 3, 7, -1, 3, 7], tf.int32))
    assert first.numpy().tolist() == [0, 1, 3]
    assert places.numpy().tolist() == [0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("rows", [[], [4], [5, 5, 5], [1, 2, 3]])
def test_each_row_stands_once_among_the_first(rows):
    rows = np.asarray(rows, np.int32)
    first, places = (found.numpy() for found in distinct(tf.constant(rows)))
    assert sorted(rows[first]) == sorted(set(rows.tolist()))
    np.testing.assert_array_equal(rows[first][places], rows)


def test_copies_get_the_vector_and_their_gradients_add_up():
    kernel, seen = tf.Variable([[2.0], [3.0]], dtype=tf.float64), []

    def encode(features):
        seen.append(features["x"].shape[0])
        return [features["x"] @ kernel, tf.cast(features["id"], tf.float64)]

    features = {"x": tf.constant([[1, 0], [0, 1], [1, 0]], tf.float64), "id": tf.constant([10, 20, 10])}
    with tf.GradientTape() as tape:
        vectors, ids = encode_once(encode, features, tf.constant([8, 4, 8], tf.int32))
        total = tf.reduce_sum(vectors[:, 0] * tf.constant([1.0, 10.0, 100.0], tf.float64))
    assert seen == [2]
    assert vectors.numpy().tolist() == [[2], [3], [2]] and ids.numpy().tolist() == [10, 20, 10]
    assert tape.gradient(total, kernel).numpy().tolist() == [[101], [10]]


def _problem(make_problem, sides, **branches):
    """A query that is its id, and batches whose rows repeat, each other ones."""
    query = {"features": [{"name": "query_id", "kind": "id", "width": 4}]}
    problem = make_problem(query=query, training={"encode_once": sides}, **branches)
    generator, batches = np.random.default_rng(0), []
    for batch in problem.batches:
        queries, rows = generator.integers(1, 5, 6).astype(np.int32), generator.integers(0, 7, 6).astype(np.int32)
        features = {name: array[rows] for name, array in problem.catalogue.items()}
        query = {"query_features": {"query_id": queries}, "query_rows": queries}
        batches.append(replace(batch, **query, candidate_features=features, candidate_rows=rows))
    return replace(problem, batches=batches)


def test_towers_see_distinct_rows_alone(make_problem):
    negatives = {"sampled": 4, "impressions": 2}
    for sides in ((), ("query", "candidate")):
        problem = _problem(make_problem, sides, negatives=negatives)
        model = RetrievalModel(problem.config, problem.sizes)
        assign(model.towers, problem.weights)
        batch = problem.batches[0]
        gradients = model.loss_and_gradients(parameters_by_name(model.towers), batch_tensors(batch)).gradients
        candidates = np.concatenate([batch.candidate_rows, batch.sampled.rows, batch.impressions.rows.ravel()])
        num_queries, num_candidates = (_count(rows, sides) for rows in (batch.query_rows, candidates))
        assert gradients["query.embedding.query_id"].indices.shape == (num_queries,)
        assert gradients["candidate.embedding.candidate_id"].indices.shape == (num_candidates,)
        assert gradients["candidate.bias"].indices.shape == (num_candidates,)
    assert num_queries < len(batch.query_rows) and num_candidates < len(candidates)


def _count(rows, sides):
    return len(np.unique(rows)) if sides else len(rows)


def test_steps_end_where_those_of_every_copy_end_and_are_traced_once(make_problem):
    states = []
    for sides in ((), ("query", "candidate")):
        problem = _problem(make_problem, sides)
        trainer = TwoTowerTrainer(problem.config, problem.sizes, problem.first_state, problem.catalogue)
        for batch in problem.batches:
            trainer.step([batch], learning_rate=0.01)
        states.append(trainer.state())
        assert trainer._compiled.experimental_get_tracing_count() == 1
    assert len({len(np.unique(batch.candidate_rows)) for batch in problem.batches}) > 1, "lengths are meant to differ"
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, rtol=1e-4, atol=1e-6, err_msg=name)
        assert not np.array_equal(array, problem.first_state.get(name)), name

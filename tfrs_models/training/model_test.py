import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_models.inputs import batch_tensors
from tfrs_models.training.model import RetrievalModel
from tfrs_models.weights import assign

SEED = tf.constant([1, 2], tf.int64)


@pytest.fixture
def build(make_problem):
    def _build(dtype="float32", **branches):
        problem = make_problem(**branches)
        model = RetrievalModel(problem.config, problem.sizes, dtype)
        assign(model.towers, problem.weights)
        return model, batch_tensors(problem.batches[0], dtype)

    return _build


def test_the_loss_is_the_tasks_on_the_towers_vectors(build):
    model, inputs = build("float64")
    towers = model.towers
    logits = tf.matmul(
        towers.encode_query(inputs["query_features"]),
        towers.encode_candidate(inputs["candidate_features"]),
        transpose_b=True,
    ).numpy()
    logits = logits / 0.5 + towers.candidate_bias(inputs["candidate_features"]).numpy() - inputs["log_q"].numpy()
    logits[1, 2] = logits[2, 1] = -np.inf
    loss = np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)
    weights = inputs["weights"].numpy()
    np.testing.assert_allclose(model.compute_loss(inputs), (weights * loss).sum() / weights.sum(), rtol=1e-12)


def test_it_is_a_tfrs_model_and_stock_fit_trains_it(build):
    model, inputs = build()
    assert isinstance(model, tfrs.Model)
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.5))
    history = model.fit(tf.data.Dataset.from_tensors(inputs).repeat(20), epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]


def test_dropout_acts_in_training_only_and_by_its_seed(build):
    model, inputs = build(query={"dropout": 0.5})
    plain = float(model.compute_loss(inputs))
    dropped = float(model.compute_loss(inputs, training=True, dropout_seed=SEED))
    assert dropped != plain
    assert dropped == float(model.compute_loss(inputs, training=True, dropout_seed=SEED))
    assert dropped != float(model.compute_loss(inputs, training=True, dropout_seed=2 * SEED))
    assert plain == float(model.compute_loss(inputs, training=False, dropout_seed=SEED))


def test_dropout_without_a_seed_is_refused(build):
    model, inputs = build(candidate={"feature_dropout": 0.5})
    with pytest.raises(AssertionError, match="seed"):
        model.compute_loss(inputs, training=True)

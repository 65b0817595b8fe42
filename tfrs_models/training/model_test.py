import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_models.inputs import batch_tensors
from tfrs_models.training.model import RetrievalModel
from tfrs_models.weights import assign, parameters_by_name

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


def test_stock_fit_trains_on_every_source_of_negatives(build):
    drawn = {"sampled": 4, "impressions": 2, "mask_known_positives": True, "mask_not_yet_seen": True}
    model, inputs = build(negatives=drawn, loss={"learn_temperature": True})
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.05))
    history = model.fit(tf.data.Dataset.from_tensors(inputs).repeat(20), epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_tables_keep_sparse_gradients_whatever_the_negatives(build, chunk_size):
    model, inputs = build(negatives={"sampled": 4, "impressions": 2}, training={"chunk_size": chunk_size})
    variables = parameters_by_name(model.towers)
    gradients = model.loss_and_gradients(variables, inputs).gradients
    for name in variables:
        is_table = "embedding" in name or name == "candidate.bias"
        assert isinstance(gradients[name], tf.IndexedSlices) == is_table, name
    # Six positives, four sampled columns, two impressions of each row.
    assert gradients["candidate.bias"].indices.shape == (6 + 4 + 12,)


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_a_step_hands_back_the_positives_as_they_were_encoded(build, chunk_size):
    model, inputs = build("float64", negatives={"sampled": 4}, training={"chunk_size": chunk_size})
    positives = model.loss_and_gradients(parameters_by_name(model.towers), inputs).positives
    features = inputs["candidate_features"]
    np.testing.assert_allclose(positives.vectors_ND, model.towers.encode_candidate(features), rtol=1e-14)
    np.testing.assert_array_equal(positives.bias_N, model.towers.candidate_bias(features))
    np.testing.assert_array_equal(positives.rows_N, inputs["candidate_rows"])
    np.testing.assert_array_equal(positives.log_q_N, inputs["log_q"])


def test_sources_of_candidates_draw_their_dropout_apart(build):
    """The same candidates as positives and as sampled columns: without dropout the same vectors."""
    model, inputs = build(candidate={"dropout": 0.5})
    inputs["sampled"] = {
        "features": inputs["candidate_features"],
        "rows": inputs["candidate_rows"],
        "log_q": inputs["log_q"],
    }
    for seed, same in ((None, True), (SEED, False)):
        embedded = model._encode_all(inputs, seed, [])
        assert (embedded["positives"][0].numpy() == embedded["sampled"][0].numpy()).all() == same

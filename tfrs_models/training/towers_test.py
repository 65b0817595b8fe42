"""What the towers ask of training: statistics that follow, weights without training, tables that two towers share."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.errors import UserError
from tfrs_models.callables import TwoTowerEncoders, loss_and_gradients
from tfrs_models.inputs import batch_tensors
from tfrs_models.training import trainer as trainer_module
from tfrs_models.training.model import RetrievalModel
from tfrs_models.training.trainer import TwoTowerTrainer
from tfrs_models.weights import assign

ID = {"name": "id", "kind": "id", "width": 4}
NORMED = {
    "query": {"features": [ID], "hidden_dims": [5], "norm": "batch"},
    "candidate": {"features": [ID], "hidden_dims": [5], "norm": "batch"},
    "negatives": {"sampled": 3, "impressions": 2},
}
MIND = {"query": {"features": [{"name": "past", "kind": "history", "width": 4, "pooling": {"kind": "mind"}}]}}
MEAN, VARIANCE = "candidate.dense.0.norm.mean", "candidate.dense.0.norm.variance"


def _trainer(problem, state=None):
    return TwoTowerTrainer(problem.config, problem.sizes, state or problem.first_state, problem.catalogue)


def _all_candidates(problem):
    """Input of the candidate's norm: positives, sampled and impressions, whatever their weights."""
    batch, weights = problem.batches[0], problem.weights
    sources = (batch.candidate_features, batch.sampled.features, batch.impressions.features)
    rows = np.concatenate([features["id"] for features in sources])
    x = weights["candidate.embedding.id"].astype(np.float64)[rows]
    return x @ weights["candidate.dense.0.kernel"] + weights["candidate.dense.0.bias"]


def test_moving_statistics_follow_the_batch_of_all_candidates(plant):
    problem = plant(**NORMED)
    trainer, x = _trainer(problem), _all_candidates(problem)
    trainer.step(problem.batches, learning_rate=0.1)
    state = trainer.state()
    assert len(x) == 6 + 3 + 12
    for name, seen in ((MEAN, x.mean(axis=0)), (VARIANCE, x.var(axis=0))):
        np.testing.assert_allclose(state[f"weights/{name}"], 0.99 * problem.weights[name] + 0.01 * seen, rtol=1e-5)
        assert not [key for key in state if key.startswith("slots/") and key.endswith(name)]
    assert (state["weights/query.dense.0.norm.mean"] != problem.weights["query.dense.0.norm.mean"]).all()


def test_a_loss_that_is_not_finite_moves_no_statistics(plant):
    problem = plant(**NORMED)
    batch = dataclasses.replace(problem.batches[0], log_q=np.full(6, np.nan, np.float32))
    trainer = _trainer(problem)
    trainer.step([batch], learning_rate=0.1)
    for name in (MEAN, VARIANCE):
        np.testing.assert_array_equal(trainer.state()[f"weights/{name}"], problem.weights[name])


def test_serving_takes_the_moving_statistics(plant):
    problem = plant(**NORMED)
    features = {"id": np.asarray([2, 3, 4], np.int32)}
    served = TwoTowerEncoders(problem.config, problem.sizes, problem.weights).encode_candidates(features)
    alone = [
        TwoTowerEncoders(problem.config, problem.sizes, problem.weights).encode_candidates({"id": row[None]})[0]
        for row in features["id"]
    ]
    np.testing.assert_array_equal(served, alone)


def test_batch_norm_in_several_processes_is_refused(plant, monkeypatch):
    problem = plant(**NORMED)
    monkeypatch.setattr(trainer_module, "num_replicas", lambda: 2)
    with pytest.raises(UserError, match=r"norm=batch.*2 train"):
        _trainer(problem)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adagrad"])
def test_what_is_not_trained_has_no_slot_and_does_not_move(plant, optimizer):
    problem = plant(**MIND, candidate={"features": [ID]}, optimizer={"kind": optimizer})
    trainer, name = _trainer(problem), "query.history.past.routing"
    trainer.step(problem.batches, learning_rate=0.1)
    state = trainer.state()
    np.testing.assert_array_equal(state[f"weights/{name}"], problem.weights[name])
    assert not [key for key in state if key.startswith("slots/") and name in key]
    kernel = "query.history.past.kernel"
    assert (state[f"weights/{kernel}"] != problem.weights[kernel]).any()


def _sequences(shares, **pooling):
    history = {"name": "past", "kind": "history", "width": 4, "max_length": 4, "shares": shares}
    return {
        "query": {"features": [{**history, "pooling": {"kind": "transformer", "num_blocks": 1, **pooling}}]},
        "candidate": {"features": [ID]},
    }


ALL = {"training": {"positions": "all"}, "loss": {"kind": "full_softmax", "log_q": "none"}}


def test_sequences_of_any_length_go_through_one_trace(plant):
    problem = plant(**_sequences(True, dropout=0.2), **ALL)
    batch, trainer = problem.batches[0], _trainer(problem)
    short = batch.query_features["past"][:, :2]
    places = np.flatnonzero(short).astype(np.int32)
    rows = batch.candidate_rows[: len(places)]
    other = dataclasses.replace(
        batch,
        query_features={"past": short},
        candidate_features={"id": batch.candidate_features["id"][: len(places)]},
        candidate_rows=rows,
        query_rows=batch.query_rows[: len(places)],
        log_q=batch.log_q[: len(places)],
        weights=batch.weights[: len(places)],
        places=places,
    )
    for one in (batch, other, batch):
        assert np.isfinite(trainer.step([one], learning_rate=0.1).loss)
    assert trainer._compiled.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "settings",
    [
        ALL,
        {},
        {"training": {"chunk_size": 4}},
        {"negatives": {"sampled": 3, "impressions": 2}, "training": {"chunk_size": 2}},
    ],
    ids=str,
)
def test_the_gradient_of_a_shared_table_is_the_sum_of_both_uses(plant, settings):
    """Of a model with two tables of the same values."""
    tied, apart = plant(**_sequences(True), **settings), plant(**_sequences(False), **settings)
    table = "candidate.embedding.id"
    own = np.zeros_like(apart.weights["query.embedding.past"])
    assert len(own) == len(tied.weights[table])
    weights = {**tied.weights, "query.embedding.past": tied.weights[table]}
    found = loss_and_gradients(
        tied.config, tied.sizes, tied.weights, tied.batches[0], dtype="float64", catalogue=tied.catalogue
    )
    want = loss_and_gradients(
        apart.config, apart.sizes, weights, tied.batches[0], dtype="float64", catalogue=tied.catalogue
    )
    np.testing.assert_allclose(found[0], want[0], rtol=1e-12)
    assert np.abs(want[1]["query.embedding.past"]).max() > 1e-4
    both = want[1][table] + want[1]["query.embedding.past"]
    np.testing.assert_allclose(found[1][table], both, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("settings", [{}, {"training": {"chunk_size": 4}}], ids=str)
def test_the_gradient_of_a_shared_table_stays_sparse(plant, settings):
    problem = plant(**_sequences(True), **settings)
    model = RetrievalModel(problem.config, problem.sizes)
    assign(model.towers, problem.weights)
    table = model.towers.candidate.features.tables["id"]
    assert model.towers.query.features.histories["past"].lookups["past"] is table
    found = model.loss_and_gradients({"candidate.embedding.id": table}, batch_tensors(problem.batches[0])).gradients
    assert isinstance(found["candidate.embedding.id"], tf.IndexedSlices)
    assert found["candidate.embedding.id"].indices.shape == (6 + 6 * 4,)


def test_a_shared_table_and_a_momentum_bank(plant):
    """The average follows the candidate tower alone; the history goes on reading the trained table."""
    problem = plant(**_sequences(True), negatives={"bank": {"num_batches": 2, "momentum": 0.5}})
    trainer = _trainer(problem)
    for _ in range(3):
        assert np.isfinite(trainer.step(problem.batches, learning_rate=0.1).loss)
    state = trainer.state()
    assert {name for name in state if name.startswith("average/")} == {"average/candidate.embedding.id"}
    assert (state["average/candidate.embedding.id"] != state["weights/candidate.embedding.id"]).any()
    again = _trainer(problem, state)
    assert again.step(problem.batches, learning_rate=0.1) == trainer.step(problem.batches, learning_rate=0.1)


def test_training_without_a_seed_is_refused_where_routing_is_drawn(plant):
    problem = plant(**MIND, candidate={"features": [ID]})
    model = RetrievalModel(problem.config, problem.sizes)
    with pytest.raises(AssertionError, match="seed"):
        model.compute_loss(batch_tensors(problem.batches[0]), training=True)


def test_chunks_give_the_gradient_of_the_batch_with_every_tower(plant):
    """A context tower behind a gate, and tables of the candidate tower that query and context look up too."""
    tree = {
        "query": {"features": [{"name": "last", "kind": "categorical", "width": 4, "shares": "id"}]},
        "candidate": {"features": [ID, {"name": "genres", "kind": "multivalent", "width": 3}]},
        "context": {
            "features": [{"name": "near", "kind": "categorical", "width": 3, "shares": "genres", "at": "request"}]
        },
        "model": {"dim": 4, "normalize": True, "context_merge": "gate"},
    }
    found = []
    for chunk_size in (None, 4):
        problem = plant(**tree, training={"chunk_size": chunk_size})
        arguments = (problem.config, problem.sizes, problem.weights, problem.batches[0])
        found.append(loss_and_gradients(*arguments, dtype="float64"))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-13)
    assert {"context.gate.kernel", "candidate.embedding.genres"} <= found[0][1].keys()
    for name, gradient in found[0][1].items():
        assert gradient.any(), name
        np.testing.assert_allclose(found[1][1][name], gradient, rtol=1e-9, atol=1e-14, err_msg=name)

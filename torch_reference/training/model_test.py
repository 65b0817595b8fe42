import numpy as np
import pytest
import torch

from retrieval_contract.config import Loss
from torch_reference.inputs import batch_tensors, feature_tensors
from torch_reference.training.model import RetrievalModel
from torch_reference.weights import assign


def test_the_loss_is_the_tasks_on_the_towers_vectors(make_example):
    example = make_example()
    model = RetrievalModel(example.config, example.sizes)
    assign(model.towers, example.weights)
    batch = batch_tensors(example.batch(0))
    candidate = batch["candidate_features"]
    logits = model.towers.encode_query(batch["query_features"]) @ model.towers.encode_candidate(candidate).T
    logits = logits / 0.5 + model.towers.candidate_bias(candidate) - batch["log_q"]
    rows = batch["candidate_rows"]
    repeated = (rows[:, None] == rows) & ~torch.eye(8, dtype=torch.bool)
    assert repeated.any(), "the example is meant to hold accidental hits"
    losses = torch.logsumexp(logits.masked_fill(repeated, -torch.inf), 1) - logits.diagonal()
    expected = (losses * batch["weights"]).sum() / batch["weights"].sum()
    assert model.compute_loss(batch).item() == pytest.approx(expected.item(), rel=1e-6)


def test_dropout_in_training_comes_from_the_generator_alone(make_example):
    example = make_example(dropout=0.3)
    model = RetrievalModel(example.config, example.sizes)
    assign(model.towers, example.weights)
    batch = batch_tensors(example.batch(0))
    losses = [model.compute_loss(batch, torch.Generator().manual_seed(seed)).item() for seed in (5, 5, 6)]
    assert losses[0] == losses[1] != losses[2]
    model.eval()
    assert model.compute_loss(batch).item() == model.compute_loss(batch).item()


@pytest.fixture
def scored(make_example):
    example = make_example()
    model = RetrievalModel(example.config, example.sizes)
    assign(model.towers, example.weights)
    batch = example.rich_batch(0)
    tensors = batch_tensors(batch)
    return model, batch, tensors, model.score(tensors, model.encode(tensors))


def test_columns_are_the_positives_and_then_the_sampled(scored):
    model, batch, tensors, found = scored
    towers = model.towers
    assert found.columns.rows_N.tolist() == [*batch.candidate_rows, *batch.sampled.rows]
    np.testing.assert_array_equal(found.columns.log_q_N, [*batch.log_q, *batch.sampled.log_q])
    for place, features in (
        (slice(0, 8), tensors["candidate_features"]),
        (slice(8, 13), tensors["sampled"]["features"]),
    ):
        torch.testing.assert_close(found.columns.vectors_ND[place], towers.encode_candidate(features))
        torch.testing.assert_close(found.columns.bias_N[place], towers.candidate_bias(features))
    assert found.rows.positive_columns_B.tolist() == list(range(8))
    assert torch.equal(found.positives.vectors_ND, found.columns.vectors_ND[:8])
    assert not found.positives.vectors_ND.requires_grad
    assert not found.positives.bias_N.requires_grad


def test_impressions_stay_with_their_query(scored):
    model, batch, tensors, found = scored
    own = found.rows.impressions
    assert own.rows_N.tolist() == batch.impressions.rows.ravel().tolist()
    np.testing.assert_array_equal(own.log_q_N, batch.impressions.log_q.ravel())
    torch.testing.assert_close(own.vectors_ND, model.towers.encode_candidate(tensors["impressions"]["features"]))
    block = found.rows.block(2, 5)
    assert block.impressions.rows_N.tolist() == batch.impressions.rows[2:5].ravel().tolist()
    places = batch.known_positives.places
    inside = (places >= 2) & (places < 5)
    assert block.known_places_M.tolist() == (places[inside] - 2).tolist()
    assert block.known_rows_M.tolist() == batch.known_positives.rows[inside].tolist()
    assert torch.equal(block.allowed_BN, tensors["allowed"][2:5])


def test_with_the_full_softmax_every_candidate_is_a_column(make_example):
    example = make_example(loss=Loss(kind="full_softmax", log_q="none", temperature=0.5))
    catalogue = feature_tensors(example.catalogue)
    model = RetrievalModel(example.config, example.sizes, catalogue=catalogue)
    assign(model.towers, example.weights)
    batch = batch_tensors(example.batch(0))
    logits = model.towers.encode_query(batch["query_features"]) @ model.towers.encode_candidate(catalogue).T
    logits = logits / 0.5 + model.towers.candidate_bias(catalogue)
    losses = torch.logsumexp(logits, 1) - logits[torch.arange(8), batch["candidate_rows"]]
    expected = (losses * batch["weights"]).sum() / batch["weights"].sum()
    assert model.compute_loss(batch).item() == pytest.approx(expected.item(), rel=1e-6)

import pytest
import torch

from torch_reference.inputs import batch_tensors
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

from dataclasses import replace

import numpy as np
import pytest
import torch

from retrieval_contract.config import IdFeature, Tower
from retrieval_contract.weights.names import initial_weights, parameter_table
from torch_reference.inputs import batch_tensors
from torch_reference.training.distinct import distinct, encode_once
from torch_reference.training.model import RetrievalModel
from torch_reference.training.trainer import TwoTowerTrainer
from torch_reference.weights import assign

BOTH = ("query", "candidate")


@pytest.mark.parametrize("rows", [[], [3], [2, 2], [9, -1, 9, 4, -1, 9], [0, 1, 2]])
def test_first_copies_and_the_way_back(rows):
    tensor = torch.tensor(rows, dtype=torch.int64)
    first, places = distinct(tensor)
    assert sorted(first.tolist()) == sorted(rows.index(row) for row in set(rows))
    assert tensor[first][places].tolist() == rows


def test_a_copy_has_the_vector_and_adds_its_gradient():
    table = torch.tensor([[1.0, 2], [3, 4], [5, 6]], requires_grad=True)
    passed = []

    def encode(features):
        passed.extend(features["id"].tolist())
        return table[features["id"]], features["price"]

    features = {"id": torch.tensor([2, 0, 2, 2]), "price": torch.tensor([0.5, 1.5, 0.5, 0.5])}
    vectors, prices = encode_once(encode, features, torch.tensor([20, 10, 20, 20]))
    (vectors * torch.tensor([[1.0], [10], [100], [1000]])).sum().backward()
    assert sorted(passed) == [0, 2]
    assert vectors.tolist() == [[5, 6], [1, 2], [5, 6], [5, 6]] and prices.tolist() == [0.5, 1.5, 0.5, 0.5]
    assert table.grad.tolist() == [[10, 10], [0, 0], [1101, 1101]]


@pytest.fixture
def examples(make_example):
    """The example with a query that is its id, encoding every copy, and each row once."""
    example = make_example()
    query = Tower(features=(IdFeature(name="query_id", width=4),), hidden_dims=(7,), activation="gelu")
    config = example.config.model_copy(update={"query": query})
    table = parameter_table(config, example.sizes)
    weights = initial_weights(table, seed=1, embedding_stddev=0.5)
    found = []
    for sides in ((), BOTH):
        training = config.training.model_copy(update={"encode_once": sides})
        changed = config.model_copy(update={"training": training})
        found.append(replace(example, config=changed, weights=dict(weights)))
    return found


def _count(rows, sides):
    return len(np.unique(rows)) if sides else len(rows)


def test_each_distinct_row_is_looked_up_once(examples):
    for example in examples:
        sides, batch = example.config.training.encode_once, example.rich_batch(0)
        model = RetrievalModel(example.config, example.sizes)
        assign(model.towers, example.weights)
        model.compute_loss(batch_tensors(batch)).backward()
        candidates = np.concatenate([batch.candidate_rows, batch.sampled.rows, batch.impressions.rows.ravel()])
        tables = model.towers.query.combiner.tables | model.towers.candidate.combiner.tables
        assert tables["query_id"].weight.grad._nnz() == _count(batch.query_rows, sides)
        assert tables["candidate_id"].weight.grad._nnz() == _count(candidates, sides)
        assert model.towers.bias.weight.grad._nnz() == _count(candidates, sides)
    assert _count(candidates, BOTH) < len(candidates) and _count(batch.query_rows, BOTH) < len(batch.query_rows)


def test_a_trainer_ends_where_it_ends_without(examples):
    states = []
    for example in examples:
        trainer = TwoTowerTrainer(example.config, example.sizes, example.state, example.catalogue)
        for seed in range(4):
            trainer.step([example.batch(seed)], learning_rate=0.01)
        states.append(trainer.state())
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, rtol=1e-4, atol=1e-6, err_msg=name)
        assert not np.array_equal(array, examples[0].state.get(name)), name

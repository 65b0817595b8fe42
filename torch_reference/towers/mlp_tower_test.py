import pytest
import torch

from torch_reference.inputs import batch_tensors, feature_tensors
from torch_reference.towers.mlp_tower import MlpTower
from torch_reference.towers.two_tower import TwoTower
from torch_reference.weights import assign


def built(example, normalize, training=False):
    tower = MlpTower(example.config.query, example.sizes["query"], 5, normalize).train(training)
    tables = [*tower.combiner.tables.values(), *tower.combiner.histories["history"].tables.values()]
    for table in tables:
        torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(1))
    return tower, feature_tensors(example.batch(0).query_features)


def test_layers_follow_each_other(make_example):
    tower, features = built(make_example(), normalize=False)
    expected = tower.dense(tower.combiner(features))
    assert tower(features).shape == (8, 5)
    assert torch.equal(tower(features), expected)


def test_normalised_vectors_have_length_one_and_the_same_direction(make_example):
    tower, features = built(make_example(), normalize=True)
    plain = tower.dense(tower.combiner(features))
    torch.testing.assert_close(tower(features), plain / plain.norm(dim=1, keepdim=True))


def test_features_and_hidden_layers_are_dropped_in_training_only(make_example):
    example = make_example(dropout=0.5)
    tower, features = built(example, normalize=False, training=True)
    assert not torch.equal(tower(features), tower(features))
    seeded = [tower(features, torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(*seeded)
    assert torch.equal(tower.eval()(features), tower(features))


def test_cross_layers_and_norms_stand_in_their_order(make_rich_example):
    example = make_rich_example(pooling="mean", norm="layer")
    towers = TwoTower(example.config, example.sizes, "float64").eval()
    assign(towers, example.weights)
    features = feature_tensors(example.rich_features_batch(0).query_features, dtype="float64")
    query = towers.query
    expected = query.cross(query.combiner(features))
    for linear, norm in zip(query.dense.linears, query.dense.norms, strict=False):
        hidden = torch.nn.functional.silu(norm(linear(expected)))
        expected = hidden + expected if hidden.shape == expected.shape else hidden
    torch.testing.assert_close(query(features), query.dense.linears[-1](expected))


@pytest.mark.parametrize("pooling", ["mind", "comirec"])
def test_each_interest_goes_through_the_layers_alone(make_rich_example, pooling):
    example = make_rich_example(pooling=pooling, norm="none")
    towers = TwoTower(example.config, example.sizes, "float64").eval()
    assign(towers, example.weights)
    features = feature_tensors(example.rich_features_batch(0).query_features, dtype="float64")
    query = towers.query
    combined = query.combiner(features)
    vectors = query(features)
    assert vectors.shape == (8, 3, 5)
    for interest in range(3):
        torch.testing.assert_close(vectors[:, interest], query.dense(query.cross(combined[:, interest])))


def test_places_are_the_histories_that_end_there(make_rich_example):
    example = make_rich_example(pooling="gru", positions="all")
    towers = TwoTower(example.config, example.sizes, "float64").eval()
    assign(towers, example.weights)
    batch = batch_tensors(example.rich_features_batch(0), "float64")
    features, length = batch["query_features"], batch["query_features"]["history"].shape[1]
    vectors = towers.encode_query(features, places=batch["places"])
    for place, vector in zip(batch["places"].tolist(), vectors, strict=True):
        row, last = divmod(place, length)
        cut = {name: values[row : row + 1, : last + 1] for name, values in features.items() if "history" in name}
        torch.testing.assert_close(towers.encode_query(cut)[0], vector, rtol=1e-10, atol=1e-12)

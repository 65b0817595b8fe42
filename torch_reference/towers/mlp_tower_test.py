import torch

from torch_reference.inputs import feature_tensors
from torch_reference.towers.mlp_tower import MlpTower


def built(example, normalize, training=False):
    tower = MlpTower(example.config.query, example.sizes["query"], 5, normalize).train(training)
    for table in tower.combiner.tables.values():
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

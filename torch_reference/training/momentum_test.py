import pytest
import torch

from torch_reference.inputs import batch_tensors
from torch_reference.towers.two_tower import TwoTower
from torch_reference.training.momentum import MovingAverage
from torch_reference.weights import assign, parameters_by_name


@pytest.fixture
def towers_and_features(make_example):
    example = make_example(dropout=0.5)
    towers = TwoTower(example.config, example.sizes).train()
    assign(towers, example.weights)
    return towers, batch_tensors(example.batch(0))["candidate_features"]


def move(towers):
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(0.25)


def test_it_begins_at_the_weights_and_moves_by_its_share(towers_and_features):
    towers, _ = towers_and_features
    average = MovingAverage(towers, 0.75)
    start = {name: tensor.detach().clone() for name, tensor in parameters_by_name(towers).items()}
    assert set(average.tensors) == {name for name in start if name.startswith("candidate.")}
    assert all(torch.equal(tensor, start[name]) for name, tensor in average.tensors.items())
    move(towers)
    assert all(torch.equal(tensor, start[name]) for name, tensor in average.tensors.items())
    average.update()
    average.update()
    for name, tensor in average.tensors.items():
        torch.testing.assert_close(tensor, start[name] + 0.25 * (1 - 0.75**2))
        torch.testing.assert_close(parameters_by_name(towers)[name], start[name] + 0.25)


def test_a_share_of_zero_is_the_weights(towers_and_features):
    towers, _ = towers_and_features
    average = MovingAverage(towers, 0.0)
    move(towers)
    average.update()
    assert all(torch.equal(tensor, parameters_by_name(towers)[name]) for name, tensor in average.tensors.items())


def test_it_encodes_by_itself_without_dropout_or_graph(towers_and_features):
    towers, features = towers_and_features
    average = MovingAverage(towers, 0.5)
    plain = towers.eval().encode_candidate(features).detach(), towers.candidate_bias(features).detach()
    towers.train()
    move(towers)
    vectors, bias = average.encode_candidate(features)
    assert torch.equal(vectors, plain[0])
    assert torch.equal(bias, plain[1])
    assert not vectors.requires_grad
    assert towers.query.training
    assert towers.candidate.training


def test_the_query_side_is_not_copied(towers_and_features):
    towers, _ = towers_and_features
    average = MovingAverage(towers, 0.5)
    assert average._average.query is towers.query
    own = {id(tensor) for tensor in average.tensors.values()}
    assert not own & {id(parameter) for parameter in towers.parameters()}

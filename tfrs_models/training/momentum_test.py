import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.inputs import feature_tensors
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.training.momentum import MovingAverage
from tfrs_models.weights import assign, parameters_by_name


@pytest.fixture
def build(make_problem):
    def _build(momentum=0.75, **branches):
        problem = make_problem(**branches)
        towers = TwoTower(problem.config, problem.sizes)
        assign(towers, problem.weights)
        return problem, towers, MovingAverage(towers, momentum)

    return _build


def test_it_holds_the_candidate_side_and_nothing_else(build):
    problem, _, average = build()
    assert set(average.variables_by_name) == {name for name in problem.table if name.startswith("candidate.")}
    _, _, without = build(model={"candidate_bias": False})
    assert "candidate.bias" not in without.variables_by_name


def test_it_starts_where_the_weights_are_and_encodes_as_they_do(build):
    problem, towers, average = build(candidate={"dropout": 0.5})
    features = feature_tensors(problem.batches[0].candidate_features)
    vectors, bias = average.encode_candidate(features)
    np.testing.assert_array_equal(vectors, towers.encode_candidate(features))
    np.testing.assert_array_equal(bias, towers.candidate_bias(features))


def test_it_does_not_move_with_the_weights(build):
    problem, towers, average = build()
    features = feature_tensors(problem.batches[0].candidate_features)
    before = [tensor.numpy() for tensor in average.encode_candidate(features)]
    for variable in parameters_by_name(towers).values():
        variable.assign_add(tf.ones_like(variable))
    for tensor, want in zip(average.encode_candidate(features), before, strict=True):
        np.testing.assert_array_equal(tensor, want)


def test_it_follows_by_hand(build):
    problem, towers, average = build()
    for variable in parameters_by_name(towers).values():
        variable.assign_add(tf.ones_like(variable))
    for share in (0.25, 1 - 0.75**2):
        average.update()
        for name, variable in average.variables_by_name.items():
            np.testing.assert_allclose(variable, problem.weights[name] + share, rtol=1e-5, atol=1e-6)


def test_a_momentum_of_zero_is_the_weights(build):
    _, towers, average = build(momentum=0.0)
    trained = parameters_by_name(towers)
    for variable in trained.values():
        variable.assign(2 * variable)
    average.update()
    for name, variable in average.variables_by_name.items():
        np.testing.assert_array_equal(variable, trained[name])


def test_without_a_bias(build):
    problem, _, average = build(model={"candidate_bias": False})
    assert average.encode_candidate(feature_tensors(problem.batches[0].candidate_features))[1] is None

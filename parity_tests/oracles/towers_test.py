import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import layers, towers
from parity_tests.oracles.activations import activate, slope
from parity_tests.oracles.differentiation import Node
from parity_tests.problems import problem
from parity_tests.tolerances import rule

FORWARD, DIFFERENCE = rule("forward", "float64"), rule("central_difference", "float64")
STEP = 1e-5


def same(got, wanted, tolerance=FORWARD):
    assert_same(got, got, wanted, tolerance)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("relu", [0.0, 0.0, 2.0]),
        ("tanh", [-0.76159415595576488812, 0.0, 0.96402758007581688395]),
        ("silu", [-0.26894142136999512075, 0.0, 1.7615941559557648881]),
        ("gelu", [-0.15865525393145705141, 0.0, 1.9544997361036415856]),
    ],
)
def test_activations_to_digits(name, wanted):
    same(activate(name, np.array([-1.0, 0.0, 2.0])), wanted)


@pytest.mark.parametrize("name", ["relu", "tanh", "silu", "gelu"])
def test_slopes_are_the_differences(name):
    x = np.linspace(-3.03, 3.01, 41)
    same(slope(name, x), (activate(name, x + STEP) - activate(name, x - STEP)) / (2 * STEP), DIFFERENCE)


def test_a_list_is_the_mean_of_its_values_and_an_empty_one_is_zero():
    case = problem("everything")
    features = case.batch.query_features
    combined = towers.combined("query", case.config, towers.leaves(case.weights), features).value
    table = case.weights["query.embedding.history"].astype(np.float64)
    same(combined[:, -4:][0], (table[2] + table[6] + table[3] + table[5]) / 4)
    same(combined[:, -4:][3], np.zeros(4))
    same(combined[:, -4:][4], (2 * table[1] + table[2]) / 3)
    same(combined[:, 10], features["age"].astype(np.float64))


def test_normalised_rows_have_length_one_and_zero_stays_zero():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0]])
    same(layers.normalized(Node(x)).value, [[0.6, 0.8], [0.0, 0.0], [1e-18, 0.0]])


def unit(x):
    return layers.normalized(Node(x)).value


def test_normalised_backward_is_the_difference():
    generator = np.random.default_rng(0)
    x, gradient = generator.standard_normal((3, 4)), generator.standard_normal((3, 4))
    wanted = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = STEP
        wanted[place] = ((unit(x + step) - unit(x - step)) * gradient).sum() / (2 * STEP)
    same(layers.normalized_backward(x, gradient), wanted, DIFFERENCE)

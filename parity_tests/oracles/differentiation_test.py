import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import differentiation as diff
from parity_tests.oracles.differentiation import Node
from parity_tests.tolerances import rule

STEP = 1e-5
ALLOWED = np.array([[True, False, True], [False, False, False], [True, True, True]])
PLACES = np.array([[0, 2, 2], [1, 0, 2]])
FORMULAS = {
    "add, broadcast over rows": lambda x, y: x + y[0],
    "subtract, broadcast over columns": lambda x, y: 3.0 - (x - y[:, :1]),
    "multiply, broadcast": lambda x, y: 2.0 * x * y[:, None, 0] * x,
    "divide": lambda x, y: x / (y * y + 1.0),
    "product of matrices": lambda x, y: x @ y,
    "product of stacks of matrices, one broadcast": lambda x, y: x[PLACES] @ y,
    "look-ups, twice in one row": lambda x, y: x[PLACES] * y,
    "sum over two axes": lambda x, y: (x[PLACES] * y).sum((0, 2)),
    "mean, axis kept": lambda x, y: x - (x * y).mean(1, keepdims=True),
    "reshape and swap": lambda x, y: x.reshape(1, 9) * y.swapped(0, 1).reshape(1, 9),
    "where": lambda x, y: diff.where(ALLOWED, x * y, y),
    "concatenate": lambda x, y: diff.concatenated([x, y * y, x], axis=1) * 2.0,
    "largest": lambda x, y: diff.largest(x * y, axis=1),
    "softmax": lambda x, y: diff.softmax(x * y, 1, ALLOWED) * y,
    "softmax over rows": lambda x, y: diff.softmax(x, 0, np.array([True])) * y,
    "root": lambda x, y: diff.root(x * x + y * y),
    "elementwise": lambda x, _: diff.elementwise(x, np.tanh(x.value), 1 - np.tanh(x.value) ** 2),
    "a node used twice": lambda x, y: (z := x * y) * z + z,
}


def slope(formula, inputs, name, direction, flow):
    ends = []
    for sign in (1, -1):
        moved = inputs | {name: inputs[name] + sign * STEP * direction}
        ends.append((formula(Node(moved["x"]), Node(moved["y"])).value * flow).sum())
    return (ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_gradient_is_the_central_difference(formula):
    generator = np.random.default_rng(0)
    inputs = {name: generator.standard_normal((3, 3)) for name in "xy"}
    leaves = {name: Node(array) for name, array in inputs.items()}
    end = formula(leaves["x"], leaves["y"])
    flow = generator.standard_normal(end.shape)
    found = diff.gradients([(end, flow)], leaves)
    for name in "xy":
        for direction in generator.standard_normal((3, 3, 3)):
            got = (found[name] * direction).sum()
            wanted = slope(formula, inputs, name, direction, flow)
            assert_same(got, got, wanted, rule("central_difference", "float64"))


def test_an_array_on_the_left_leaves_the_operation_to_the_node():
    x = Node([1.0, 2.0])
    for end in (np.ones(2) + x, np.ones(2) * x, np.ones(2) - x):
        assert isinstance(end, Node)


def test_what_is_stopped_or_not_used_has_no_gradient():
    x, y = Node([2.0]), Node([3.0])
    found = diff.gradients([(diff.stopped(x * x) * x, 1.0)], {"x": x, "y": y})
    assert found["x"].tolist() == [4.0]
    assert found["y"].tolist() == [0.0]


def test_ends_add_up():
    x = Node([2.0])
    square = x * x
    assert diff.gradients([(square, 1.0), (x, 10.0), (square, 1.0)], {"x": x})["x"].tolist() == [18.0]


def test_a_softmax_over_nothing_is_zero_and_so_is_its_gradient():
    x = Node(np.full((1, 2), np.inf))
    p = diff.softmax(x, 1, np.zeros((1, 2), bool))
    assert p.value.tolist() == [[0, 0]]
    assert diff.gradients([(p, [[1.0, 2.0]])], {"x": x})["x"].tolist() == [[0, 0]]


def test_the_root_of_zero_has_no_gradient():
    x = Node([0.0, 4.0])
    assert diff.gradients([(diff.root(x), 1.0)], {"x": x})["x"].tolist() == [0.0, 0.25]

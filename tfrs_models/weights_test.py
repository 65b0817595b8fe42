import numpy as np
import pytest

from retrieval_contract.errors import UserError
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.weights import assign, extract, parameters_by_name


@pytest.fixture
def model(problem):
    return TwoTower(problem.config, problem.sizes)


def test_the_table_is_the_canonical_one(problem, model):
    shapes = {name: tuple(variable.shape) for name, variable in parameters_by_name(model).items()}
    assert shapes == {name: parameter.shape for name, parameter in problem.table.items()}


@pytest.mark.parametrize("loss", [{"learn_temperature": True}, {"kind": "sigmoid", "log_q": "none"}], ids=str)
def test_numbers_that_the_loss_learns_are_in_the_table(make_problem, loss):
    problem = make_problem(loss=loss)
    model = TwoTower(problem.config, problem.sizes)
    shapes = {name: tuple(variable.shape) for name, variable in parameters_by_name(model).items()}
    assert shapes == {name: parameter.shape for name, parameter in problem.table.items()}
    assert any(name.startswith("loss.") for name in shapes)


def test_extract_inverts_assign_to_the_byte(problem, model):
    assign(model, problem.weights)
    arrays = extract(model)
    assert list(arrays) == list(parameters_by_name(model))
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in problem.weights.items()
    }


def test_arrays_are_copies_both_ways(problem, model):
    given = {name: array.copy() for name, array in problem.weights.items()}
    assign(model, given)
    arrays = extract(model)
    for variable in parameters_by_name(model).values():
        variable.assign_add(np.ones(variable.shape, np.float32))
    for name, array in problem.weights.items():
        np.testing.assert_array_equal(given[name], array)
        np.testing.assert_array_equal(arrays[name], array)
    arrays["query.dense.0.bias"][:] = 7
    assert not (extract(model)["query.dense.0.bias"] == 7).any()


def test_a_float64_model_takes_float32_arrays_exactly(problem):
    model = TwoTower(problem.config, problem.sizes, dtype="float64")
    assign(model, problem.weights)
    for name, array in extract(model).items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, problem.weights[name])


def test_leftovers_and_shapes_are_named_and_nothing_moves(problem, model):
    assign(model, problem.weights)
    bad = {name: array + 1 for name, array in problem.weights.items() if name != "candidate.bias"}
    bad["query.dense.9.kernel"] = np.zeros((2, 2), np.float32)
    bad["query.dense.0.kernel"] = bad["query.dense.0.kernel"].T
    with pytest.raises(UserError) as caught:
        assign(model, bad)
    message = str(caught.value)
    assert "candidate.bias is missing" in message
    assert "query.dense.9.kernel is left over" in message
    assert "query.dense.0.kernel has shape (6, 11), expected (11, 6)" in message
    np.testing.assert_array_equal(extract(model)["query.dense.1.kernel"], problem.weights["query.dense.1.kernel"])


def test_a_variable_without_a_name_is_noticed(model):
    model.stray = model.add_weight(name="stray", shape=(2,))
    with pytest.raises(AssertionError, match=r"without a canonical name.*stray"):
        parameters_by_name(model)

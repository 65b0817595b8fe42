import numpy as np
import pytest
import torch

from retrieval_contract.errors import UserError
from torch_reference.towers.two_tower import TwoTower
from torch_reference.weights import assign, assign_slots, extract, extract_slots, name_table, parameters_by_name


@pytest.fixture
def model_and_arrays(make_example):
    example = make_example()
    return TwoTower(example.config, example.sizes), example.weights


def test_assigned_and_extracted_is_the_same_to_the_byte(model_and_arrays):
    model, arrays = model_and_arrays
    assign(model, arrays)
    extracted = extract(model)
    assert list(extracted) == list(arrays)
    assert all(extracted[name].tobytes() == array.tobytes() for name, array in arrays.items())
    assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in extracted.values())


def test_kernels_are_transposed_and_a_dropped_transpose_is_noticed(model_and_arrays):
    model, arrays = model_and_arrays
    assign(model, arrays)
    kernel = arrays["candidate.dense.0.kernel"]
    weight = model.candidate.dense.linears[0].weight.detach().numpy()
    np.testing.assert_array_equal(weight, kernel.T)
    assert not np.array_equal(weight.reshape(-1), kernel.reshape(-1))
    assert {name for name, place in name_table(model).items() if place.transposed} == {
        name for name in arrays if name.endswith("kernel")
    }


def test_extracted_arrays_are_copies_and_inputs_are_not_shared(model_and_arrays):
    model, arrays = model_and_arrays
    assign(model, arrays)
    extract(model)["candidate.bias"][:] = 7
    arrays["candidate.bias"][:] = 8
    assert model.bias.weight.abs().max() < 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda arrays: arrays.pop("query.dense.0.bias"), r"missing: query\.dense\.0\.bias"),
        (lambda arrays: arrays.update({"query.extra": np.zeros(2, np.float32)}), r"left over: query\.extra"),
        (
            lambda arrays: arrays.update({"candidate.bias": np.zeros((2, 1), np.float32)}),
            r"shape \(2, 1\), not \(11, 1\)",
        ),
        (
            lambda arrays: arrays["candidate.bias"].__setitem__(3, np.nan),
            "candidate.bias holds values that are not finite",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_copied(model_and_arrays, change, message):
    model, arrays = model_and_arrays
    assign(model, arrays)
    spoiled = {name: array + 1 for name, array in arrays.items()}
    change(spoiled)
    with pytest.raises(UserError, match=message):
        assign(model, spoiled)
    assert all(array.tobytes() == arrays[name].tobytes() for name, array in extract(model).items())


def test_slots_have_the_layout_of_their_parameters(model_and_arrays):
    model, arrays = model_and_arrays
    slots = {"velocity": {name: torch.zeros_like(tensor) for name, tensor in parameters_by_name(model).items()}}
    canonical = {f"velocity/{name}": array + 1 for name, array in arrays.items()}
    assign_slots(model, slots, canonical)
    np.testing.assert_array_equal(
        slots["velocity"]["query.dense.0.kernel"].numpy(), canonical["velocity/query.dense.0.kernel"].T
    )
    extracted = extract_slots(model, slots)
    assert all(extracted[name].tobytes() == array.tobytes() for name, array in canonical.items())
    with pytest.raises(UserError, match=r"missing: velocity/candidate\.bias"):
        assign_slots(model, slots, {n: a for n, a in canonical.items() if n != "velocity/candidate.bias"})

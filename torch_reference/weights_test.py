import numpy as np
import pytest
import torch

from retrieval_contract.config import Loss
from retrieval_contract.errors import UserError
from retrieval_contract.weights.names import parameter_table
from torch_reference.conftest import POOLINGS
from torch_reference.negatives.bank import NegativeBank
from torch_reference.negatives.columns import Columns
from torch_reference.towers.two_tower import TwoTower
from torch_reference.weights import (
    assign,
    assign_bank,
    assign_slots,
    extract,
    extract_bank,
    extract_slots,
    name_table,
    parameters_by_name,
)


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


def test_what_the_loss_learns_has_its_names(make_example):
    example = make_example(loss=Loss(kind="sigmoid", log_q="none", learn_temperature=True))
    model = TwoTower(example.config, example.sizes)
    assert list(name_table(model))[-2:] == ["loss.log_temperature", "loss.sigmoid_bias"]
    assign(model, example.weights)
    assert model.sigmoid_bias.tolist() == [-10]
    extracted = extract(model)
    assert all(extracted[name].tobytes() == array.tobytes() for name, array in example.weights.items())


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_bank_comes_back_to_the_byte(has_bias):
    bank = NegativeBank(4, 2, has_bias)
    bank.enqueue(Columns(torch.randn(6, 2), torch.arange(6), torch.randn(6), torch.randn(6) if has_bias else None))
    arrays = extract_bank(bank)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "vectors": "float32",
        "rows": "int32",
        "log_q": "float32",
        **({"bias": "float32"} if has_bias else {}),
        "enqueued": "int64",
    }
    again = NegativeBank(4, 2, has_bias)
    assign_bank(again, arrays)
    assert all(array.tobytes() == arrays[name].tobytes() for name, array in extract_bank(again).items())
    arrays["vectors"][:] = 7
    assert (again.tensors["vectors"] != 7).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.zeros((5, 2), np.float32)}, r"vectors has shape \(5, 2\), not \(4, 2\)"),
        ({"log_q": np.full(4, np.nan, np.float32)}, "log_q holds values that are not finite"),
        ({"places": np.zeros(4)}, "left over: places"),
    ],
)
def test_a_bank_that_does_not_fit_is_named(change, message):
    bank = NegativeBank(4, 2, False)
    with pytest.raises(UserError, match=message):
        assign_bank(bank, extract_bank(bank) | change)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_part_of_every_tower_comes_back_to_the_byte_and_each_weight_stands_once(
    make_rich_example, pooling, shares
):
    example = make_rich_example(pooling=pooling, shares=shares)
    model = TwoTower(example.config, example.sizes)
    arrays = {name: array + np.float32(0.5) for name, array in example.weights.items()}
    assign(model, arrays)
    extracted = extract(model)
    assert list(extracted) == list(arrays)
    assert all(extracted[name].tobytes() == array.tobytes() for name, array in arrays.items())
    trained = [name for name, weight in parameter_table(example.config, example.sizes).items() if weight.trained]
    assert list(parameters_by_name(model)) == trained
    assert ("query.embedding.history" in arrays) != shares
    assert ("query.history.history.routing" in set(arrays) - set(trained)) == (pooling == "mind")
    assert "candidate.dense.0.norm.mean" in set(arrays) - set(trained)

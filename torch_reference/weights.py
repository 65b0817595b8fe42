"""Parameters and optimiser slots as canonical arrays, by one table; the inverse is derived from it.

The canonical kernel is [in, out]; `nn.Linear` keeps [out, in]. A slot has the layout of its parameter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval_contract.arrays import AnyArray
from retrieval_contract.config import Side
from retrieval_contract.errors import UserError
from retrieval_contract.weights.names import (
    CANDIDATE_BIAS,
    LOG_TEMPERATURE,
    SIGMOID_BIAS,
    dense_bias_name,
    embedding_name,
    kernel_name,
    parameter_table,
)
from torch_reference.negatives.bank import NegativeBank
from torch_reference.towers.mlp_tower import MlpTower
from torch_reference.towers.two_tower import TwoTower

Slots = Mapping[str, Mapping[str, Tensor]]
"""Slot -> canonical name -> tensor in the layout of the parameter."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a canonical array lives in the model."""

    parameter: Tensor
    transposed: bool = False
    """True where the parameter is the transpose of the canonical array."""


def name_table(model: TwoTower) -> dict[str, Place]:
    """The one table: canonical name -> parameter, in canonical order; every parameter of the model is in it."""
    table = {**_tower_places("query", model.query), **_tower_places("candidate", model.candidate)}
    if model.bias is not None:
        table[CANDIDATE_BIAS] = Place(model.bias.weight)
    for name, number in ((LOG_TEMPERATURE, model.log_temperature), (SIGMOID_BIAS, model.sigmoid_bias)):
        if number is not None:
            table[name] = Place(number)
    assert list(table) == list(parameter_table(model.config, model.sizes))
    assert {id(place.parameter) for place in table.values()} == {id(parameter) for parameter in model.parameters()}
    return table


def parameters_by_name(model: TwoTower) -> dict[str, Tensor]:
    """Canonical name -> parameter, in the model's own layout."""
    return {name: place.parameter for name, place in name_table(model).items()}


def assign(model: TwoTower, arrays: Mapping[str, AnyArray]) -> None:
    """Copy canonical arrays into the model, cast to its dtypes.

    Raises:
        UserError: a name too many or too few, another shape, or a value that is not finite; nothing is copied then.
    """
    _assign({name: (place.parameter, place.transposed) for name, place in name_table(model).items()}, arrays, "weights")


def extract(model: TwoTower) -> dict[str, AnyArray]:
    """Copy the model's parameters out as canonical arrays."""
    return {name: _array(place.parameter, place.transposed) for name, place in name_table(model).items()}


def assign_slots(model: TwoTower, slots: Slots, arrays: Mapping[str, AnyArray]) -> None:
    """Copy canonical arrays named `<slot>/<parameter>` into optimiser slots.

    Raises:
        UserError: a name too many or too few, another shape, or a value that is not finite; nothing is copied then.
    """
    table = name_table(model)
    targets = {
        f"{slot}/{name}": (tensor, table[name].transposed)
        for slot, tensors in slots.items()
        for name, tensor in tensors.items()
    }
    _assign(targets, arrays, "slots")


def extract_slots(model: TwoTower, slots: Slots) -> dict[str, AnyArray]:
    """Copy optimiser slots out as canonical arrays named `<slot>/<parameter>`."""
    table = name_table(model)
    return {
        f"{slot}/{name}": _array(tensor, table[name].transposed)
        for slot, tensors in slots.items()
        for name, tensor in tensors.items()
    }


def assign_bank(bank: NegativeBank, arrays: Mapping[str, AnyArray]) -> None:
    """Copy canonical arrays into a bank.

    Raises:
        UserError: a name too many or too few, another shape, or a value that is not finite; nothing is copied then.
    """
    _assign({name: (tensor, False) for name, tensor in bank.tensors.items()}, arrays, "bank")


def extract_bank(bank: NegativeBank) -> dict[str, AnyArray]:
    """Copy a bank's ring out as canonical arrays."""
    arrays = {name: _array(tensor, False) for name, tensor in bank.tensors.items()}
    return {**arrays, "rows": arrays["rows"].astype(np.int32)}


def extract_gradients(model: TwoTower) -> dict[str, AnyArray]:
    """Copy `.grad` of every parameter out as dense canonical arrays; zeros where there is none."""
    table = name_table(model)
    return {name: _array(_dense_gradient(place.parameter), place.transposed) for name, place in table.items()}


def _tower_places(side: Side, tower: MlpTower) -> dict[str, Place]:
    table = {embedding_name(side, feature): Place(module.weight) for feature, module in tower.combiner.tables.items()}
    for layer, linear in enumerate(tower.dense.linears):
        table[kernel_name(side, layer)] = Place(linear.weight, transposed=True)
        table[dense_bias_name(side, layer)] = Place(linear.bias)
    return table


def _assign(targets: Mapping[str, tuple[Tensor, bool]], arrays: Mapping[str, AnyArray], what: str) -> None:
    """Check everything, then copy everything."""
    _check_names(targets, arrays, what)
    for name, (target, transposed) in targets.items():
        wanted = tuple(target.T.shape if transposed else target.shape)
        if arrays[name].shape != wanted:
            todo = "the weights belong to another configuration or vocabulary"
            raise UserError(f"{name} has shape {arrays[name].shape}, not {wanted}", where=what, todo=todo)
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{name} holds values that are not finite", where=what, todo="use another checkpoint")
    with torch.no_grad():
        for name, (target, transposed) in targets.items():
            array = arrays[name].T if transposed else arrays[name]
            # A copy of this layout: torch warns about arrays that it could not write.
            target.copy_(torch.from_numpy(np.array(array, order="C")))


def _check_names(targets: Iterable[str], arrays: Iterable[str], what: str) -> None:
    missing, unknown = sorted(set(targets) - set(arrays)), sorted(set(arrays) - set(targets))
    if missing or unknown:
        lists = (("missing", missing), ("left over", unknown))
        faults = [f"{word}: {', '.join(names)}" for word, names in lists if names]
        todo = "the weights belong to another configuration"
        raise UserError(f"names do not match the model; {'; '.join(faults)}", where=what, todo=todo)


def _array(tensor: Tensor, transposed: bool) -> AnyArray:
    values = tensor.detach().cpu().numpy()
    return np.array(values.T if transposed else values, order="C")


def _dense_gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros_like(parameter)
    return gradient.to_dense() if gradient.is_sparse else gradient

"""Parameters and optimiser slots as canonical arrays, by one table; the inverse is derived from it.

The canonical kernel is [in, out]; `nn.Linear` keeps [out, in]. A slot has the layout of its parameter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from retrieval_contract.arrays import AnyArray
from retrieval_contract.config import Side
from retrieval_contract.errors import UserError
from retrieval_contract.weights.history_names import history_name, history_table_name
from retrieval_contract.weights.names import (
    CANDIDATE_BIAS,
    CONTEXT_GATE_BIAS,
    CONTEXT_GATE_KERNEL,
    LOG_TEMPERATURE,
    SIGMOID_BIAS,
    cross_bias_name,
    cross_kernel_name,
    dense_bias_name,
    embedding_name,
    kernel_name,
    norm_name,
    parameter_table,
    projection_name,
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
    """The one table: canonical name -> tensor, in canonical order; every parameter of the model is in it.

    A table that two towers share stands once, as the candidate's; what is not trained is there too.
    """
    table = {**_tower_places("query", model.query), **_tower_places("candidate", model.candidate)}
    if model.context is not None:
        table |= _tower_places("context", model.context)
    if model.merge is not None and model.merge.gate is not None:
        table[CONTEXT_GATE_KERNEL] = Place(model.merge.gate.weight, transposed=True)
        table[CONTEXT_GATE_BIAS] = Place(model.merge.gate.bias)
    if model.bias is not None:
        table[CANDIDATE_BIAS] = Place(model.bias.weight)
    for name, number in ((LOG_TEMPERATURE, model.log_temperature), (SIGMOID_BIAS, model.sigmoid_bias)):
        if number is not None:
            table[name] = Place(number)
    canonical = parameter_table(model.config, model.sizes)
    assert set(table) == set(canonical), set(table) ^ set(canonical)
    assert {id(place.parameter) for place in table.values()} == {
        id(tensor) for tensor in (*model.parameters(), *model.buffers())
    }
    assert all(isinstance(table[name].parameter, nn.Parameter) == weight.trained for name, weight in canonical.items())
    return {name: table[name] for name in canonical}


def parameters_by_name(model: TwoTower) -> dict[str, Tensor]:
    """Canonical name -> parameter, in the model's own layout; what is not trained is left out."""
    table = name_table(model)
    return {name: place.parameter for name, place in table.items() if isinstance(place.parameter, nn.Parameter)}


def assign(model: TwoTower, arrays: Mapping[str, AnyArray]) -> None:
    """Copy canonical arrays into the model, cast to its dtypes.

    Raises:
        UserError: a name too many or too few, another shape, or a value that is not finite; nothing is copied then.
    """
    _assign({name: (place.parameter, place.transposed) for name, place in name_table(model).items()}, arrays, "weights")


def extract(model: TwoTower) -> dict[str, AnyArray]:
    """Copy the model's weights out as canonical arrays, those included that are not trained."""
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
    """Copy `.grad` of every trained parameter out as dense canonical arrays; zeros where there is none."""
    table = name_table(model)
    return {
        name: _array(_dense_gradient(tensor), table[name].transposed)
        for name, tensor in parameters_by_name(model).items()
    }


def _tower_places(side: Side, tower: MlpTower) -> dict[str, Place]:
    table = {embedding_name(side, feature): Place(module.weight) for feature, module in tower.combiner.tables.items()}
    for feature, projection in tower.combiner.projections.items():
        table[projection_name(side, feature)] = Place(projection)
    for history, encoder in tower.combiner.histories.items():
        table |= {history_table_name(history, part): Place(module.weight) for part, module in encoder.tables.items()}
        table |= {history_name(history, part): Place(*place) for part, place in encoder.parts.items()}
    for layer, linear in enumerate(tower.cross.linears):
        table[cross_kernel_name(side, layer)] = Place(linear.weight, transposed=True)
        table[cross_bias_name(side, layer)] = Place(linear.bias)
    for layer, linear in enumerate(tower.dense.linears):
        table[kernel_name(side, layer)] = Place(linear.weight, transposed=True)
        table[dense_bias_name(side, layer)] = Place(linear.bias)
    for layer, norm in enumerate(tower.dense.norms):
        table |= {norm_name(side, layer, part): Place(tensor) for part, tensor in norm.parts.items()}
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

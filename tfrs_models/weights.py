"""Crossing 3: variables <-> arrays, by one table of canonical names.

Keras kernels are [in, out] as the canonical ones are, so nothing is transposed. `write` and `read` walk the same table,
so neither can know a name that the other does not.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from retrieval_contract.arrays import AnyArray
from retrieval_contract.config import Side
from retrieval_contract.errors import UserError
from retrieval_contract.weights.history_names import history_name
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
    projection_name,
)
from tfrs_models.layers.history import HistoryEncoder
from tfrs_models.towers.mlp_tower import MlpTower
from tfrs_models.towers.two_tower import TwoTower


def parameters_by_name(model: TwoTower) -> dict[str, tf.Variable]:
    """The table: canonical name -> variable, of every weight."""
    named = tower_variables("query", model.query)
    if model.context is not None:
        named |= tower_variables("context", model.context)
    named |= tower_variables("candidate", model.candidate)
    gate = {} if model.merge is None else model.merge.parts
    alone = {
        CONTEXT_GATE_KERNEL: gate.get("kernel"),
        CONTEXT_GATE_BIAS: gate.get("bias"),
        CANDIDATE_BIAS: model.bias_table,
        LOG_TEMPERATURE: model.log_temperature,
        SIGMOID_BIAS: model.sigmoid_bias,
    }
    named |= {name: variable for name, variable in alone.items() if variable is not None}
    unnamed = {variable.ref() for variable in model.variables} - {variable.ref() for variable in named.values()}
    assert not unnamed, f"variables without a canonical name: {[ref.deref().name for ref in unnamed]}"
    return named


def assign(model: TwoTower, arrays: Mapping[str, AnyArray]) -> None:
    """Set every weight of the model from canonical arrays.

    Raises:
        UserError: an array is missing, is left over, or has another shape; all are named and no weight has changed.
    """
    write(parameters_by_name(model), arrays)


def extract(model: TwoTower) -> dict[str, AnyArray]:
    """Copy every weight of the model out, by canonical name."""
    return read(parameters_by_name(model))


def write(variables: Mapping[str, tf.Variable], arrays: Mapping[str, AnyArray]) -> None:
    """Set variables from the arrays of the same names.

    Raises:
        UserError: an array is missing, is left over, or has another shape; all are named and no variable has changed.
    """
    faults = [f"{name} is missing" for name in variables if name not in arrays]
    faults += [f"{name} is left over" for name in arrays if name not in variables]
    shapes = {name: (np.shape(arrays[name]), tuple(variables[name].shape)) for name in variables if name in arrays}
    faults += [f"{name} has shape {got}, expected {want}" for name, (got, want) in shapes.items() if got != want]
    if faults:
        todo = "use the weights and the configuration of the same run"
        raise UserError(f"weights do not fit the model: {'; '.join(faults)}", todo=todo)
    for name, variable in variables.items():
        variable.assign(np.asarray(arrays[name], variable.dtype.as_numpy_dtype))


def read(variables: Mapping[str, tf.Variable]) -> dict[str, AnyArray]:
    """Copy variables out by name; the copies do not follow later steps."""
    return {name: np.array(variable.numpy()) for name, variable in variables.items()}


def tower_variables(side: Side, tower: MlpTower) -> dict[str, tf.Variable]:
    """One tower's part of the table; a table that it shares stands with the candidate tower alone."""
    features = tower.features
    named = {embedding_name(side, name): table for name, table in features.tables.items()}
    named |= {projection_name(side, name): kernel for name, kernel in features.projections.items()}
    for history in features.histories.values():
        named |= _history_variables(history)
    for number, (kernel, bias) in enumerate(zip(tower.cross.kernels, tower.cross.biases, strict=True)):
        named[cross_kernel_name(side, number)], named[cross_bias_name(side, number)] = kernel, bias
    for number, layer in enumerate(tower.dense.layers):
        named[kernel_name(side, number)], named[dense_bias_name(side, number)] = layer.kernel, layer.bias
    for number, norm in enumerate(tower.dense.norms):
        named |= {norm_name(side, number, part): variable for part, variable in norm.parts.items()}
    return named


def _history_variables(encoder: HistoryEncoder) -> dict[str, tf.Variable]:
    """A history's linear maps and the weights of its pooling; its tables are named with the features'."""
    name = encoder.history.name
    parts = {f"field.{field}": kernel for field, kernel in encoder.kernels.items()}
    parts |= {} if encoder.pooling is None else encoder.pooling.parts
    return {history_name(name, part): variable for part, variable in parts.items()}

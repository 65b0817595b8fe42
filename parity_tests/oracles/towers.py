"""A tower forward and backward by hand, in float64.

    combined_BF = concat or sum of embeddings; multivalent and history: mean over the places that are not padding
    h_0 = combined;  h_{i+1} = act(h_i W_i + b_i);  raw = h_n W_n + b_n;  vector = raw / sqrt(max(|raw|^2, 1e-24))

The last dense layer is linear. An empty list, of values or of history, becomes zeros.
Letters: B rows of the batch, F width of the features put together, D vector width, M places of a list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles.activations import activate, slope
from retrieval_contract.config import Feature, RunConfig, Side, Tower, table_width
from retrieval_contract.weights.names import dense_bias_name, embedding_name, kernel_name

Array = NDArray[np.float64]
Arrays = dict[str, Array]
NamedArrays = Mapping[str, NDArray[Any]]

SMALLEST_SQUARE = 1e-24


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a forward pass leaves for the backward pass."""

    inputs: tuple[Array, ...]
    """Input of each dense layer, the features put together first."""
    before: tuple[Array, ...]
    """Output of each dense layer before its activation."""
    raw: Array
    """Vectors [B, D] before normalisation."""
    vectors: Array
    """Vectors [B, D], the tower's output."""


def encode(side: Side, config: RunConfig, weights: NamedArrays, features: NamedArrays) -> Trace:
    """Run one tower forward.

    Args:
        side: which tower.
        config: the run.
        weights: canonical name -> array.
        features: encoded features, leading dimension B.

    Returns:
        Vectors [B, D] and everything on the way.
    """
    tower = tower_of(side, config)
    x = combined(side, tower, weights, features)
    num_layers = len(tower.layer_dims(config.model.dim))
    inputs, before = [x], []
    for layer in range(num_layers):
        kernel = _float64(weights[kernel_name(side, layer)])
        before.append(x @ kernel + _float64(weights[dense_bias_name(side, layer)]))
        x = before[-1] if layer == num_layers - 1 else activate(tower.activation, before[-1])
        inputs.append(x)
    vectors = normalized(x) if config.model.normalize else x
    return Trace(inputs=tuple(inputs), before=tuple(before), raw=x, vectors=vectors)


def combined(side: Side, tower: Tower, weights: NamedArrays, features: NamedArrays) -> Array:
    """Put a tower's features together: [B, F]."""
    parts = [_feature_vector(side, feature, weights, features[feature.name]) for feature in tower.features]
    return sum(parts[1:], start=parts[0]) if tower.combine == "sum" else np.concatenate(parts, axis=1)


def normalized(x_BD: Array) -> Array:
    """`x / sqrt(max(|x|^2, 1e-24))`, row by row."""
    return x_BD / _norms(x_BD)


def list_weights(rows_BM: NDArray[Any]) -> Array:
    """Weight of each place of a list in its mean: 1 over the number of values, 0 on padding."""
    present_BM = (rows_BM != 0).astype(np.float64)
    return present_BM / np.maximum(present_BM.sum(axis=1, keepdims=True), 1)


def pull_back(
    side: Side, config: RunConfig, weights: NamedArrays, features: NamedArrays, trace: Trace, gradient_BD: Array
) -> Arrays:
    """Gradient of the loss with respect to every parameter of a tower, from the gradient at its vectors.

    Args:
        side: which tower.
        config: the run.
        weights: canonical name -> array.
        features: what `encode` was given.
        trace: what `encode` returned.
        gradient_BD: gradient at the vectors.

    Returns:
        Canonical name -> dense gradient, duplicates summed.
    """
    tower, gradients = tower_of(side, config), {}
    flow = normalized_backward(trace.raw, gradient_BD) if config.model.normalize else gradient_BD
    last = len(trace.before) - 1
    for layer in range(last, -1, -1):
        if layer != last:
            flow = flow * slope(tower.activation, trace.before[layer])
        gradients[kernel_name(side, layer)] = trace.inputs[layer].T @ flow
        gradients[dense_bias_name(side, layer)] = flow.sum(axis=0)
        flow = flow @ _float64(weights[kernel_name(side, layer)]).T
    return gradients | _embedding_gradients(side, tower, weights, features, flow)


def normalized_backward(x_BD: Array, gradient_BD: Array) -> Array:
    """Through `y = x / n`: (g - y <y, g>) / n; below the floor n is a constant, and only g / n is left."""
    norms_B1 = _norms(x_BD)
    y_BD = x_BD / norms_B1
    moving_B1 = (x_BD**2).sum(axis=1, keepdims=True) > SMALLEST_SQUARE
    along_B1 = np.where(moving_B1, (y_BD * gradient_BD).sum(axis=1, keepdims=True), 0)
    return (gradient_BD - y_BD * along_B1) / norms_B1


def tower_of(side: Side, config: RunConfig) -> Tower:
    """The configured tower of a side."""
    return config.query if side == "query" else config.candidate


def _feature_vector(side: Side, feature: Feature, weights: NamedArrays, values: NDArray[Any]) -> Array:
    if feature.kind == "numeric":
        return _float64(values)[:, None]
    table_VF = _float64(weights[embedding_name(side, feature.name)])
    if feature.kind in ("id", "categorical"):
        return table_VF[values]
    return (table_VF[values] * list_weights(values)[:, :, None]).sum(axis=1)


def _embedding_gradients(
    side: Side, tower: Tower, weights: NamedArrays, features: NamedArrays, flow_BF: Array
) -> Arrays:
    gradients: Arrays = {}
    start = 0
    for feature in tower.features:
        width = feature.width if table_width(feature) else 1
        part = flow_BF if tower.combine == "sum" else flow_BF[:, start : start + width]
        start += width
        if table_width(feature):
            gradient = np.zeros(weights[embedding_name(side, feature.name)].shape)
            _scatter(gradient, features[feature.name], part)
            gradients[embedding_name(side, feature.name)] = gradient
    return gradients


def _scatter(gradient_VF: Array, rows: NDArray[Any], flow_BF: Array) -> None:
    """Add each row's flow to the table rows it came from."""
    if rows.ndim == 1:
        np.add.at(gradient_VF, rows, flow_BF)
    else:
        np.add.at(gradient_VF, rows, list_weights(rows)[:, :, None] * flow_BF[:, None, :])


def _norms(x_BD: Array) -> Array:
    return np.sqrt(np.maximum((x_BD**2).sum(axis=1, keepdims=True), SMALLEST_SQUARE))


def _float64(array: NDArray[Any]) -> Array:
    return np.asarray(array, np.float64)

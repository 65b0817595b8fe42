"""Layers of a tower: activation, norms, dense layers with residual, cross layers, L2 normalisation.

    dense     a = act(norm(x W + b)); with residual a + x where the widths are equal; the last layer is linear
    cross     x' = x0 * (x W + b) + x
    layer     (x - mean_F) / sqrt(var_F + 1e-6) * scale + offset        var in its population form
    batch     (x - mean_B) / sqrt(var_B + 1e-3) * scale + offset        in serving: by the moving mean and variance
    l2        x / sqrt(max(|x|^2, 1e-24))

Source: layer norm: Ba et al. 2016, eq. 3 and 4; batch norm: Ioffe and Szegedy 2015, algorithm 1; cross: Wang et al.,
DCN V2, WWW 2021, eq. 1; residual: He et al. 2016, eq. 1; the order: docstring of `Tower`.
Letters: B rows, F width of a layer's input, G of its output, D width of a vector.
"""

import numpy as np

from parity_tests.oracles.activations import activate, slope
from parity_tests.oracles.differentiation import Array, Node, elementwise, node, root
from parity_tests.oracles.inputs import Nodes

SMALLEST_SQUARE = 1e-24
LAYER_EPSILON = 1e-6
BATCH_EPSILON = 1e-3


def activated(name: str, x: Node) -> Node:
    """Activation of each number."""
    return elementwise(x, activate(name, x.value), slope(name, x.value))


def hidden_layer(x_BF: Node, linear_BG: Node, activation: str, *, residual: bool) -> Node:
    """Activation of what kernel and norm gave, plus the layer's input where asked for and widths are equal."""
    a_BG = activated(activation, linear_BG)
    return a_BG + x_BF if residual and x_BF.shape == a_BG.shape else a_BG


def cross_layer(x0_BF: Node, x_BF: Node, kernel_FF: Node, bias_F: Node) -> Node:
    """`x0 * (x W + b) + x`."""
    return x0_BF * (x_BF @ kernel_FF + bias_F) + x_BF


def layer_norm(x: Node, scale: Node, offset: Node) -> Node:
    """Over the last axis, each row by itself."""
    mean, variance = mean_and_variance(x, axis=x.value.ndim - 1)
    return standardised(x, mean, variance, LAYER_EPSILON) * scale + offset


def standardised(x: Node, mean: Node, variance: Node, epsilon: float) -> Node:
    """`(x - mean) / sqrt(variance + epsilon)`: epsilon inside the root."""
    return (x - mean) / root(variance + epsilon)


def mean_and_variance(x: Node, axis: int) -> tuple[Node, Node]:
    """Mean and population variance along an axis, which is kept."""
    mean = x.mean(axis, keepdims=True)
    centred = x - mean
    return mean, (centred * centred).mean(axis, keepdims=True)


def moved_statistics(old: Array, batch: Array) -> Array:
    """Moving mean or variance after a step: `0.99 old + 0.01 batch`."""
    return 0.99 * old + 0.01 * batch


def normalized(x_BD: Node) -> Node:
    """`x / sqrt(max(|x|^2, 1e-24))`, along the last axis."""
    x = x_BD.value
    return Node(x / _norms(x), [(x_BD, lambda flow: normalized_backward(x, flow))])


def normalized_backward(x_BD: Array, gradient_BD: Array) -> Array:
    """Through `y = x / n`: (g - y <y, g>) / n; below the floor n is a constant, and only g / n is left."""
    norms_B1 = _norms(x_BD)
    y_BD = x_BD / norms_B1
    moving_B1 = (x_BD**2).sum(axis=-1, keepdims=True) > SMALLEST_SQUARE
    along_B1 = np.where(moving_B1, (y_BD * gradient_BD).sum(axis=-1, keepdims=True), 0)
    return (gradient_BD - y_BD * along_B1) / norms_B1


def dense(x: Node, weights: Nodes, name: str) -> Node:
    """`x @ kernel + bias` of a layer, by its canonical name without the last part."""
    return x @ weights[f"{name}.kernel"] + weights[f"{name}.bias"]


def batch_norm(x_BF: Node, scale: Node, offset: Node, mean: Node, variance: Node) -> Node:
    """By the given mean and variance: the batch's own in training, the moving ones in serving."""
    return standardised(x_BF, node(mean), node(variance), BATCH_EPSILON) * scale + offset


def _norms(x_BD: Array) -> Array:
    return np.sqrt(np.maximum((x_BD**2).sum(axis=-1, keepdims=True), SMALLEST_SQUARE))

"""The dense part of a tower."""

import math
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfrs_models.layers.dropout import dropout
from tfrs_models.layers.norm import BatchNorm, LayerNorm, Moments


def _gelu(x: tf.Tensor) -> tf.Tensor:
    """Exact form, `x (1 + erf(x / sqrt 2)) / 2`; TensorFlow's own rounds the root to float32 even in float64."""
    return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2.0)))


ACTIVATIONS = {
    "relu": tf.nn.relu,
    "gelu": _gelu,
    "silu": tf.nn.silu,
    "tanh": tf.math.tanh,
}
"""By the name in the config."""


class DenseLayers(tf.keras.layers.Layer):
    """Hidden layers, each with norm, activation and dropout, and a last linear layer; none at all is the identity.

    `x' = dropout(activation(norm(x @ kernel + bias)))` for all but the last, with `residual` plus x where widths are
    equal; `x' = x @ kernel + bias` for the last.
    """

    def __init__(
        self,
        layer_dims: Sequence[tuple[int, int]],
        activation: Literal["relu", "gelu", "silu", "tanh"] = "relu",
        dropout: float = 0.0,
        dtype: str = "float32",
        norm: Literal["none", "batch", "layer"] = "none",
        residual: bool = False,
    ) -> None:
        """Create kernels and biases, zero until weights are assigned.

        Args:
            layer_dims: (in, out) of every layer; the last one is linear.
            activation: of the hidden layers.
            dropout: rate after each hidden layer, in training.
            dtype: of weights and results.
            norm: of the hidden layers, between kernel and activation.
            residual: whether a hidden layer's input is added to its output, where their widths are equal.
        """
        super().__init__(dtype=dtype)
        self.activation = ACTIVATIONS[activation]
        self.rate = dropout
        self.layers = [_dense(width_in, width_out, dtype) for width_in, width_out in layer_dims]
        hidden = layer_dims[:-1]
        self.residual = [residual and width_in == width_out for width_in, width_out in hidden]
        make = BatchNorm if norm == "batch" else LayerNorm
        self.norms = [] if norm == "none" else [make(width_out, dtype) for _, width_out in hidden]

    def call(self, x_BF: tf.Tensor, dropout_seed: tf.Tensor | None = None, moments: Moments | None = None) -> tf.Tensor:
        """Combined features [B, F] -> vectors [B, out of the last layer].

        Args:
            x_BF: combined features.
            dropout_seed: seed [2] of this tower at this step; none means serving.
            moments: takes down what batch norms see, in training; none means serving.
        """
        # From 1: dropout number 0 of a tower is the features'.
        for number, layer in enumerate(self.layers[:-1], start=1):
            y_BF = layer(x_BF)
            if self.norms:
                y_BF = self.norms[number - 1](y_BF, moments=moments)
            y_BF = dropout(self.activation(y_BF), self.rate, dropout_seed, number)
            x_BF = y_BF + x_BF if self.residual[number - 1] else y_BF
        return self.layers[-1](x_BF) if self.layers else x_BF


def _dense(width_in: int, width_out: int, dtype: str) -> tf.keras.layers.Dense:
    # Zeros, not a random start: weights are assigned from the canonical draw, which both stacks share.
    layer = tf.keras.layers.Dense(width_out, kernel_initializer="zeros", dtype=dtype)
    layer.build((None, width_in))
    return layer

"""Norms: of each row, or of each number over the rows that are encoded together.

Letters: B rows, F width.
"""

from typing import Literal, TypeAlias

import tensorflow as tf

LAYER_EPSILON = 1e-6
BATCH_EPSILON = 1e-3
KEPT = 0.99
"""Share of itself that a moving statistic keeps at every batch."""

NormPart: TypeAlias = Literal["scale", "offset", "mean", "variance"]
_TRAINED: tuple[NormPart, ...] = ("scale", "offset")
_STATISTICS: tuple[NormPart, ...] = ("mean", "variance")


class LayerNorm(tf.keras.layers.Layer):
    """`scale * (x - mean) / sqrt(variance + 1e-6) + offset`, mean and population variance over a row's own numbers."""

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Create scale and offset, zero until weights are assigned.

        Args:
            width: numbers F of a row.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        self.parts: dict[NormPart, tf.Variable] = {
            name: self.add_weight(name, (width,), initializer="zeros") for name in _TRAINED
        }

    def call(self, x_BF: tf.Tensor, moments: "Moments | None" = None) -> tf.Tensor:
        """Rows [..., F] -> rows [..., F]; a row of equal numbers gives the offset.

        Args:
            x_BF: rows.
            moments: not looked at; the other norm's.
        """
        centred_BF = x_BF - tf.reduce_mean(x_BF, axis=-1, keepdims=True)
        variance_B1 = tf.reduce_mean(tf.square(centred_BF), axis=-1, keepdims=True)
        return centred_BF / tf.sqrt(variance_B1 + LAYER_EPSILON) * self.parts["scale"] + self.parts["offset"]


class BatchNorm(tf.keras.layers.Layer):
    """`scale * (x - mean) / sqrt(variance + 1e-3) + offset`, mean and population variance of each number.

    In training they are those of the rows given, with gradient; when serving, the moving ones.
    """

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Create scale, offset and the moving statistics, zero until weights are assigned.

        Args:
            width: numbers F of a row.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        self.parts: dict[NormPart, tf.Variable] = {
            name: self.add_weight(name, (width,), initializer="zeros", trainable=name in _TRAINED)
            for name in _TRAINED + _STATISTICS
        }

    def call(self, x_BF: tf.Tensor, moments: "Moments | None" = None) -> tf.Tensor:
        """Rows [B, F] -> rows [B, F].

        Args:
            x_BF: all rows that are encoded together.
            moments: takes down this batch's mean and variance, which then count; none means serving.
        """
        mean_F, variance_F = self.parts["mean"], self.parts["variance"]
        if moments is not None:
            mean_F = tf.reduce_mean(x_BF, axis=0)
            variance_F = tf.reduce_mean(tf.square(x_BF - mean_F), axis=0)
            moments.append((self, tf.stop_gradient(mean_F), tf.stop_gradient(variance_F)))
        normal_BF = (x_BF - mean_F) / tf.sqrt(variance_F + BATCH_EPSILON)
        return normal_BF * self.parts["scale"] + self.parts["offset"]

    def follow(self, mean_F: tf.Tensor, variance_F: tf.Tensor) -> None:
        """Move the moving statistics towards a batch's: `0.99 moving + 0.01 batch`.

        Args:
            mean_F: the batch's mean [F].
            variance_F: its population variance [F].
        """
        for name, batch_F in zip(_STATISTICS, (mean_F, variance_F), strict=True):
            self.parts[name].assign(KEPT * self.parts[name] + (1 - KEPT) * batch_F)


Moments: TypeAlias = list[tuple[BatchNorm, tf.Tensor, tf.Tensor]]
"""What batch norms saw: the norm, the batch's mean [F] and its population variance [F], without gradient."""

"""Deep cross layers.

Letters: B rows, F width of all features put together.
"""

import tensorflow as tf


class CrossLayers(tf.keras.layers.Layer):
    """Features times linear maps of themselves: `x' = x0 * (x W + b) + x`, layer by layer; none is the identity.

    Source: Wang et al., WWW 2021 (DCN-v2), eq. 1.
    """

    def __init__(self, width: int, num_layers: int, dtype: str = "float32") -> None:
        """Create kernels [F, F] and biases [F], zero until weights are assigned.

        Args:
            width: F.
            num_layers: how many.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        self.kernels = [
            self.add_weight(f"kernel_{layer}", (width, width), initializer="zeros") for layer in range(num_layers)
        ]
        self.biases = [self.add_weight(f"bias_{layer}", (width,), initializer="zeros") for layer in range(num_layers)]

    def call(self, x_BF: tf.Tensor) -> tf.Tensor:
        """Rows [B, F] -> rows [B, F]."""
        start_BF = x_BF
        for kernel_FF, bias_F in zip(self.kernels, self.biases, strict=True):
            x_BF = start_BF * (tf.matmul(x_BF, kernel_FF) + bias_F) + x_BF
        return x_BF

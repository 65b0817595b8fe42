"""Items weighed by a learned score.

Letters: B histories, L items of a history, W width of an item.
"""

import tensorflow as tf

from tfrs_models.layers.pooling import softmax_over_real


class AttentionPooling(tf.keras.layers.Layer):
    """`sum_l a_l h_l` with `a = softmax(v . tanh(h W + b))` over the real items."""

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Create the weights, zero until they are assigned.

        Args:
            width: W.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        shapes = {"kernel": (width, width), "bias": (width,), "vector": (width, 1)}
        self.parts = {name: self.add_weight(name, shape, initializer="zeros") for name, shape in shapes.items()}

    def call(self, items_BLW: tf.Tensor, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Items -> vectors [B, W]; an empty history gives zeros.

        Args:
            items_BLW: items, zero at padded places.
            real_BL: True where an item is.
            dropout_seed: nothing here is drawn.
        """
        hidden_BLW = tf.tanh(tf.tensordot(items_BLW, self.parts["kernel"], 1) + self.parts["bias"])
        share_BL1 = softmax_over_real(tf.tensordot(hidden_BLW, self.parts["vector"], 1), real_BL)
        return tf.reduce_sum(share_BL1 * items_BLW, axis=1)

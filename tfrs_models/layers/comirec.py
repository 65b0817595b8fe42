"""Self-attentive interests.

Letters: B histories, L items of a history, W width of an item, A width of the attention, I interests.
"""

import tensorflow as tf

from tfrs_models.layers.pooling import rows_of, softmax_over_real, steps_back


class ComiRecPooling(tf.keras.layers.Layer):
    """`A = softmax over the real items of tanh((H + P) W1) W2`, `U = A^T H`; P positions counted from the newest item.

    Source: Cen et al., KDD 2020 (ComiRec-SA), eq. 7 and 8; there H itself carries the positions.
    """

    def __init__(
        self, width: int, max_length: int, num_interests: int, attention_dim: int, dtype: str = "float32"
    ) -> None:
        """Create the weights, zero until they are assigned.

        Args:
            width: W.
            max_length: largest L.
            num_interests: I.
            attention_dim: width A between the two kernels.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        shapes = {
            "position": (max_length, width),
            "kernel_1": (width, attention_dim),
            "kernel_2": (attention_dim, num_interests),
        }
        self.parts = {name: self.add_weight(name, shape, initializer="zeros") for name, shape in shapes.items()}

    def call(self, items_BLW: tf.Tensor, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Items -> interests [B, I, W]; an empty history gives zeros.

        Args:
            items_BLW: items, zero at padded places.
            real_BL: True where an item is.
            dropout_seed: nothing here is drawn.
        """
        placed_BLW = items_BLW + rows_of(self.parts["position"], steps_back(real_BL))
        hidden_BLA = tf.tanh(tf.tensordot(placed_BLW, self.parts["kernel_1"], 1))
        share_BLI = softmax_over_real(tf.tensordot(hidden_BLA, self.parts["kernel_2"], 1), real_BL)
        return tf.matmul(share_BLI, items_BLW, transpose_a=True)

"""Interests by dynamic routing.

Letters: B histories, L items of a history, W width of an item, I interests.
"""

import tensorflow as tf

from tfrs_models.layers.dropout import fold_in
from tfrs_models.layers.pooling import rows_of, steps_back

_ROUTING_STREAM = 1
"""Stream of the routing logits; 0 is the items' dropout."""


class MindPooling(tf.keras.layers.Layer):
    """Capsules of behaviour to interest: `u = h S`; each iteration shares the items out among the interests anew.

    Routing logits b start from N(0, 1), drawn for each batch where there is a seed, else from a fixed draw that is
    a weight without training. An iteration: `w = softmax over the interests of b`, `z_i = sum_l w_li u_l`,
    `k_i = squash(z_i)`, `b_li += <k_i, u_l>`. No gradient passes through w: it reaches items and kernel through the
    last iteration's sum alone.

    Source: Li et al., CIKM 2019 (MIND), section 4.2; there the number of interests follows the history's length.
    """

    def __init__(
        self, width: int, max_length: int, num_interests: int, num_iterations: int, dtype: str = "float32"
    ) -> None:
        """Create kernel and fixed routing logits, zero until they are assigned.

        Args:
            width: W.
            max_length: largest L.
            num_interests: I.
            num_iterations: iterations, 1 or more.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        self.num_interests, self.num_iterations = num_interests, num_iterations
        routing = (max_length, num_interests)
        self.parts = {
            "kernel": self.add_weight("kernel", (width, width), initializer="zeros"),
            "routing": self.add_weight("routing", routing, initializer="zeros", trainable=False),
        }

    def call(self, items_BLW: tf.Tensor, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Items -> interests [B, I, W]; an empty history gives zeros.

        Args:
            items_BLW: items, zero at padded places.
            real_BL: True where an item is.
            dropout_seed: seed [2] of the routing logits; none takes the fixed ones.
        """
        u_BLW = tf.tensordot(items_BLW, self.parts["kernel"], 1)
        fixed_BLW, logits_BLI = tf.stop_gradient(u_BLW), self._start(real_BL, dropout_seed)
        for _ in range(self.num_iterations - 1):
            interests_BIW = _squash(self._gathered(logits_BLI, fixed_BLW, real_BL))
            logits_BLI += tf.matmul(fixed_BLW, interests_BIW, transpose_b=True)
        return _squash(self._gathered(logits_BLI, u_BLW, real_BL))

    def _start(self, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None) -> tf.Tensor:
        if dropout_seed is None:
            return tf.stop_gradient(rows_of(self.parts["routing"], steps_back(real_BL)))
        shape = tf.concat([tf.shape(real_BL), [self.num_interests]], axis=0)
        seed_2 = fold_in(dropout_seed, _ROUTING_STREAM)
        return tf.random.stateless_normal(shape, seed_2, dtype=self.dtype, alg="philox")

    @staticmethod
    def _gathered(logits_BLI: tf.Tensor, u_BLW: tf.Tensor, real_BL: tf.Tensor) -> tf.Tensor:
        """`z_i = sum_l w_li u_l` [B, I, W], w without gradient and 0 at padded places."""
        share_BLI = tf.nn.softmax(logits_BLI, axis=2)
        share_BLI = tf.where(real_BL[:, :, None], share_BLI, tf.zeros_like(share_BLI))
        return tf.matmul(tf.stop_gradient(share_BLI), u_BLW, transpose_a=True)


def _squash(z_BIW: tf.Tensor) -> tf.Tensor:
    """`|z|^2 / (1 + |z|^2) z / |z|`; zero stays zero, with gradient 0."""
    squared_BI1 = tf.reduce_sum(tf.square(z_BIW), axis=2, keepdims=True)
    nothing_BI1 = squared_BI1 == 0
    # The root of 0 has an infinite gradient, and times 0 that is NaN: it must not be taken.
    length_BI1 = tf.sqrt(tf.where(nothing_BI1, tf.ones_like(squared_BI1), squared_BI1))
    scale_BI1 = length_BI1 / (1 + squared_BI1)
    return z_BIW * tf.where(nothing_BI1, tf.zeros_like(scale_BI1), scale_BI1)

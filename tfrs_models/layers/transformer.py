"""A causal transformer over the items.

Letters: B histories, L items of a history, W width of an item, H heads, F hidden width of the feed-forward part.
"""

import tensorflow as tf

from retrieval_contract.config import TransformerPooling as TransformerSettings
from tfrs_models.layers.dense import ACTIVATIONS
from tfrs_models.layers.dropout import dropout
from tfrs_models.layers.norm import LayerNorm
from tfrs_models.layers.pooling import at_last_item, rows_of, steps_back

_DENSE = ("query", "key", "value", "output", "feed_forward.0", "feed_forward.1")


class TransformerPooling(tf.keras.layers.Layer):
    """Items plus positions, then blocks, then a norm; the last real place is the vector (SASRec).

    A block: `x += drop(attention(norm_1(x)))`, `x += drop(ff1(drop(act(ff0(norm_2(x))))))`. Attention has heads of
    neighbouring numbers, scale `1 / sqrt(W / H)`, and looks at a place itself and at those before it.

    Source: Kang and McAuley, ICDM 2018 (SASRec); there the norm comes in another place of the block.
    """

    def __init__(self, width: int, max_length: int, pooling: TransformerSettings, dtype: str = "float32") -> None:
        """Create the weights, zero until they are assigned.

        Args:
            width: W.
            max_length: largest L.
            pooling: blocks, heads, feed-forward part, dropout.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        self.settings, self.width = pooling, width
        hidden = pooling.feed_forward_dim or width
        weights = {"position": self.add_weight("position", (max_length, width), initializer="zeros")}
        norms = {"norm": LayerNorm(width, dtype)}
        for number in range(pooling.num_blocks):
            norms |= {f"block.{number}.{name}": LayerNorm(width, dtype) for name in ("norm_1", "norm_2")}
            for name in _DENSE:
                layer = f"block.{number}.{name}"
                width_in, width_out = {"feed_forward.0": (width, hidden), "feed_forward.1": (hidden, width)}.get(
                    name, (width, width)
                )
                weights[f"{layer}.kernel"] = self.add_weight(
                    f"{layer}.kernel", (width_in, width_out), initializer="zeros"
                )
                weights[f"{layer}.bias"] = self.add_weight(f"{layer}.bias", (width_out,), initializer="zeros")
        for name, norm in norms.items():
            weights |= {f"{name}.{part}": variable for part, variable in norm.parts.items()}
        self.norms, self.parts = norms, weights

    def call(self, items_BLW: tf.Tensor, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Items -> vector of the last real place [B, W]; an empty history gives zeros.

        Args:
            items_BLW: items, zero at padded places.
            real_BL: True where an item is; the first places of each row.
            dropout_seed: seed [2] of this history at this step; none means serving.
        """
        return at_last_item(self.places(items_BLW, real_BL, dropout_seed), real_BL)

    def places(self, items_BLW: tf.Tensor, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Items -> vector of each place [B, L, W], zeros at padded ones; arguments as in `call`."""
        zero = tf.zeros([], items_BLW.dtype)
        x_BLW = items_BLW + rows_of(self.parts["position"], steps_back(real_BL))
        # Number 0 of the seed is the items' dropout, so this one is 1.
        x_BLW = tf.where(real_BL[:, :, None], dropout(x_BLW, self.settings.dropout, dropout_seed, 1), zero)
        for number in range(self.settings.num_blocks):
            x_BLW = self._block(x_BLW, f"block.{number}.", dropout_seed, 2 + 4 * number)
        return tf.where(real_BL[:, :, None], self.norms["norm"](x_BLW), zero)

    def _block(self, x_BLW: tf.Tensor, name: str, seed_2: tf.Tensor | None, stream: int) -> tf.Tensor:
        rate = self.settings.dropout
        attended_BLW = self._attention(self.norms[name + "norm_1"](x_BLW), name, seed_2, stream)
        x_BLW += dropout(attended_BLW, rate, seed_2, stream + 1)
        hidden_BLF = self._dense(self.norms[name + "norm_2"](x_BLW), name + "feed_forward.0")
        hidden_BLF = dropout(ACTIVATIONS[self.settings.activation](hidden_BLF), rate, seed_2, stream + 2)
        return x_BLW + dropout(self._dense(hidden_BLF, name + "feed_forward.1"), rate, seed_2, stream + 3)

    def _attention(self, x_BLW: tf.Tensor, name: str, seed_2: tf.Tensor | None, stream: int) -> tf.Tensor:
        heads = self.settings.num_heads
        query_BHLD, key_BHLD, value_BHLD = (
            self._split(self._dense(x_BLW, name + part)) for part in ("query", "key", "value")
        )
        scale = (self.width / heads) ** -0.5
        logits_BHLL = tf.matmul(query_BHLD * scale, key_BHLD, transpose_b=True)
        # Padding stands behind the real items, so causal is enough: no real place sees a padded one, and the padded
        # places, whose results are thrown away, see something, so that no row of the softmax is empty.
        place_L = tf.range(tf.shape(x_BLW)[1])
        allowed_LL = place_L[:, None] >= place_L
        share_BHLL = tf.nn.softmax(tf.where(allowed_LL, logits_BHLL, tf.constant(float("-inf"), logits_BHLL.dtype)))
        attended_BHLD = tf.matmul(dropout(share_BHLL, self.settings.dropout, seed_2, stream), value_BHLD)
        joined_BLW = tf.reshape(tf.transpose(attended_BHLD, [0, 2, 1, 3]), tf.shape(x_BLW))
        return self._dense(joined_BLW, name + "output")

    def _split(self, x_BLW: tf.Tensor) -> tf.Tensor:
        """[B, L, W] -> [B, H, L, W / H]."""
        heads = self.settings.num_heads
        shape = tf.shape(x_BLW)
        x_BLHD = tf.reshape(x_BLW, [shape[0], shape[1], heads, self.width // heads])
        return tf.transpose(x_BLHD, [0, 2, 1, 3])

    def _dense(self, x_BLF: tf.Tensor, name: str) -> tf.Tensor:
        return tf.tensordot(x_BLF, self.parts[f"{name}.kernel"], 1) + self.parts[f"{name}.bias"]

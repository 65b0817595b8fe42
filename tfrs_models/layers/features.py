"""Features -> one vector each, put together.

Letters: B examples, L places of a list (a history or a multi-valent feature), W width of an embedding, V vocabulary
rows, F width of all features put together.
"""

from collections.abc import Mapping

import tensorflow as tf

from retrieval_contract.config import Feature, Tower, table_width

_PADDING_ROW = 0
"""Vocabulary row of an empty place in a list."""


class FeatureCombiner(tf.keras.layers.Layer):
    """Looks up, pools and puts together the features of one side.

    One value (id, categorical) is its embedding; a list (multivalent, history) is the mean of its embeddings, padding
    left out, and zeros where it is empty; a number (numeric) is one column. Then concat, or sum.
    """

    def __init__(self, tower: Tower, sizes: Mapping[str, int], dtype: str = "float32") -> None:
        """Create one table [V, W] a feature, zero until weights are assigned.

        Args:
            tower: features in order, and how to combine them.
            sizes: vocabulary rows V by feature name.
            dtype: of tables and results.
        """
        super().__init__(dtype=dtype)
        self.tower = tower
        self.tables = {
            feature.name: self.add_weight(
                name=f"embedding_{position}", shape=(sizes[feature.name], feature.width), initializer="zeros"
            )
            for position, feature in enumerate(tower.features)
            if table_width(feature)
        }

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encoded features -> combined features [B, F].

        Args:
            features: by name: int32 [B], int32 [B, L] padded with 0 behind, or float [B]; others are not looked at.
        """
        parts = [self._part(feature, features[feature.name]) for feature in self.tower.features]
        return tf.add_n(parts) if self.tower.combine == "sum" else tf.concat(parts, axis=-1)

    def _part(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        if feature.kind == "numeric":
            return tf.cast(values, self.dtype)[:, None]
        # A gather from the variable itself: its gradient is IndexedSlices, and nothing reads the whole table.
        embedded = tf.gather(self.tables[feature.name], values)
        return embedded if values.shape.rank == 1 else _masked_mean(embedded, values != _PADDING_ROW)


def _masked_mean(x_BLW: tf.Tensor, allowed_BL: tf.Tensor) -> tf.Tensor:
    """Mean over the allowed places of each list.

    Other places are selected away before the sum, so they get no gradient and their values do not matter.

    Args:
        x_BLW: embeddings [B, L, W].
        allowed_BL: True where a place counts [B, L].

    Returns:
        Means [B, W]; zeros where no place of a list is allowed, or L is 0.
    """
    sum_BW = tf.reduce_sum(tf.where(allowed_BL[:, :, None], x_BLW, tf.zeros([], x_BLW.dtype)), axis=1)
    count_B = tf.math.count_nonzero(allowed_BL, axis=1, dtype=x_BLW.dtype)
    return sum_BW / tf.maximum(count_B, 1)[:, None]

"""What an exported search keeps of the vectors to rescore by: `retrieval_contract.indexes.stored`, in a graph.

Letters: N candidates, D width, C rows taken.
"""

from typing import final

import tensorflow as tf

from retrieval_contract.indexes.stored import StoredVectors
from tfrs_models.indexes.products import products


@final
class KeptVectors(tf.Module):
    """Candidate vectors in a stated precision, as variables."""

    def __init__(self, stored: StoredVectors) -> None:
        """Take over what an index stores, of any kind but none."""
        super().__init__()
        codes, scales_N = stored.arrays()
        self.size = stored.size
        self._codes = tf.Variable(codes, trainable=False, name="vectors")
        self._scales = None if scales_N is None else tf.Variable(scales_N, trainable=False, name="vector_scales")

    def products(self, query_D: tf.Tensor) -> tf.Tensor:
        """Float32 inner products with all candidates [N]: rough scores."""
        scores_N = products(self._codes, query_D)
        return scores_N if self._scales is None else scores_N * self._scales

    def scores(self, query_D: tf.Tensor, rows_C: tf.Tensor) -> tf.Tensor:
        """Inner products in float64, rounded to float32 [C]: equal vectors get equal scores wherever they lie."""
        values_CD = tf.cast(tf.gather(self._codes, rows_C), tf.float32)
        if self._scales is not None:
            values_CD *= tf.gather(self._scales, rows_C)[:, None]
        scores_C = tf.reduce_sum(tf.cast(values_CD, tf.float64) * tf.cast(query_D, tf.float64), axis=1)
        return tf.cast(scores_C, tf.float32)

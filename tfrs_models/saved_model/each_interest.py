"""Several vectors of a query, each searched for by itself, where a search knows one vector a query.

Letters: B queries, I vectors of each, D width, N candidates, X excluded, K results.
"""

from typing import final

import tensorflow as tf

from tfrs_models.indexes.partitioned_search import PartitionedSearch
from tfrs_models.saved_model.ordering import Found, merged


@final
class EachInterest(tf.Module):
    """Partitioned search for every vector of a query, the results merged.

    Nothing is lost: a candidate that is not among the best K of the vector it fits best is behind K others there.
    """

    def __init__(self, search: PartitionedSearch) -> None:
        """Keep the search; its variables are saved with this module."""
        super().__init__()
        self._one = search

    def __call__(
        self,
        queries_BID: tf.Tensor,
        k: tf.Tensor,
        excluded_BX: tf.Tensor | None = None,
        allowed_BN: tf.Tensor | None = None,
    ) -> Found:
        """Find the best K; arguments as of `ExactSearch`."""
        shape = tf.shape(queries_BID)
        each = [None if tensor is None else tf.repeat(tensor, shape[1], axis=0) for tensor in (excluded_BX, allowed_BN)]
        rows, scores = self._one(tf.reshape(queries_BID, [-1, shape[2]]), k, *each)
        if queries_BID.shape[1] == 1:
            return rows, scores
        together = [shape[0], shape[1] * tf.shape(rows)[1]]
        return merged(tf.reshape(rows, together), tf.reshape(scores, together), k)

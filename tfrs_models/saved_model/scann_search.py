"""Search by ScaNN's TensorFlow ops, for servers that load its op library.

ScaNN proposes by partitions and hashed scores, and nothing else of it is used: it would cap k silently, repeat rows and
return the excluded ones. What it proposes is scored again by the exact vectors, and a query for which it proposes too
few is answered by looking at all candidates.

SOAR is left out, since the ops refuse it. Where the settings have it, twice as many partitions are searched as they
say, since each holds half as many candidates then: as many codes are looked at. The recall is not what was measured of
an index with SOAR.

Letters: B queries, I vectors of each, D width, N candidates, M proposed, X excluded, K results.
"""

import math
from pathlib import Path
from typing import Any, final

import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.errors import UserError
from tfrs_models.indexes.scann_index import SPARE
from tfrs_models.indexes.scann_structure import ScannStructure
from tfrs_models.saved_model.exact_search import ExactSearch
from tfrs_models.saved_model.ordering import Found, rescored

DEEP = 8
"""Where one in so many candidates would have to be proposed, all are looked at instead."""


@final
class ScannSearch(tf.Module):
    """The structure that `ScannIndex` would have, but for SOAR and for vectors of ScaNN's own; then exact scores."""

    def __init__(self, values_ND: Any, settings: config.Index) -> None:
        """Train the partitions and the codebook.

        Args:
            values_ND: candidate vectors float32.
            settings: fields `scann_*`.

        Raises:
            UserError: ScaNN is not here, or cannot build with these settings.
        """
        super().__init__()
        self._exact = ExactSearch(values_ND)
        self._leaves_for_one = 2 if settings.scann_soar else 1
        self._settings = settings.model_copy(update={"scann_soar": False, "scann_reorder": "none"})
        self.structure = ScannStructure.of(self._settings, *self._exact.values_ND.shape)
        self._ops = scann_ops()
        self._state = self._built(values_ND)

    def __call__(
        self,
        queries_BID: tf.Tensor,
        k: tf.Tensor,
        excluded_BX: tf.Tensor | None = None,
        allowed_BN: tf.Tensor | None = None,
    ) -> Found:
        """Find the best K; arguments as of `ExactSearch`. Fewer than K come only where fewer are allowed."""
        wanted = self._wanted(k, excluded_BX, allowed_BN)
        looks_at_all = tf.logical_or(tf.equal(tf.shape(queries_BID)[0], 0), wanted >= -(-self._exact.size // DEEP))

        def propose() -> Found:
            found = self._ranked(queries_BID, k, wanted, excluded_BX, allowed_BN)
            return self._completed(found, queries_BID, k, excluded_BX, allowed_BN)

        return tf.cond(looks_at_all, lambda: self._exact(queries_BID, k, excluded_BX, allowed_BN), propose)

    def _wanted(self, k: tf.Tensor, excluded_BX: tf.Tensor | None, allowed_BN: tf.Tensor | None) -> tf.Tensor:
        """How deep a query has to be searched for K to be left, N at most."""
        size, wanted = self._exact.size, tf.cast(k, tf.int64)
        if excluded_BX is not None:
            wanted += tf.reduce_max(tf.math.count_nonzero(excluded_BX >= 0, axis=1))
        if allowed_BN is not None:
            # Among what is proposed the allowed ones will have the share that they have in the whole catalogue.
            fewest = tf.reduce_min(tf.math.count_nonzero(allowed_BN, axis=1))
            wanted = wanted * size // tf.maximum(fewest, 1)
        return tf.cast(tf.clip_by_value(wanted, 1, size), tf.int32)

    def _ranked(
        self,
        queries_BID: tf.Tensor,
        k: tf.Tensor,
        wanted: tf.Tensor,
        excluded_BX: tf.Tensor | None,
        allowed_BN: tf.Tensor | None,
    ) -> Found:
        """All that ScaNN proposes and may be returned, K places at least."""
        shape = tf.shape(queries_BID)
        depth = tf.minimum(tf.maximum(SPARE * wanted, self._settings.scann_rescore), self._exact.size)
        queries_FD = tf.reshape(queries_BID, [-1, shape[2]])
        searcher = self._state.recreate_handle()
        leaves = self._leaves(depth) if self.structure.kind == "tree" else -1
        rows_FM, scores_FM = self._ops.scann_search_batched(searcher, queries_FD, depth, -1, leaves, False)
        # Where the searched leaves hold fewer than asked for, ScaNN repeats rows and scores them NaN.
        rows_FM = tf.where(tf.math.is_nan(scores_FM), -1, rows_FM)
        rows_BM = tf.reshape(rows_FM, [shape[0], shape[1] * tf.shape(rows_FM)[1]])
        if allowed_BN is not None:
            rows_BM = tf.where(tf.gather(allowed_BN, tf.maximum(rows_BM, 0), batch_dims=1), rows_BM, -1)
        # All that was proposed, not the best K alone: the worst of it says what was not.
        return rescored(self._exact.values_ND, queries_BID, rows_BM, tf.maximum(k, tf.shape(rows_BM)[1]), excluded_BX)

    def _leaves(self, depth: tf.Tensor) -> tf.Tensor:
        """Partitions to search: as configured, or as many more as hold what is wanted `SPARE` squared times over."""
        leaves = self.structure.num_leaves
        configured = self._settings.scann_leaves_to_search or math.ceil(2 * math.sqrt(leaves))
        needed = -(-tf.cast(depth, tf.int64) * (SPARE**2 * leaves) // self._exact.size)
        return tf.cast(tf.clip_by_value(needed, min(self._leaves_for_one * configured, leaves), leaves), tf.int32)

    def _completed(
        self,
        found: Found,
        queries_BID: tf.Tensor,
        k: tf.Tensor,
        excluded_BX: tf.Tensor | None,
        allowed_BN: tf.Tensor | None,
    ) -> Found:
        """The best K of what was found; by looking at all candidates where that is not settled.

        It is not where fewer than K are found, nor where the last of them is no better than the worst that was
        proposed: one that was not proposed might be as good, in a smaller row.
        """
        rows_BM, scores_BM = found
        last_B1 = tf.maximum(tf.math.count_nonzero(rows_BM >= 0, axis=1, keepdims=True, dtype=tf.int32) - 1, 0)
        is_open_B = scores_BM[:, k - 1] <= tf.gather(scores_BM, last_B1, batch_dims=1)[:, 0]
        open_S1 = tf.where(is_open_B)
        rows_BK, scores_BK = rows_BM[:, :k], scores_BM[:, :k]

        def of_open(tensor: tf.Tensor | None) -> tf.Tensor | None:
            return None if tensor is None else tf.gather_nd(tensor, open_S1)

        def complete() -> Found:
            again = self._exact(of_open(queries_BID), k, of_open(excluded_BX), of_open(allowed_BN))
            rows = tf.tensor_scatter_nd_update(rows_BK, open_S1, again[0])
            return rows, tf.tensor_scatter_nd_update(scores_BK, open_S1, again[1])

        return tf.cond(tf.size(open_S1) > 0, complete, lambda: (rows_BK, scores_BK))

    def _built(self, values_ND: Any) -> Any:
        """Variables that hold ScaNN's structure."""
        builder = self.structure.configured(self._ops.builder(values_ND, 1, "dot_product"), self._settings)
        try:
            return builder.build().serialize_to_module()
        except tf.errors.OpError as error:
            what = f"ScaNN cannot build an index of {self._exact.size:,} vectors ({error.message})"
            raise UserError(what, todo="raise index.scann_brute_force_below, or set fewer index.scann_leaves") from None


def scann_ops() -> Any:
    """ScaNN's TensorFlow ops.

    Raises:
        UserError: the package is not installed, or its library does not load into this TensorFlow.
    """
    try:
        from scann.scann_ops.py import scann_ops
    except (ImportError, tf.errors.NotFoundError) as error:
        what = f"ScaNN's TensorFlow ops cannot be loaded ({error}); they exist for Linux only"
        raise UserError(what, todo="use --kind=exact or --kind=partitioned") from None
    return scann_ops


def scann_library() -> Path:
    """The file of ScaNN's op library."""
    return Path(scann_ops().__file__).parents[1] / "cc" / "_scann_ops.so"

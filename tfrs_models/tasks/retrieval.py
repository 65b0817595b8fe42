"""The retrieval task: TFRS's, with the numerics that TFRS gets wrong put right, and with every source of negatives.

Letters: B queries, N columns that all of them share (positives, sampled, bank), X columns of one row alone
(impressions), D vector width.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from retrieval_contract.config import Loss, Negatives
from tfrs_models.losses.pairwise import bpr, contrastive, triplet
from tfrs_models.losses.pointwise import gbce, sigmoid
from tfrs_models.losses.softmax import catalogue_cross_entropy, refined_softmax, softmax_cross_entropy
from tfrs_models.negatives.bank import log_sum
from tfrs_models.negatives.columns import Columns
from tfrs_models.negatives.hardest import keep_hardest
from tfrs_models.negatives.in_batch import in_batch_logits, row_wise_logits
from tfrs_models.negatives.masks import mask_accidental_hits, mask_disallowed, mask_known_positives


class RetrievalTask(tfrs.tasks.Retrieval):
    """Columns, masks and loss of a batch, as the settings ask for.

    In the plain case (softmax over the batch, no bias) it equals `tfrs.tasks.Retrieval` divided by the sum of the
    weights where every sampling probability is above 1e-6. Below 1e-6 stock TFRS corrects as if the probability were
    1e-6; here log_q is taken as it is.
    """

    def __init__(self, settings: Loss, negatives: Negatives, num_candidates: int) -> None:
        """Keep the settings.

        Args:
            settings: loss, correction, accidental hits.
            negatives: masks, and how many negatives count.
            num_candidates: candidates V of the catalogue; only gbce looks at it.
        """
        super().__init__(
            temperature=settings.temperature, remove_accidental_hits=settings.remove_accidental_hits, name="retrieval"
        )
        # Keras would cast the first argument, and it alone, to its float32: a float64 model would lose half its digits.
        self._autocast = False
        self.settings, self.negatives, self.num_candidates = settings, negatives, num_candidates

    def call(
        self,
        query_BD: tf.Tensor,
        columns: Columns,
        *,
        positive_columns_B: tf.Tensor,
        weights_B: tf.Tensor,
        total_weight: tf.Tensor | None = None,
        temperature: float | tf.Tensor,
        sigmoid_bias: tf.Tensor | None = None,
        bank: Columns | None = None,
        allowed_BN: tf.Tensor | None = None,
        known_positives: Mapping[str, tf.Tensor] | None = None,
        impressions: Columns | None = None,
        impressions_allowed_BX: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Vectors -> loss, scalar, nats per query.

        Args:
            query_BD: query vectors [B, D].
            columns: the batch's positives, then the sampled columns; or the whole catalogue.
            positive_columns_B: column of each row's positive among them [B].
            weights_B: sample weights [B].
            total_weight: sum of the weights of the whole batch, where these rows are a part of it.
            temperature: what inner products are divided by.
            sigmoid_bias: learned bias of the sigmoid loss, scalar.
            bank: columns behind those, for all rows; none means none.
            allowed_BN: the explicit mask over `columns`, True where one counts for a row; none allows all.
            known_positives: `places` and `rows` [M] of what queries are known to like; looked at where masked.
            impressions: each row's own columns, [B, X] in place of [N]; none means none.
            impressions_allowed_BX: False where a row has no impression [B, X].
        """
        if self._needs_no_logits:
            return catalogue_cross_entropy(
                query_BD / temperature,
                columns.vectors_ND,
                columns.bias_N,
                weights_B,
                positive_columns_B,
                total_weight,
                self._gone(positive_columns_B, known_positives),
            )
        masked = functools.partial(self._masked, known_positives=known_positives)
        logits_BN = self._logits(query_BD, columns, temperature)
        if allowed_BN is not None:
            logits_BN = mask_disallowed(logits_BN, allowed_BN)
        rows_N, log_q_N = columns.rows_N, columns.log_q_N
        if bank is not None and not self._sums_the_bank:
            # Logits are joined, not columns: nothing copies the bank's vectors, and they need no gradient.
            logits_BN = tf.concat([logits_BN, self._logits(query_BD, bank, temperature)], axis=1)
            rows_N, log_q_N = (tf.concat(pair, axis=0) for pair in ((rows_N, bank.rows_N), (log_q_N, bank.log_q_N)))
        logits_BN = masked(logits_BN, rows_N, positive_columns_B)
        if bank is not None and self._sums_the_bank:
            positive_rows_B = tf.gather(rows_N, positive_columns_B)
            logits_BN = tf.concat([logits_BN, self._bank_logit(query_BD, bank, temperature, positive_rows_B)], axis=1)
        if impressions is not None:
            own_BX = self._own_logits(query_BD, impressions, temperature)
            own_BX = mask_disallowed(own_BX, impressions_allowed_BX)
            # The positive goes in front, for the masks to compare with, and comes off again.
            own_BX = tf.concat([tf.zeros_like(query_BD[:, :1]), own_BX], axis=1)
            rows_BX = tf.concat([tf.gather(columns.rows_N, positive_columns_B)[:, None], impressions.rows_N], axis=1)
            own_BX = masked(own_BX, rows_BX, tf.zeros_like(positive_columns_B))[:, 1:]
            logits_BN = tf.concat([logits_BN, own_BX], axis=1)
            log_q_N = _row_wise(log_q_N, impressions.log_q_N)
        if self.negatives.hardest is not None:
            logits_BN = keep_hardest(logits_BN, positive_columns_B, self.negatives.hardest)
        return self._loss_of(logits_BN, weights_B, positive_columns_B, total_weight, log_q_N, sigmoid_bias)

    @property
    def _needs_no_logits(self) -> bool:
        """True where the loss can be found from the vectors: over the whole catalogue, not over its hardest."""
        return self.settings.kind == "full_softmax" and self.negatives.hardest is None

    def _gone(
        self, positive_columns_B: tf.Tensor, known_positives: Mapping[str, tf.Tensor] | None
    ) -> tuple[tf.Tensor, tf.Tensor] | None:
        """Row and entity row of the known positives that are masked, the rows' own positives apart."""
        if not self.negatives.mask_known_positives:
            return None
        assert known_positives is not None, "the batch carries the known positives where they are to be masked"
        places_M, rows_M = known_positives["places"], known_positives["rows"]
        others_M = rows_M != tf.gather(positive_columns_B, places_M)
        return tf.boolean_mask(places_M, others_M), tf.boolean_mask(rows_M, others_M)

    @property
    def _sums_the_bank(self) -> bool:
        """True where one number a row is all that the loss has to know of the bank."""
        only_sum = self.settings.kind == "softmax" and self.settings.log_q != "refined"
        return only_sum and self.negatives.hardest is None and not self.negatives.mask_known_positives

    def _bank_logit(
        self, query_BD: tf.Tensor, bank: Columns, temperature: float | tf.Tensor, positive_rows_B: tf.Tensor
    ) -> tf.Tensor:
        """One logit that stands for all of the bank's [B, 1]: to a softmax their log-sum-exp is as good as they are."""
        added_S = -bank.log_q_N if self._corrects else tf.zeros_like(bank.log_q_N)
        added_S = added_S if bank.bias_N is None else added_S + bank.bias_N
        gone = (positive_rows_B, bank.rows_N) if self.settings.remove_accidental_hits else None
        return log_sum(query_BD / temperature, bank.vectors_ND, added_S, gone)[:, None]

    def _own_logits(self, query_BD: tf.Tensor, impressions: Columns, temperature: float | tf.Tensor) -> tf.Tensor:
        return row_wise_logits(
            query_BD,
            impressions.vectors_ND,
            temperature=temperature,
            bias_BX=impressions.bias_N,
            log_q_BX=impressions.log_q_N if self._corrects else None,
        )

    def _logits(self, query_BD: tf.Tensor, columns: Columns, temperature: float | tf.Tensor) -> tf.Tensor:
        return in_batch_logits(
            query_BD,
            columns.vectors_ND,
            temperature=temperature,
            bias_N=columns.bias_N,
            log_q_N=columns.log_q_N if self._corrects else None,
        )

    @property
    def _corrects(self) -> bool:
        """True where log_q is subtracted from the logits; the refined loss does it by itself."""
        return self.settings.log_q in ("exact", "streaming")

    def _masked(
        self,
        logits_BN: tf.Tensor,
        rows_N: tf.Tensor,
        positive_columns_B: tf.Tensor,
        known_positives: Mapping[str, tf.Tensor] | None,
    ) -> tf.Tensor:
        # Over the whole catalogue every candidate stands once.
        if self.settings.remove_accidental_hits and self.settings.kind != "full_softmax":
            logits_BN = mask_accidental_hits(logits_BN, rows_N, positive_columns_B)
        if self.negatives.mask_known_positives:
            assert known_positives is not None, "the batch carries the known positives where they are to be masked"
            logits_BN = mask_known_positives(
                logits_BN, rows_N, positive_columns_B, known_positives["places"], known_positives["rows"]
            )
        return logits_BN

    def _loss_of(
        self,
        logits_BN: tf.Tensor,
        weights_B: tf.Tensor,
        positive_columns_B: tf.Tensor,
        total_weight: tf.Tensor | None,
        log_q_N: tf.Tensor,
        sigmoid_bias: tf.Tensor | None,
    ) -> tf.Tensor:
        settings = self.settings
        named: dict[str, tuple[Callable[..., tf.Tensor], dict[str, Any]]] = {
            "bpr": (bpr, {}),
            "triplet": (triplet, {"margin": settings.margin}),
            "contrastive": (contrastive, {"margin": settings.margin}),
            "sigmoid": (sigmoid, {"bias": sigmoid_bias}),
            "gbce": (gbce, {"num_candidates": self.num_candidates, "t": settings.gbce_t}),
        }
        loss, arguments = named.get(settings.kind, (softmax_cross_entropy, {}))
        if settings.log_q == "refined":
            loss, arguments = refined_softmax, {"log_q_N": log_q_N}
        return loss(logits_BN, weights_B, positive_columns_B, total_weight, **arguments)


def _row_wise(log_q_N: tf.Tensor, log_q_BX: tf.Tensor) -> tf.Tensor:
    """log_q of the shared columns and of each row's own [B, N + X]."""
    shape = [tf.shape(log_q_BX)[0], tf.shape(log_q_N)[0]]
    return tf.concat([tf.broadcast_to(log_q_N, shape), log_q_BX], axis=1)

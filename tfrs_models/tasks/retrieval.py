"""The retrieval task: TFRS's, with the numerics that TFRS gets wrong put right."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from retrieval_contract.config import Loss
from tfrs_models.losses.softmax import softmax_cross_entropy
from tfrs_models.negatives.in_batch import in_batch_logits
from tfrs_models.negatives.masks import mask_accidental_hits


class RetrievalTask(tfrs.tasks.Retrieval):
    """In-batch softmax with temperature, candidate bias, sampling-bias correction and accidental-hit removal.

    Equals `tfrs.tasks.Retrieval` divided by the sum of the weights where every sampling probability is above 1e-6 and
    there is no bias. Below 1e-6 stock TFRS corrects as if the probability were 1e-6; here log_q is taken as it is.
    """

    def __init__(self, settings: Loss) -> None:
        """Keep the settings.

        Args:
            settings: temperature, correction and masks.
        """
        super().__init__(
            temperature=settings.temperature, remove_accidental_hits=settings.remove_accidental_hits, name="retrieval"
        )
        # Keras would cast the first argument, and it alone, to its float32: a float64 model would lose half its digits.
        self._autocast = False
        self.settings = settings

    def call(
        self,
        query_BD: tf.Tensor,
        candidate_BD: tf.Tensor,
        *,
        bias_N: tf.Tensor | None,
        candidate_rows_B: tf.Tensor,
        log_q_N: tf.Tensor,
        weights_B: tf.Tensor,
    ) -> tf.Tensor:
        """Vectors -> loss, scalar, nats per query.

        Args:
            query_BD: query vectors [B, D].
            candidate_BD: vectors of the queries' positives [B, D].
            bias_N: candidate bias [B]; none means none.
            candidate_rows_B: entity rows of the positives [B].
            log_q_N: natural log of each candidate's sampling probability [B]; not looked at where the settings ask
                for no correction.
            weights_B: sample weights [B].
        """
        logits_BN = in_batch_logits(
            query_BD,
            candidate_BD,
            temperature=self.settings.temperature,
            bias_N=bias_N,
            log_q_N=None if self.settings.log_q == "none" else log_q_N,
        )
        if self.settings.remove_accidental_hits:
            logits_BN = mask_accidental_hits(logits_BN, candidate_rows_B)
        return softmax_cross_entropy(logits_BN, weights_B)

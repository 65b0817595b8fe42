"""The retrieval task: two sets of vectors in, one loss out. Letters: B queries, N candidates scored, D vector width."""

from typing import final

from torch import Tensor, nn

from retrieval_contract import config
from torch_reference.losses.softmax import softmax_cross_entropy
from torch_reference.negatives.in_batch import in_batch_logits
from torch_reference.negatives.masks import mask_accidental_hits, mask_disallowed


@final
class RetrievalTask(nn.Module):
    """In-batch softmax: inner product, temperature, bias, log_q, accidental hits, allowed mask, weighted mean.

    The steps do not commute, and this is their order; metrics are not computed here.
    """

    def __init__(self, settings: config.Loss) -> None:
        """Keep the settings.

        Args:
            settings: temperature, correction and masks.
        """
        super().__init__()
        self._settings = settings

    def forward(
        self,
        query_BD: Tensor,
        candidate_BD: Tensor,
        *,
        bias_N: Tensor | None = None,
        candidate_rows_B: Tensor | None = None,
        log_q_N: Tensor | None = None,
        weights_B: Tensor | None = None,
        allowed_BN: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            query_BD: query vectors [B, D].
            candidate_BD: candidate vectors [N, D]; the positive of query i is candidate i.
            bias_N: candidate bias [N].
            candidate_rows_B: entity rows of the columns' candidates [N]; needed where accidental hits are removed.
            log_q_N: natural log of sampling probabilities [N]; needed, and used, only where a correction is configured.
            weights_B: sample weights [B]; none means all 1.
            allowed_BN: boolean [B, N], True counts; none means all.

        Returns:
            Scalar loss, nats per query.
        """
        settings = self._settings
        assert settings.log_q == "none" or log_q_N is not None, "a correction is configured, but log_q_N is missing"
        logits_BN = in_batch_logits(
            query_BD,
            candidate_BD,
            temperature=settings.temperature,
            bias_N=bias_N,
            log_q_N=None if settings.log_q == "none" else log_q_N,
        )
        if settings.remove_accidental_hits:
            assert candidate_rows_B is not None, "accidental hits are to be removed, but candidate_rows_B is missing"
            logits_BN = mask_accidental_hits(logits_BN, candidate_rows_B)
        if allowed_BN is not None:
            logits_BN = mask_disallowed(logits_BN, allowed_BN)
        return softmax_cross_entropy(logits_BN, query_BD.new_ones(len(query_BD)) if weights_B is None else weights_B)

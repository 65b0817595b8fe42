"""Losses that judge each pair alone. Letters: B queries in the batch, N candidates scored.

The negatives of row i are its n columns other than the positive p that are not -inf; the loss is
`sum_i w_i l_i / sum_i w_i`.
"""

from torch import Tensor
from torch.nn import functional

from torch_reference.losses.softmax import positives_and_negatives, weighted_mean


def sigmoid(
    logits_BN: Tensor,
    weights_B: Tensor,
    positive_columns_B: Tensor,
    total_weight: Tensor | None = None,
    *,
    bias: Tensor,
) -> Tensor:
    """Sigmoid loss: `l_i = softplus(-(s_ip + beta)) + sum_neg softplus(s_ij + beta)`.

    Args:
        logits_BN: logits [B, N]. -inf takes a column out of its row; a positive must not be -inf.
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B].
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.
        bias: beta, one learned number [1].

    Returns:
        Scalar. 0, with gradients 0, where all weights are 0; a row without negatives keeps its positive's term.

    Source:
        Zhai et al., ICCV 2023 (SigLIP), equation in section 3.2; a sum over the row there too.
    """
    positive_B1, negatives_BN, _ = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    losses_B = _softplus(-(positive_B1 + bias)).squeeze(1) + _softplus(negatives_BN + bias).sum(dim=1)
    return weighted_mean(losses_B, weights_B, total_weight)


def gbce(
    logits_BN: Tensor,
    weights_B: Tensor,
    positive_columns_B: Tensor,
    total_weight: Tensor | None = None,
    *,
    num_candidates: int,
    t: float,
) -> Tensor:
    """Generalised binary cross-entropy, which undoes the over-confidence that few negatives teach.

    `alpha = min(1, n / (V - 1))`, `beta = alpha (t (1 - 1/alpha) + 1/alpha) = 1 - t (1 - alpha)`,
    `l_i = (beta softplus(-s_ip) + sum_neg softplus(s_ij)) / (n + 1)`.

    Args:
        logits_BN: logits [B, N]. -inf takes a column out of its row; a positive must not be -inf.
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B].
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.
        num_candidates: V, size of the catalogue.
        t: calibration, 0 (plain binary cross-entropy) to 1.

    Returns:
        Scalar. 0, with gradients 0, where all weights are 0; a row without negatives keeps its positive's term.

    Source:
        Petrov and Macdonald, RecSys 2023 (gSASRec), equations 6 and 7; the sampling rate is each row's own.
    """
    positive_B1, negatives_BN, num_B = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    num_B = num_B.to(logits_BN.dtype)
    alpha_B = (num_B / max(num_candidates - 1, 1)).clamp(max=1)
    beta_B = 1 - t * (1 - alpha_B)
    losses_B = beta_B * _softplus(-positive_B1).squeeze(1) + _softplus(negatives_BN).sum(dim=1)
    return weighted_mean(losses_B / (num_B + 1), weights_B, total_weight)


def _softplus(x: Tensor) -> Tensor:
    """`log(1 + exp(x))`; torch's own is linear above 20, which is 1e-9 off there."""
    return -functional.logsigmoid(-x)

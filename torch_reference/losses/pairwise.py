"""Losses that compare a positive with each of its negatives. Letters: B queries in the batch, N candidates scored.

The negatives of row i are its n columns other than the positive p that are not -inf; the loss is
`sum_i w_i l_i / sum_i w_i`.
"""

import torch
from torch import Tensor
from torch.nn import functional

from torch_reference.losses.softmax import positives_and_negatives, weighted_mean


def bpr(logits_BN: Tensor, weights_B: Tensor, positive_columns_B: Tensor, total_weight: Tensor | None = None) -> Tensor:
    """Bayesian personalised ranking: `l_i = 1/n sum_neg softplus(s_ij - s_ip)`.

    Args:
        logits_BN: logits [B, N]. -inf takes a column out of its row; a positive must not be -inf.
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B].
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.

    Returns:
        Scalar. 0, with gradients 0, where all weights are 0; a row without negatives has loss 0.

    Source:
        Rendle et al., UAI 2009, section 4; here the mean over a row's negatives, and no regularisation.
    """
    positive_B1, negatives_BN, num_B = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    # softplus(x) = -logsigmoid(-x): torch's own softplus is linear above 20, which is 1e-9 off there.
    pairs_BN = -functional.logsigmoid(positive_B1 - negatives_BN)
    return weighted_mean(pairs_BN.sum(dim=1) / num_B.clamp(min=1), weights_B, total_weight)


def triplet(
    logits_BN: Tensor,
    weights_B: Tensor,
    positive_columns_B: Tensor,
    total_weight: Tensor | None = None,
    *,
    margin: float,
) -> Tensor:
    """Triplet loss on logits: `l_i = 1/n sum_neg max(0, margin + s_ij - s_ip)`.

    Args:
        logits_BN: logits [B, N]. -inf takes a column out of its row; a positive must not be -inf.
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B].
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.
        margin: how far a positive's logit must be above a negative's, 0 or more.

    Returns:
        Scalar. 0, with gradients 0, where all weights are 0; a row without negatives has loss 0. On the kink the
        gradient is 0.

    Source:
        Schroff et al., CVPR 2015, equation 2, on inner products in place of squared distances; all negatives, no
        mining.
    """
    positive_B1, negatives_BN, num_B = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    pairs_BN = torch.relu(margin + (negatives_BN - positive_B1))
    return weighted_mean(pairs_BN.sum(dim=1) / num_B.clamp(min=1), weights_B, total_weight)


def contrastive(
    logits_BN: Tensor,
    weights_B: Tensor,
    positive_columns_B: Tensor,
    total_weight: Tensor | None = None,
    *,
    margin: float,
) -> Tensor:
    """Contrastive loss on cosine distances `d = 1 - s`: `l_i = 1/2 (d_ip^2 + 1/n sum_neg max(0, margin - d_ij)^2)`.

    A pair's relevance is its row's sample weight.

    Args:
        logits_BN: cosines [B, N]. -inf takes a column out of its row; a positive must not be -inf.
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B].
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.
        margin: distance from which on a negative is left alone.

    Returns:
        Scalar. 0, with gradients 0, where all weights are 0; a row without negatives keeps its positive's term.

    Source:
        Hadsell et al., CVPR 2006, equation 4, with the mean over a row's negatives.
    """
    positive_B1, negatives_BN, num_B = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    near_BN = torch.relu(margin - (1 - negatives_BN)).square()
    far_B = (1 - positive_B1.squeeze(1)).square()
    return weighted_mean((far_B + near_BN.sum(dim=1) / num_B.clamp(min=1)) / 2, weights_B, total_weight)

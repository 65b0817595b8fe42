"""Softmax cross-entropy with the positive on the diagonal. Letters: B queries in the batch, N candidates, N >= B."""

import torch
from torch import Tensor
from torch.nn import functional


def softmax_cross_entropy(logits_BN: Tensor, weights_B: Tensor) -> Tensor:
    """Weighted mean over queries of the negative log-probability of each query's positive.

    `l_i = logsumexp_j s_ij - s_ii`, loss = `sum_i w_i l_i / sum_i w_i`. A mean, not the sum that TFRS takes.

    Args:
        logits_BN: logits [B, N]; the positive of row i is column i. -inf takes a column out of its row; a positive must
            not be -inf.
        weights_B: sample weights [B], finite and not negative.

    Returns:
        Scalar, nats per query. 0, with gradients 0, where all weights are 0. One column or none beside -inf gives 0.

    Source:
        Numerics, order on the logits, 7.
    """
    positives_B = torch.arange(len(logits_BN), device=logits_BN.device)
    losses_B = functional.cross_entropy(logits_BN, positives_B, reduction="none")
    total = weights_B.sum()
    return (weights_B * losses_B).sum() / torch.where(total > 0, total, 1)

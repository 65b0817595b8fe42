"""Columns that are no negatives of a row. Letters: B queries in the batch, N candidates scored, N >= B.

A mask selects with -inf before the softmax; multiplying would leave the column in the sum.
"""

import math

from torch import Tensor


def mask_accidental_hits(logits_BN: Tensor, candidate_rows_B: Tensor) -> Tensor:
    """Put -inf where a column holds the same candidate as the row's positive, the positive's own column excepted.

    Args:
        logits_BN: logits [B, N]; the positive of row i is column i.
        candidate_rows_B: entity row of each column's candidate [N], the first B being the positives.

    Returns:
        Logits [B, N]; the input is not written.

    Source:
        Numerics, order on the logits, 4.
    """
    positives_B1 = candidate_rows_B[: len(logits_BN)].unsqueeze(1)
    repeated_BN = positives_B1 == candidate_rows_B.unsqueeze(0)
    repeated_BN.fill_diagonal_(False)
    return logits_BN.masked_fill(repeated_BN, -math.inf)


def mask_disallowed(logits_BN: Tensor, allowed_BN: Tensor) -> Tensor:
    """Put -inf where a column is not allowed for a row.

    Args:
        logits_BN: logits [B, N].
        allowed_BN: boolean [B, N], True counts; a row's positive must be allowed.

    Returns:
        Logits [B, N]; the input is not written.

    Source:
        Numerics, order on the logits, 5.
    """
    return logits_BN.masked_fill(~allowed_BN, -math.inf)

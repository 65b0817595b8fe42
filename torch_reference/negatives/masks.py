"""Columns that are no negatives of a row. Letters: B queries in the batch, N candidates scored, M pairs, H hits.

A mask selects with -inf before the softmax; multiplying would leave the column in the sum.
"""

import math

import torch
from torch import Tensor


def mask_accidental_hits(
    logits_BN: Tensor, candidate_rows_N: Tensor, positive_columns_B: Tensor | None = None
) -> Tensor:
    """Put -inf where a column holds the same candidate as the row's positive, the positive's own column excepted.

    Args:
        logits_BN: logits [B, N].
        candidate_rows_N: entity row of each column's candidate [N].
        positive_columns_B: column of each row's positive [B]; none means the diagonal.

    Returns:
        Logits [B, N]; the input is not written.

    Source:
        Numerics, order on the logits, 4.
    """
    places_B = torch.arange(len(logits_BN), device=logits_BN.device)
    positive_columns_B = places_B if positive_columns_B is None else positive_columns_B
    rows_B = candidate_rows_N[positive_columns_B]
    return mask_known_positives(logits_BN, candidate_rows_N, positive_columns_B, places_B, rows_B)


def mask_known_positives(
    logits_BN: Tensor, candidate_rows_N: Tensor, positive_columns_B: Tensor, places_M: Tensor, rows_M: Tensor
) -> Tensor:
    """Put -inf where a column holds a candidate that the row's query is known to like, its positive's column excepted.

    Args:
        logits_BN: logits [B, N].
        candidate_rows_N: entity row of each column's candidate [N].
        positive_columns_B: column of each row's positive [B].
        places_M: row of the logits, 0 to B - 1, of each known pair [M].
        rows_M: entity row of the candidate of each known pair [M].

    Returns:
        Logits [B, N]; the input is not written.

    Source:
        Numerics, order on the logits, 4.
    """
    places_H, columns_H = matches(candidate_rows_N, places_M, rows_M)
    others_H = columns_H != positive_columns_B[places_H]
    gone = places_H[others_H], columns_H[others_H]
    return logits_BN.index_put(gone, logits_BN.new_tensor(-math.inf))


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


def matches(candidate_rows_N: Tensor, places_M: Tensor, rows_M: Tensor) -> tuple[Tensor, Tensor]:
    """Find every column that holds a pair's candidate.

    Columns are sorted and searched, so that the cost is that of the pairs and of what they match, never M N.

    Args:
        candidate_rows_N: entity row of each column's candidate [N].
        places_M: row of the logits of each pair [M].
        rows_M: entity row of the candidate of each pair [M].

    Returns:
        Row of the logits and column of each match, both [H]; a pair may have none or several.
    """
    sorted_N, order_N = candidate_rows_N.sort(stable=True)
    first_M = torch.searchsorted(sorted_N, rows_M)
    num_M = torch.searchsorted(sorted_N, rows_M, right=True) - first_M
    places_H = places_M.repeat_interleave(num_M)
    # The h-th match overall is the (h - matches of earlier pairs)-th of its pair.
    within_H = torch.arange(len(places_H), device=num_M.device) - (num_M.cumsum(0) - num_M).repeat_interleave(num_M)
    return places_H, order_N[first_M.repeat_interleave(num_M) + within_H]

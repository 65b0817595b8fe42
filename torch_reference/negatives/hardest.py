"""In-batch hard negatives. Letters: B queries in the batch, N candidates scored."""

import math

from torch import Tensor


def keep_hardest(logits_BN: Tensor, positive_columns_B: Tensor, num_hardest: int) -> Tensor:
    """Put -inf on all but the largest logits among each row's negatives.

    Args:
        logits_BN: logits [B, N]; what is -inf already is no negative.
        positive_columns_B: column of each row's positive [B], which always stays.
        num_hardest: K, negatives to keep, 1 or more. Where no more remain, nothing changes. Of equal logits at the
            last place those in the earlier columns stay.

    Returns:
        Logits [B, N]; the input is not written.

    Source:
        Numerics, order on the logits, 6.
    """
    assert num_hardest >= 1, num_hardest
    if num_hardest >= logits_BN.shape[1] - 1:
        return logits_BN
    negatives_BN = logits_BN.detach().scatter(1, positive_columns_B.unsqueeze(1), -math.inf)
    # The least of the K largest: their order, which would cost as much as finding them, does not matter.
    last_B1 = negatives_BN.topk(num_hardest, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    dropped_BN = negatives_BN < last_B1
    kept_B = negatives_BN.shape[1] - dropped_BN.sum(dim=1)
    # More than K are kept where logits are equal at the last place, or where fewer than K are finite.
    if bool((kept_B > num_hardest).any()):
        dropped_BN |= _behind_equals(negatives_BN, last_B1, num_hardest)
    return logits_BN.masked_fill(dropped_BN.scatter(1, positive_columns_B.unsqueeze(1), False), -math.inf)


def _behind_equals(negatives_BN: Tensor, last_B1: Tensor, num_hardest: int) -> Tensor:
    """Columns equal to the last place's logit that stand behind enough others of it."""
    free_B1 = num_hardest - (negatives_BN > last_B1).sum(dim=1, keepdim=True)
    equal_BN = negatives_BN == last_B1
    return equal_BN & (equal_BN.cumsum(dim=1) > free_B1)

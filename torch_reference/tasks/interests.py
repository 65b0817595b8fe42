"""One query vector out of several, chosen by the candidate that training tells.

Letters: B queries in the batch, I interests, D vector width.
"""

import torch
from torch import Tensor


def attend_label(interests_BID: Tensor, positive_BD: Tensor, power: float) -> Tensor:
    """Weigh the interests by how well they fit the positive: `sum_i a_i k_i`, `a = softmax_i(sign(s) |s|^power)`.

    With `s_i = <k_i, v>`, and a gradient through s to both. At s = 0 a power below 1 has no slope; 0 is taken.

    Args:
        interests_BID: interests k [B, I, D].
        positive_BD: vectors v of the queries' positives [B, D].
        power: above 0; the larger, the more the best interest takes.

    Returns:
        Vectors [B, D].

    Source:
        Li et al., CIKM 2019 (MIND), section 3.4; the sign keeps a power of 2 from favouring what fits worst.
    """
    scores_BI = (interests_BID @ positive_BD.unsqueeze(2)).squeeze(2)
    if power != 1:
        is_zero_BI = scores_BI == 0
        # A root has no slope at 0, which therefore sees a 1; and no power becomes infinite, whose softmax is NaN.
        largest = torch.finfo(scores_BI.dtype).max ** (0.5 / power)
        lengths_BI = torch.where(is_zero_BI, 1, scores_BI.abs()).clamp(max=largest)
        scores_BI = torch.where(is_zero_BI, 0, lengths_BI.pow(power) * scores_BI.sign())
    return (scores_BI.softmax(dim=1).unsqueeze(1) @ interests_BID).squeeze(1)


def choose_interest(interests_BID: Tensor, positive_BD: Tensor) -> Tensor:
    """Take each query's interest with the largest inner product with its positive; of equals the first.

    Args:
        interests_BID: interests k [B, I, D].
        positive_BD: vectors of the queries' positives [B, D]; they get no gradient from the choice.

    Returns:
        Vectors [B, D]; the chosen interests alone have a gradient.

    Source:
        Cen et al., KDD 2020 (ComiRec), equation 9.
    """
    scores_BI = (interests_BID.detach() @ positive_BD.detach().unsqueeze(2)).squeeze(2)
    # argmax does not promise the first of equals.
    is_best_BI = scores_BI == scores_BI.amax(dim=1, keepdim=True)
    places_I = torch.arange(is_best_BI.shape[1], device=is_best_BI.device)
    chosen_B = torch.where(is_best_BI, places_I, len(places_I)).amin(dim=1)
    return interests_BID[torch.arange(len(chosen_B), device=chosen_B.device), chosen_B]

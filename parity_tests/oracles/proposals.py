"""The probability of a column of a mixed batch, whichever way it was drawn.

    log Q(j) = log( (B c(j)/C + E_r r(j) + E_h h(j) + X x(j)) / (B + E_r + E_h + X) )

c(j)/C: share of the train positives; r: what random columns are drawn from; h: marginal of the mined columns over the
train examples; x: marginal of the impressions over the train examples; B, E_r, E_h, X: how many of each a batch has (X
for one row).

Source: Yang et al., WWW 2020 (companion), mixed negative sampling, with more sources than its two.
"""

from collections.abc import Sequence

import numpy as np

from parity_tests.oracles.differentiation import Array


def mixture_log_q(sources: Sequence[tuple[float, Array]]) -> Array:
    """Natural log of every candidate's probability.

    Args:
        sources: number of columns of each source, and its probability of each candidate [V], which sums to 1.

    Returns:
        log Q [V]; -inf for a candidate that no source draws.
    """
    columns = sum(number for number, _ in sources)
    expected_V = sum(number * probability_V for number, probability_V in sources)
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(expected_V) / columns)

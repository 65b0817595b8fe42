"""The probability with which a candidate enters a batch."""

import numpy as np

from retrieval_contract.arrays import Float32Array, Int64Array


def exact_log_q(counts_N: Int64Array) -> Float32Array:
    """Natural log of each candidate's share of the train positives: `log_q_j = log(c(j) / C)`.

    Examples are drawn uniformly from the train positives, so a column of a batch holds candidate j with probability
    c(j) / C. Computed in float64 and never clipped: a candidate of one row in a hundred million keeps its log_q.

    Args:
        counts_N: train positives of each candidate, 0 or more, not all 0.

    Returns:
        log_q [N], finite. A candidate that is no train positive is never drawn; its place holds 0, which nobody may
        read as a probability (`TrainingBatches` asserts that no batch asks for it).

    Source: Yi, Yang, Hong et al., RecSys 2019, equation 3, with p known exactly.
    """
    assert counts_N.ndim == 1
    assert counts_N.min(initial=0) >= 0
    total = counts_N.sum()
    assert total > 0, "no train positive to count"
    log_q_N = np.zeros(counts_N.shape, np.float32)
    drawn = counts_N > 0
    log_q_N[drawn] = np.log(counts_N[drawn] / np.float64(total))
    return log_q_N

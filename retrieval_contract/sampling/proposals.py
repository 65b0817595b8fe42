"""Candidates drawn from the whole catalogue, and the probability with which a column of any kind holds a candidate.

Letters: N candidates (the catalogue), T train positives, P places to fill.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array, Int64Array
from retrieval_contract.sampling.frequency import exact_log_q
from retrieval_contract.sampling.streams import Float64Array, uniforms


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One source of columns beside a batch's positives."""

    num_columns: int
    """Columns from it that a row has."""
    probability: Float64Array
    """Chance that such a column holds each candidate [N]; sums to 1, or to less where a column may stay empty."""


def uniform_rows(draws: np.random.Philox, num: int, *, num_candidates: int) -> Int32Array:
    """Draw entity rows evenly from the catalogue, with replacement [P]."""
    return (uniforms(draws, num) * num_candidates).astype(np.int32)


def popularity_rows(draws: np.random.Philox, num: int, *, positives_T: Int32Array) -> Int32Array:
    """Draw entity rows by train count, with replacement [P]: the candidate of a train positive drawn evenly.

    So c(j) / C is met exactly, and no table of sums, which would round rare candidates away, is needed.
    """
    return positives_T[(uniforms(draws, num) * len(positives_T)).astype(np.int64)]


def uniform_probability(num_candidates: int) -> Float64Array:
    """Probability of `uniform_rows` [N]."""
    return np.full(num_candidates, 1 / num_candidates)


def popularity_probability(counts_N: Int64Array) -> Float64Array:
    """Probability of `popularity_rows` [N]; 0 for a candidate that is no train positive."""
    return counts_N / np.float64(counts_N.sum())


def mixture_log_q(counts_N: Int64Array, *, num_positives: int, proposals: Sequence[Proposal]) -> Float32Array:
    """Natural log of the share of a row's columns that hold each candidate, whichever way a column was drawn.

    `log Q(j) = log((B c(j)/C + sum_s E_s q_s(j)) / (B + sum_s E_s))`, with B positives in the batch and E_s columns
    of source s. Computed in float64 and never clipped. Where columns of a source may stay empty, Q sums to less than
    1; a softmax does not see it, because the missing factor is the same for all columns.

    Args:
        counts_N: train positives of each candidate, 0 or more, not all 0.
        num_positives: B.
        proposals: the other sources; those without columns do not count, and with none at all the result is
            `exact_log_q`, to the bit.

    Returns:
        log Q [N], finite. A candidate that no source can draw holds 0, which nobody may read as a probability.

    Source: Yang et al., WWW 2020 (mixed negative sampling), for one uniform source; here for any number of any kind.
    """
    sources = [source for source in proposals if source.num_columns]
    if not sources:
        return exact_log_q(counts_N)
    columns_N = num_positives * popularity_probability(counts_N)
    for source in sources:
        columns_N += source.num_columns * source.probability
    log_q_N = np.zeros(counts_N.shape, np.float32)
    drawn = columns_N > 0
    num_columns = num_positives + sum(source.num_columns for source in sources)
    log_q_N[drawn] = np.log(columns_N[drawn] / num_columns)
    return log_q_N

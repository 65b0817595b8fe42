"""What a model has to beat: popularity, a linear model of the same train rows, and, where it is known, the truth.

Letters: B queries of a block, N candidates, Q queries.
"""

import contextlib
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.data.prepare import Part, PreparedData
from retrieval_contract.data.sources.raw import Truth
from retrieval_contract.evaluation.counting import within
from retrieval_contract.evaluation.scorers import FunctionScorer, Scorer
from retrieval_contract.evaluation.threads import one_core_blas

Float64Array = NDArray[np.float64]

NEIGHBOURS = 200
"""Most similar candidates kept for each one in the item-item model, so that its memory grows as the catalogue does."""
ONE_CORE_UP_TO = 4_000
"""Largest matrix inverted on one core, in a second or two; several cores wait for each other in busy loops, which on a
machine that does something else too took ten times as long."""
MOST_SIMILARITIES = 4_000_000
"""Similarities computed at once."""


def popularity(counts: Int64Array) -> Scorer:
    """Score every candidate by its train positives [N], the same for all queries."""
    scores_N = counts.astype(np.float32)
    return FunctionScorer(
        lambda positions: np.tile(scores_N, (len(positions), 1)), len(counts), name="the popularity baseline"
    )


def train_matrix(prepared: PreparedData) -> scipy.sparse.csr_matrix:
    """1 where the query has a train positive of the candidate, however often [num queries, N]."""
    return _ones(prepared, prepared.train_positives)


def known_matrix(prepared: PreparedData, part: Part) -> scipy.sparse.csr_matrix:
    """1 where the query has a positive of the candidate in a row that is known when the part is asked about [Q, N]."""
    return _ones(prepared, prepared.known_positive_rows(part))


def _ones(prepared: PreparedData, places: Int64Array) -> scipy.sparse.csr_matrix:
    rows = prepared.interactions
    shape = len(prepared.queries.ids), len(prepared.candidates.ids)
    ones = np.ones(len(places), np.float32)
    matrix = scipy.sparse.csr_matrix((ones, (rows.query_rows[places], rows.candidate_rows[places])), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def linear(
    train_QN: scipy.sparse.csr_matrix, asked_QN: scipy.sparse.csr_matrix, *, l2: float, ease_max_candidates: int
) -> Scorer:
    """EASE where the catalogue fits, item-item cosine where it does not.

    Args:
        train_QN: of all queries; what the weights are learned from.
        asked_QN: what is known of the queries to score, in the order of the positions asked for.
        l2: regularisation of EASE.
        ease_max_candidates: largest N whose matrix is inverted.
    """
    num_candidates = train_QN.shape[1]
    if num_candidates <= ease_max_candidates:
        weights_NN = ease_weights(train_QN, l2)
        return FunctionScorer(lambda positions: asked_QN[positions] @ weights_NN, num_candidates, name="EASE")
    nearest_NN = cosine_similarities(train_QN)
    return FunctionScorer(
        lambda positions: (asked_QN[positions] @ nearest_NN).toarray(), num_candidates, name="item-item cosine"
    )


def ease_weights(train_QN: scipy.sparse.csr_matrix, l2: float) -> Float32Array:
    """Solve the linear autoencoder whose diagonal is zero, B = I - P diag(1 / diag P), P = (X^T X + l2 I)^-1.

    Args:
        train_QN: X, 1 where there is a train positive.
        l2: regularisation, above 0.

    Returns:
        B [N, N]; the scores of a query are its row of X times B. Solved in float64, kept in float32.

    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, eq. 8.
    """
    ones = train_QN.astype(np.float64)
    gram_NN: Float64Array = (ones.T @ ones).toarray(order="F")
    gram_NN[np.diag_indices_from(gram_NN)] += l2
    with contextlib.nullcontext() if len(gram_NN) > ONE_CORE_UP_TO else one_core_blas():
        lower_NN = _inverted(gram_NN)
    diagonal_N = lower_NN.diagonal().astype(np.float32)
    weights_NN = np.tril(lower_NN, -1).astype(np.float32)
    weights_NN += weights_NN.T.copy()
    weights_NN /= -diagonal_N
    return np.ascontiguousarray(weights_NN)


def _inverted(gram_NN: Float64Array) -> Float64Array:
    """Invert a positive definite matrix in place [N, N]; what is above the diagonal of the result means nothing.

    Through its Cholesky factor: half the work and a third of the memory of a general inverse.
    """
    factor_NN, failed = scipy.linalg.lapack.dpotrf(gram_NN, lower=True, overwrite_a=True)
    assert failed == 0, "X^T X + l2 I is positive definite"
    lower_NN, failed = scipy.linalg.lapack.dpotri(factor_NN, lower=True, overwrite_c=True)
    assert failed == 0, "the factor has no zero on its diagonal"
    return lower_NN


def cosine_similarities(train_QN: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Cosine of every two candidates' train queries, the nearest few of each kept, nothing on the diagonal.

    Args:
        train_QN: 1 where there is a train positive.

    Returns:
        [N, N]: row i holds the candidates that a query of i is recommended for it. A candidate without train rows is
        similar to nothing.
    """
    lengths_N = np.sqrt(np.bincount(train_QN.indices, minlength=train_QN.shape[1]))
    scale = scipy.sparse.diags((1 / np.maximum(lengths_N, 1)).astype(np.float32))
    unit_QN = (train_QN.astype(np.float32) @ scale).tocsr()
    unit_NQ = unit_QN.T.tocsr()
    num_candidates = train_QN.shape[1]
    step = max(1, MOST_SIMILARITIES // num_candidates)
    blocks = [
        _nearest((unit_NQ[start : start + step] @ unit_QN).tocsr(), start) for start in range(0, num_candidates, step)
    ]
    return scipy.sparse.vstack(blocks, format="csr")


def _nearest(similarities: scipy.sparse.csr_matrix, first_row: int) -> scipy.sparse.csr_matrix:
    """Keep the largest entries of each row, ties by the smaller column, without candidates' own."""
    entries = similarities.tocoo()
    other = entries.col != entries.row + first_row
    row, column, value = entries.row[other], entries.col[other], entries.data[other]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    counts = np.bincount(row, minlength=similarities.shape[0])
    near = within(counts) < NEIGHBOURS
    return scipy.sparse.csr_matrix((value[near], (row[near], column[near])), shape=similarities.shape)


def oracle(truth: Truth, query_ids: Sequence[str], times: Sequence[int]) -> Scorer:
    """Score by the true probability, averaged over a few times of the held-out period.

    One time would not do: a candidate that appears later has probability 0 before.

    Args:
        truth: knows p(candidate | query) at a time.
        query_ids: raw ids in the order of the positions asked for.
        times: when to ask, one or more.
    """

    def scores(positions: Int64Array) -> Float32Array:
        ids = [query_ids[position] for position in positions.tolist()]
        return np.mean([np.exp(truth.log_probabilities(ids, time)) for time in times], axis=0)

    return FunctionScorer(scores, len(truth.candidate_ids), name="the oracle")

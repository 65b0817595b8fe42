"""Exact ranks of relevant candidates in the ranking of the whole catalogue, without sorting it.

The rank of a candidate is 1, plus the candidates with a greater score, plus those with an equal one and a smaller row.
Excluded candidates get -inf before anything is compared. Queries are taken in blocks small enough for the cache. Rough
scores decide wherever they are further apart than their margin; inside it, exact scores do (`scorers`).

Letters: B queries of a block, N candidates, W the same padded for counting, P pairs of query and candidate, R relevant
pairs of all queries, U queries of a block whose rank rough scores do not settle.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.errors import UserError
from retrieval_contract.evaluation.best import best_rows, come_before
from retrieval_contract.evaluation.counting import count_true, countable, within
from retrieval_contract.evaluation.few_ahead import FewAhead, few_are_ahead
from retrieval_contract.evaluation.large_catalogue import LargeCatalogue
from retrieval_contract.evaluation.scorers import Scorer, VectorScorer
from retrieval_contract.evaluation.threads import evenly, in_threads, num_threads
from retrieval_contract.evaluation.tiled_ranking import TiledRanking
from retrieval_contract.evaluation.tiles import BYTES_A_BLOCK, CANDIDATES, QUERIES, are_worth_it

CACHE_BYTES = 2_000_000
"""Size of a block of scores that stays near a core; twice or half of it was measured slower."""
LEAST_QUERIES = 64
"""Queries in a block, memory allowing: with fewer, a matrix product reads the candidates too often for its work."""
BYTES_A_SCORE = 12
"""Memory at once for one score of a block: itself, a comparison, and what finding the best K copies."""
SLICE_SCORES = 500_000
"""Scores looked at together where rough ones do not settle the order."""

Visit = Callable[[Int64Array, Int32Array], None]
"""Called from several threads with the positions of a block's queries [B] and their best candidates' rows [B, K], best
first; -1 where the exclusions leave fewer."""


def rank_relevant(
    scorer: Scorer,
    relevant: scipy.sparse.csr_matrix,
    *,
    excluded: scipy.sparse.csr_matrix | None = None,
    max_bytes: int = 256_000_000,
    num_best: int = 0,
    visit: Visit | None = None,
) -> Int64Array:
    """Rank every relevant candidate, and show the best of every query.

    Args:
        scorer: of Q queries and N candidates.
        relevant: [Q, N], the stored places count; none of them excluded.
        excluded: [Q, N], the stored places are left out of the ranking; None leaves nothing out.
        max_bytes: bound on the memory of scores and comparisons, all threads together.
        num_best: K, best candidates to hand to `visit`; N at most.
        visit: gets them; None saves the work of finding them.

    Returns:
        Ranks [R], 1 is best, in the order of `relevant.indices`.

    Raises:
        UserError: not even one query's scores fit into `max_bytes`.
    """
    assert relevant.shape[1] == scorer.num_candidates >= num_best
    ranks = np.zeros(relevant.nnz, np.int64)
    # By number of relevant candidates, so that "those with more than j" are the head of every block.
    order = np.argsort(-np.diff(relevant.indptr), kind="stable")

    def rank_block(positions: Int64Array) -> None:
        scores_BN, margins_B = scorer.scores(positions), scorer.margins(positions)
        if excluded is not None:
            scores_BN[stored_places(excluded, positions)] = -np.inf
        rooms = countable(len(positions), scorer.num_candidates), countable(len(positions), scorer.num_candidates)
        _rank_block(scorer, relevant, positions, scores_BN, margins_B, rooms, ranks)
        if visit is not None:
            visit(positions, best_rows(scorer, positions, scores_BN, margins_B, num_best, rooms[0]))

    if isinstance(scorer, VectorScorer) and are_worth_it(scorer.num_candidates, num_best) and _fit(relevant, max_bytes):
        _rank_in_tiles(scorer, relevant, excluded, order, 0 if visit is None else num_best, visit, ranks)
        return ranks
    size = block_size(scorer.num_candidates, max_bytes)
    in_threads(rank_block, [order[start : start + size] for start in range(0, len(order), size)])
    return ranks


def _rank_in_tiles(
    scorer: VectorScorer,
    relevant: scipy.sparse.csr_matrix,
    excluded: scipy.sparse.csr_matrix | None,
    order: Int64Array,
    num_best: int,
    visit: Visit | None,
    ranks: Int64Array,
) -> None:
    """Write all ranks: those that few candidates are ahead of one way, others the other."""
    queries, rows = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr)), relevant.indices
    own = scorer.exact(queries, rows, np.empty(len(rows), np.float32))
    catalogue = LargeCatalogue(scorer=scorer, relevant=relevant, excluded=excluded, own=own, num_best=num_best)
    few_in_order = few_are_ahead(scorer, relevant, own)[order]
    blocks: list[tuple[FewAhead | TiledRanking, Int64Array]] = []
    for ranking, chosen in (
        (FewAhead(catalogue), order[few_in_order]),
        (TiledRanking(catalogue), order[~few_in_order]),
    ):
        blocks += [(ranking, positions) for positions in evenly(chosen, QUERIES)]

    def rank_block(block: tuple[FewAhead | TiledRanking, Int64Array]) -> None:
        ranking, positions = block
        best_BK = ranking.rank(positions, ranks)
        if visit is not None:
            visit(positions, best_BK)

    in_threads(rank_block, blocks)


def _fit(relevant: scipy.sparse.csr_matrix, max_bytes: int) -> bool:
    """Whether all threads' tiles stay within the bound; each relevant candidate of a query is counted by itself."""
    most = int(np.diff(relevant.indptr).max(initial=0))
    return max_bytes >= num_threads() * (BYTES_A_BLOCK + QUERIES * CANDIDATES * most)


def block_size(num_candidates: int, max_bytes: int) -> int:
    """Queries in a block, such that all threads' blocks together stay within `max_bytes`.

    Raises:
        UserError: not even one query's scores fit.
    """
    fitting = max_bytes // (BYTES_A_SCORE * num_candidates * num_threads())
    if fitting == 0:
        needed = BYTES_A_SCORE * num_candidates * num_threads()
        raise UserError(
            f"max_bytes is {max_bytes:,}, and the scores of one query over {num_candidates:,} candidates in "
            f"{num_threads()} threads need {needed:,}",
            where="evaluation.max_bytes",
            todo=f"set it to {needed:,} or more",
        )
    return min(fitting, max(LEAST_QUERIES, CACHE_BYTES // (4 * num_candidates)))


def stored_places(matrix: scipy.sparse.csr_matrix, positions: Int64Array) -> tuple[Int64Array, Int32Array]:
    """Places that a sparse matrix stores in some of its rows: (0 to B - 1, column), each [P]."""
    starts, counts = matrix.indptr[positions], np.diff(matrix.indptr)[positions]
    at = np.repeat(np.arange(len(positions)), counts)
    return at, matrix.indices[starts[at] + within(counts)]


def _rank_block(
    scorer: Scorer,
    relevant: scipy.sparse.csr_matrix,
    positions: Int64Array,
    scores_BN: Float32Array,
    margins_B: Float32Array,
    rooms: tuple[BoolArray, BoolArray],
    ranks: Int64Array,
) -> None:
    """Write the ranks of a block's relevant candidates, whose queries come with falling numbers of them."""
    starts = relevant.indptr[positions].astype(np.int64)
    counts = relevant.indptr[positions + 1] - starts
    for nth in range(counts[0]):
        more = int(np.searchsorted(-counts, -nth))
        places = starts[:more] + nth
        rows = relevant.indices[places]
        above_BW, reached_BW = (room[:more] for room in rooms)
        ranks[places] = _ranks(scorer, positions[:more], scores_BN[:more], margins_B[:more], rows, above_BW, reached_BW)


def _ranks(
    scorer: Scorer,
    positions: Int64Array,
    scores_BN: Float32Array,
    margins_B: Float32Array,
    rows_B: Int32Array,
    above_BW: BoolArray,
    reached_BW: BoolArray,
) -> Int64Array:
    """Rank one relevant candidate of each query [B]."""
    num_candidates = scores_BN.shape[1]
    own_B = scores_BN[np.arange(len(rows_B)), rows_B]
    assert np.isfinite(own_B).all(), "a relevant candidate is excluded"
    np.greater(scores_BN, (own_B + margins_B)[:, None], out=above_BW[:, :num_candidates])
    np.greater_equal(scores_BN, (own_B - margins_B)[:, None], out=reached_BW[:, :num_candidates])
    ahead_B = count_true(above_BW)
    # Every candidate is near itself; one with a neighbour has to be settled.
    unsettled = np.flatnonzero(count_true(reached_BW) - ahead_B > 1)
    step = max(1, SLICE_SCORES // num_candidates)
    for start in range(0, len(unsettled), step):
        at = unsettled[start : start + step]
        near = np.divmod(np.flatnonzero(above_BW[at] ^ reached_BW[at]), above_BW.shape[1])
        ahead_B[at] += _near_ahead(scorer, positions[at], scores_BN, near, at, rows_B[at])
    return ahead_B + 1


def _near_ahead(
    scorer: Scorer,
    positions: Int64Array,
    scores_BN: Float32Array,
    near: tuple[Int64Array, Int64Array],
    block_rows: Int64Array,
    rows_U: Int32Array,
) -> Int64Array:
    """Count candidates near one in rough scores and ahead of it in exact ones, or equal and smaller in row [U].

    Args:
        scorer: gives the exact scores.
        positions: the scorer's queries [U] that are unsettled.
        scores_BN: rough scores of the block.
        near: which of the U queries, and which candidate, each [P]; the candidate itself among them.
        block_rows: places of the U queries in the block.
        rows_U: the candidates to settle.
    """
    at, rows_P = near
    exact_P = scorer.exact(positions[at], rows_P, scores_BN[block_rows[at], rows_P])
    own_U = exact_P[rows_P == rows_U[at]]
    ahead_P = come_before(exact_P, rows_P, own_U[at], rows_U[at])
    return np.bincount(at[ahead_P], minlength=len(rows_U))

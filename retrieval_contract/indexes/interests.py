"""Several query vectors of one query: their results merged into one list.

Letters: B queries, I vectors of each, K results.
"""

import numpy as np

from retrieval_contract.arrays import TopK


def merged(each: TopK, num_interests: int) -> TopK:
    """Merge the best K of each vector of a query into the query's best K.

    A candidate's score is its largest. Nothing is lost: a candidate that is not among the best K of the vector it fits
    best is behind K others there, whose scores can only be larger.

    Args:
        each: results of every vector, those of a query side by side [B I, K].
        num_interests: I.

    Returns:
        [B, K], each candidate once, best first, ties by the smaller row; row -1 and score -inf behind the last.
    """
    k = each.rows.shape[1]
    rows_BM = each.rows.reshape(-1, num_interests * k)
    scores_BM = each.scores.reshape(-1, num_interests * k)
    # By row, the largest score first: the copies behind it are dropped.
    order_BM = np.lexsort((-scores_BM, rows_BM), axis=1)
    rows_BM = np.take_along_axis(rows_BM, order_BM, axis=1)
    scores_BM = np.take_along_axis(scores_BM, order_BM, axis=1)
    copies_BM = np.zeros(rows_BM.shape, np.bool_)
    copies_BM[:, 1:] = rows_BM[:, 1:] == rows_BM[:, :-1]
    rows_BM[copies_BM] = -1
    scores_BM[copies_BM] = -np.inf
    # Rows ascend, so a stable sort breaks ties by the smaller row; a place without a result has the score -inf alone.
    order_BK = np.argsort(-scores_BM, axis=1, kind="stable")[:, :k]
    return TopK(
        rows=np.take_along_axis(rows_BM, order_BK, axis=1), scores=np.take_along_axis(scores_BM, order_BK, axis=1)
    )

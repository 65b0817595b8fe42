"""Which of very many candidates can be among the best K of a block of queries, without whole rows of scores.

Letters: B queries of the block, N candidates, T candidates of a tile, D width, M candidates that can be among the best.
"""

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.evaluation.best_of_tiles import BestOfTiles, padded
from retrieval_contract.evaluation.shifted_products import MARGINS, ShiftedProducts
from retrieval_contract.evaluation.tiles import CANDIDATES, Tiles
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.stored import StoredVectors


def possible_in_tiles(
    stored: StoredVectors,
    queries_BD: Float32Array,
    margin_B: Float32Array,
    k: int,
    excluded: Excluded,
    allowed_N: BoolArray | None,
) -> Int32Array:
    """Find them.

    Args:
        stored: candidate vectors.
        queries_BD: query vectors.
        margin_B: differences of float32 products above which exact ones differ the same way.
        k: K.
        excluded: candidates to leave out.
        allowed_N: candidates that count; None allows all.

    Returns:
        Candidate rows [B, M], padded with -1.
    """

    def fill(rows: slice, scores_BT: Float32Array) -> None:
        products.fill(rows, scores_BT)
        if allowed_N is not None:
            scores_BT[:, ~allowed_N[rows]] = -np.inf

    def exact(at_P: Int64Array, rows_P: Int64Array, rough_P: Float32Array) -> Float32Array:
        return stored.scores(queries_BD, at_P, rows_P)

    products = ShiftedProducts(stored.copy_into, queries_BD[:, None], stored.largest_norm)
    best = BestOfTiles(k, MARGINS * margin_B, products.lowest_B, exact, CANDIDATES)
    tiles = Tiles(fill, len(queries_BD), stored.size, (excluded.places, excluded.rows))
    best.look_at(tiles, products.take_off)
    at_P, rows_P, _ = best.possible()
    return padded(at_P, rows_P, len(queries_BD))

"""Which columns do not count for a row: four masks and the hardest negatives, one after the other.

Every function says what is out as a boolean [B, N]; `select` alone writes -inf. A row's positive is never out.

Source: numerics, order on the logits, steps 4 to 6. Letters: B queries in the batch, N columns of a row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles.differentiation import Array
from retrieval_contract.arrays import KnownPositives

Bools = NDArray[np.bool_]


def select(logits_BN: Array, out_BN: Bools) -> Array:
    """-inf where a column is out, and the logit where it is not."""
    return np.where(out_BN, -np.inf, logits_BN)


def accidental_hits(rows_BN: NDArray[Any], positives_B: NDArray[Any]) -> Bools:
    """Step 4: every column that holds the candidate of the row's positive."""
    positive_rows_B = rows_BN[np.arange(len(rows_BN)), positives_B]
    return but_the_positive(rows_BN == positive_rows_B[:, None], positives_B)


def known(rows_BN: NDArray[Any], positives_B: NDArray[Any], pairs: KnownPositives) -> Bools:
    """Step 4: every column that holds a candidate of which the row's query is known to be fond."""
    out_BN = np.zeros(rows_BN.shape, bool)
    for place, candidate_row in zip(pairs.places, pairs.rows, strict=True):
        out_BN[place] |= rows_BN[place] == candidate_row
    return but_the_positive(out_BN, positives_B)


def disallowed(allowed_BN: Bools) -> Bools:
    """Step 5: the explicit mask, and places of a row that holds no impression."""
    return ~allowed_BN


def all_but_hardest(logits_BN: Array, positives_B: NDArray[Any], num_hardest: int) -> Bools:
    """Step 6: all but the largest remaining negatives of each row; the first of equals stays."""
    out_BN = np.ones(logits_BN.shape, bool)
    for row, positive in enumerate(positives_B):
        order = [column for column in ranked(logits_BN[row]) if column != positive]
        out_BN[row, order[:num_hardest]] = False
    return but_the_positive(out_BN, positives_B)


def ranked(logits_N: Array) -> NDArray[np.int64]:
    """Columns in falling order of their logits."""
    return np.argsort(-logits_N, kind="stable")


def but_the_positive(out_BN: Bools, positives_B: NDArray[Any]) -> Bools:
    """The same, with every row's own positive in."""
    kept_BN = out_BN.copy()
    kept_BN[np.arange(len(out_BN)), positives_B] = False
    return kept_BN

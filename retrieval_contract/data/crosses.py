"""Crosses: one row for each combination of rows that other features are encoded to, hashed.

Letters: R rows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import Int32Array, Int64Array
from retrieval_contract.data.hashing import buckets_of
from retrieval_contract.data.vocabulary import FIRST_ROW

FEW = 32
"""So few rows, as a request has, are written down one by one."""


def cross_rows(parts: Sequence[Int64Array], num_buckets: int) -> Int32Array:
    """Row of each combination: 2 + the bucket of the parts' rows in decimal with an `x` between, such as `7x2`.

    Args:
        parts: rows [R] of two features or more, in the order in which the cross names them; 0 or more.
        num_buckets: buckets.

    Returns:
        Rows [R]. Unknown parts are crossed like any other row.
    """
    if len(parts[0]) <= FEW:
        each = ["x".join(map(str, rows)) for rows in zip(*(part.tolist() for part in parts), strict=True)]
        return (buckets_of(each, num_buckets) + FIRST_ROW).astype(np.int32)
    texts, codes_R = _numbered(parts[0])
    texts = pc.cast(texts, pa.string())
    for part in parts[1:]:
        # Numbered anew after every part: below 2^31 combinations times rows below 2^31 never overflow.
        num_rows = int(part.max(initial=0)) + 1
        keys, codes_R = _numbered(codes_R * num_rows + part)
        before, last = np.divmod(keys.to_numpy(), num_rows)
        texts = pc.binary_join_element_wise(texts.take(pa.array(before)), pc.cast(pa.array(last), pa.string()), "x")
    return (buckets_of(texts, num_buckets) + FIRST_ROW).astype(np.int32)[codes_R]


def _numbered(keys_R: Int64Array) -> tuple[pa.Array, Int64Array]:
    """Distinct keys, and the number of each row's key [R]."""
    # Hashing, where np.unique would sort.
    encoded = pa.array(keys_R).dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy().astype(np.int64)

"""What is asked of an index, checked at the door, and sorted by what each query may be given.

Letters: B queries, I vectors of each, N candidates, D width.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int64Array
from retrieval_contract.errors import UserError, first_rows
from retrieval_contract.indexes.attributes import Attributes, Filter
from retrieval_contract.indexes.stored import norms

LARGEST = float(np.finfo(np.float32).max) / 4
"""Bound on a score: less another it can be twice as large (`evaluation/shifted_products.py`)."""


def check_digest(of_index: str, of_queries: str) -> None:
    """Refuse queries of other weights.

    Raises:
        UserError: the digests differ.
    """
    if of_queries != of_index:
        where = f"index {of_index[:12]}, queries {of_queries[:12]}"
        raise UserError("the index was built from other weights", where=where, todo="embed and build the index again")


def check_k(k: int, size: int) -> None:
    """Refuse a number of results outside 1 to N.

    Raises:
        UserError: k and N are named.
    """
    if not 1 <= k <= size:
        raise UserError(f"k is {k:,}, the catalogue holds {size:,} candidates", todo=f"ask for 1 to {size:,}")


def checked_queries(queries: Float32Array, dim: int, largest_norm: float) -> Float32Array:
    """Every query vector by itself, C-contiguous [B I, D].

    Args:
        queries: [B, D] or [B, I, D].
        dim: D of the index.
        largest_norm: length of its longest candidate vector.

    Raises:
        UserError: another shape, NaN or infinity, or a score that could overflow.
    """
    if queries.ndim not in (2, 3) or queries.shape[-1] != dim or (queries.ndim == 3 and not queries.shape[1]):
        what = f"query vectors have shape {queries.shape}, the index holds vectors of width {dim}"
        raise UserError(what, todo=f"give [B, {dim}]; one query is [1, {dim}]")
    queries_BD = np.ascontiguousarray(queries.reshape(-1, dim), dtype=np.float32)
    longest = norms(queries_BD).max(initial=0.0)
    if not math.isfinite(longest):
        bad = np.flatnonzero(~np.isfinite(queries_BD).all(axis=1).reshape(len(queries), -1).all(axis=1))
        where = first_rows(bad.tolist(), bad.size)
        raise UserError("query vectors hold NaN or infinity", where=where, todo="train again")
    if longest * largest_norm > LARGEST:
        todo = "train again with a lower learning rate"
        raise UserError("vectors so long that a score would overflow float32", todo=todo)
    return queries_BD


def groups(
    attributes: Attributes, num_queries: int, filters: Sequence[Filter | None] | None, allowed: BoolArray | None
) -> Iterator[tuple[Int64Array, BoolArray | None]]:
    """Yield the places of the queries that share what is allowed, and which candidates that is [N], None for all.

    Args:
        attributes: of the N candidates.
        num_queries: B.
        filters: one a query, None where a query has none; or None for all queries.
        allowed: candidates that count for every query [N], or None.

    Raises:
        UserError: another number of filters or of truth values, or an attribute that candidates do not have.
    """
    size = attributes.size
    if allowed is not None and allowed.shape != (size,):
        raise UserError(f"allowed has shape {allowed.shape}", todo=f"give one truth value a candidate, {size:,}")
    if filters is None:
        yield np.arange(num_queries), allowed
        return
    if len(filters) != num_queries:
        what = f"{len(filters):,} filters for {num_queries:,} queries"
        raise UserError(what, todo="give one filter for each query, None where nothing is filtered")
    # The attributes remember filters: equal ones are one array.
    masks = [attributes.allowed(wanted) if wanted else None for wanted in filters]
    places_of: dict[int, list[int]] = {}
    for place, mask in enumerate(masks):
        places_of.setdefault(id(mask), []).append(place)
    for places in places_of.values():
        mask = masks[places[0]]
        both = mask if allowed is None else allowed if mask is None else allowed & mask
        yield np.array(places), both

"""Which candidates each query must not be given, as sorted flat pairs, so that no step loops over queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array
from retrieval_contract.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """Distinct pairs (place of the query in the batch, candidate row), sorted by place, then by row."""

    places: Int64Array
    """Place of the query [P]."""
    rows: Int64Array
    """Candidate row [P]."""
    num_queries: int
    """Queries B in the batch."""
    size: int
    """Candidates N in the index."""

    @classmethod
    def from_rows(cls, rows: Sequence[Int32Array] | None, *, num_queries: int, size: int) -> Self:
        """Flatten one array of candidate rows a query; repeated rows count once, None excludes nothing.

        Raises:
            UserError: another number of arrays than queries, or a row outside 0 to N-1.
        """
        if rows is None:
            none = np.empty(0, np.int64)
            return cls(places=none, rows=none, num_queries=num_queries, size=size)
        if len(rows) != num_queries:
            what = f"{len(rows):,} lists of excluded candidates for {num_queries:,} queries"
            raise UserError(what, todo="give one list for each query, empty where nothing is excluded")
        lengths = np.fromiter(map(len, rows), np.int64, count=num_queries)
        flat = np.concatenate([*rows, np.empty(0, np.int32)]).astype(np.int64)
        outside = flat[(flat < 0) | (flat >= size)]
        if outside.size:
            todo = "exclude rows of the catalogue that the index was built from"
            raise UserError(f"excluded candidate row {outside[0]:,} is outside 0 to {size - 1:,}", todo=todo)
        pairs = np.repeat(np.arange(num_queries), lengths) * size + flat
        # Few numbers: `np.unique` takes three times as long as this.
        pairs.sort()
        pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
        places, rows_P = np.divmod(pairs, size)
        return cls(places=places, rows=rows_P, num_queries=num_queries, size=size)

    @property
    def counts(self) -> Int64Array:
        """Excluded candidates of each query [B]."""
        return np.bincount(self.places, minlength=self.num_queries).astype(np.int64)

    def repeated(self, times: int) -> Self:
        """The same exclusions for each of several vectors of a query, side by side."""
        if times == 1:
            return self
        places = (self.places[:, None] * times + np.arange(times)).reshape(-1)
        order = np.argsort(places, kind="stable")
        return type(self)(
            places=places[order],
            rows=np.repeat(self.rows, times)[order],
            num_queries=self.num_queries * times,
            size=self.size,
        )

    def at(self, places: Int64Array) -> Self:
        """Keep the queries at `places` (ascending), counted anew from 0."""
        place_now = np.full(self.num_queries, -1)
        place_now[places] = np.arange(len(places))
        kept = place_now[self.places] >= 0
        return type(self)(
            places=place_now[self.places[kept]], rows=self.rows[kept], num_queries=len(places), size=self.size
        )

    def within(self, allowed_N: BoolArray) -> Self:
        """Keep the pairs whose candidate is allowed."""
        kept = allowed_N[self.rows]
        return type(self)(places=self.places[kept], rows=self.rows[kept], num_queries=self.num_queries, size=self.size)

    def among(self, rows_A: Int64Array) -> Self:
        """The pairs with a candidate of `rows_A` (ascending, holding all of them), by its place there."""
        rows = np.searchsorted(rows_A, self.rows)
        return type(self)(places=self.places, rows=rows, num_queries=self.num_queries, size=len(rows_A))

    def contains(self, rows_BM: Int32Array) -> BoolArray:
        """Say for each candidate row of each query [B, M] whether it is excluded; -1 is not."""
        if not self.rows.size:
            return np.zeros(rows_BM.shape, np.bool_)
        pairs = self.places * self.size + self.rows
        asked_BM = np.arange(self.num_queries)[:, None] * self.size + rows_BM
        found_BM = np.searchsorted(pairs, asked_BM).clip(max=pairs.size - 1)
        return (pairs[found_BM] == asked_BM) & (rows_BM >= 0)

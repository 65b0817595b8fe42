"""Values to embedding rows: 0 is padding, 1 is unknown, then the values seen in training, most frequent first."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import Int32Array, Int64Array

PADDING_ROW, UNKNOWN_ROW, FIRST_ROW = 0, 1, 2


FEW = 64
"""So few values, or one for so many of a vocabulary, are looked up in a table that is kept."""


@dataclass(frozen=True)
class Vocabulary:
    """The values that have an embedding row of their own; values[v] has row v + 2."""

    values: tuple[str, ...]
    """Distinct values, most frequent first."""

    @classmethod
    def fit(
        cls, values: pa.Array | pa.ChunkedArray, counts: Int64Array, *, min_count: int, top: int | None = None
    ) -> Self:
        """Keep the values that training rows hold often enough.

        The order is by falling count, then by the value's code points: the same bytes whatever the order of the rows.

        Args:
            values: text [E], repeated or missing as may be; missing ones are not counted.
            counts: train rows behind each value [E]; values without any are left out.
            min_count: least sum of counts, 1 or more.
            top: keep only the so many first ones; None keeps all.

        Returns:
            The vocabulary, empty where nothing is frequent enough.
        """
        pairs = pa.table({"value": values, "count": counts})
        pairs = pairs.filter(pc.and_(pc.is_valid(pairs["value"]), pc.greater(pairs["count"], 0)))
        totals = pairs.group_by("value").aggregate([("count", "sum")])
        kept = totals.filter(pc.greater_equal(totals["count_sum"], min_count))
        ordered = kept.sort_by([("count_sum", "descending"), ("value", "ascending")])
        return cls(tuple(ordered["value"].slice(0, top).to_pylist()))

    @property
    def size(self) -> int:
        """Rows V of the embedding table, padding and unknown included."""
        return len(self.values) + FIRST_ROW

    def encode(self, values: pa.Array | pa.ChunkedArray) -> Int32Array:
        """Embedding row of each value.

        Args:
            values: text [E].

        Returns:
            Rows [E]: 2 or more for known values, 1 for others and for missing ones; never 0.
        """
        if FEW * len(values) < len(self.values) or len(values) <= FEW:
            found = (self._rows.get(value, UNKNOWN_ROW) for value in values.to_pylist())
            return np.fromiter(found, np.int32, len(values))
        places = pc.index_in(values, value_set=pa.array(self.values, pa.string()))
        rows = pc.add(pc.fill_null(places, UNKNOWN_ROW - FIRST_ROW), FIRST_ROW)
        return rows.to_numpy(zero_copy_only=False).astype(np.int32)

    @cached_property
    def _rows(self) -> dict[str | None, int]:
        """Row of each value: what a request of a few values looks up, where a column of many is joined."""
        return {value: row for row, value in enumerate(self.values, FIRST_ROW)}

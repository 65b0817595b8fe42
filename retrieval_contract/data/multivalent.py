"""A column of lists, flat: which entity each value belongs to and where it stands in the entity's list."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import Int32Array, Int64Array
from retrieval_contract.data.columns import as_text
from retrieval_contract.errors import UserError

SEPARATOR = "|"
"""Between the values of a list in a text column, for formats without lists (CSV): `Action|Comedy`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The kept values of E lists, end to end."""

    values: pa.ChunkedArray
    """Text, T values; missing entries of a list stay missing."""
    rows: Int64Array
    """Entity row of each value [T], ascending."""
    places: Int64Array
    """Place of each value in its list [T], from 0."""
    num_rows: int
    """Entities E, those with empty lists included."""

    def padded(self, encoded: Int32Array) -> Int32Array:
        """Put one number per value [T] back into lists [E, M], 0 behind; M is the longest list, at least 1."""
        width = int(self.places.max(initial=0)) + 1
        table_EM = np.zeros((self.num_rows, width), np.int32)
        table_EM[self.rows, self.places] = encoded
        return table_EM


def lists_of(column: pa.ChunkedArray, *, max_length: int, where: str) -> Lists:
    """Flatten a column of lists.

    Args:
        column: lists of values [E], or text with values between `|`, of which empty ones are left out. A missing list
            is an empty one.
        max_length: values kept of each list, the first ones.
        where: table and column, for errors.

    Raises:
        UserError: neither lists nor text, or lists of something that is no single value.
    """
    from_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if from_text:
        column = pc.split_pattern(column, SEPARATOR)
    elif not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        todo = f"give a list, or text with {SEPARATOR} between the values, or use kind categorical"
        raise UserError(f"{column.type} where a multivalent feature needs lists", where=where, todo=todo)
    lengths_E = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    rows = np.repeat(np.arange(len(lengths_E)), lengths_E)
    values = as_text(pc.list_flatten(column), where=where)
    if from_text:
        filled = pc.not_equal(values, "")
        values, rows = values.filter(filled), rows[filled.to_numpy()]
        lengths_E = np.bincount(rows, minlength=len(lengths_E))
    places = np.arange(len(rows)) - (np.cumsum(lengths_E) - lengths_E)[rows]
    kept = places < max_length
    return Lists(values=values.filter(pa.array(kept)), rows=rows[kept], places=places[kept], num_rows=len(lengths_E))

"""A column of lists, flat: which entity each value belongs to and where it stands in the entity's list."""

from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Float32Array, Int64Array
from retrieval_contract.data.columns import as_numbers, as_text, refuse_rows
from retrieval_contract.errors import UserError

SEPARATOR = "|"
"""Between the values of a list in a text column, for formats without lists (CSV): `Action|Comedy`."""

Number = TypeVar("Number", np.int32, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The kept values of E lists, end to end."""

    values: pa.Array | pa.ChunkedArray
    """Text, T values; missing entries of a list stay missing."""
    rows: Int64Array
    """Entity row of each value [T], ascending."""
    places: Int64Array
    """Place of each value in its list [T], from 0."""
    num_rows: int
    """Entities E, those with empty lists included."""
    weights: Float32Array | None = None
    """Weight of each value [T], where they have weights."""

    @classmethod
    def first(
        cls,
        values: pa.Array | pa.ChunkedArray,
        lengths_E: Int64Array,
        max_length: int,
        weights_T: Float32Array | None = None,
    ) -> Self:
        """Cut lists that lie end to end, and their weights, to their first `max_length` values."""
        rows = np.repeat(np.arange(len(lengths_E)), lengths_E)
        places = np.arange(len(rows)) - (np.cumsum(lengths_E) - lengths_E)[rows]
        kept = places < max_length
        return cls(
            values=values if kept.all() else values.filter(pa.array(kept)),
            rows=rows[kept],
            places=places[kept],
            num_rows=len(lengths_E),
            weights=None if weights_T is None else weights_T[kept],
        )

    def padded(self, encoded: NDArray[Number]) -> NDArray[Number]:
        """Put one number per value [T] back into lists [E, M], 0 behind; M is the longest list, at least 1."""
        width = int(self.places.max(initial=0)) + 1
        table_EM = np.zeros((self.num_rows, width), encoded.dtype)
        table_EM[self.rows, self.places] = encoded
        return table_EM


def lists_of(column: pa.ChunkedArray, *, max_length: int, where: str, weights: pa.ChunkedArray | None = None) -> Lists:
    """Flatten a column of lists.

    Args:
        column: lists of values [E], or text with values between `|`, of which empty ones are left out. A missing list
            is an empty one.
        max_length: values kept of each list, the first ones.
        where: table and column, for errors.
        weights: lists of numbers (or text likewise) as long as the values' lists [E].

    Raises:
        UserError: neither lists nor text, or lists of something that is no single value; weights of another number
            than the values, missing, negative or not finite.
    """
    flat, lengths_E = _flattened(column, where)
    values = as_text(flat, where=where, nan_is_missing=True)
    weights_T = None if weights is None else _weights(weights, lengths_E, where)
    return Lists.first(values, lengths_E, max_length, weights_T)


def _flattened(column: pa.ChunkedArray, where: str) -> tuple[pa.ChunkedArray, Int64Array]:
    """All values of all lists, and each list's length [E]."""
    kind = column.type
    if pa.types.is_null(kind):
        return pa.chunked_array([], pa.string()), np.zeros(len(column), np.int64)
    if is_text(kind):
        lists = pc.split_pattern(pc.cast(column, pa.string()), SEPARATOR)
        lengths_E = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
        flat = pc.list_flatten(lists)
        filled = pc.not_equal(flat, "")
        rows = np.repeat(np.arange(len(lengths_E)), lengths_E)[filled.to_numpy()]
        return flat.filter(filled), np.bincount(rows, minlength=len(lengths_E))
    if not is_list(kind):
        todo = f"give a list, or text with {SEPARATOR} between the values, or use kind categorical"
        raise UserError(f"{kind} where a multivalent feature needs lists", where=where, todo=todo)
    lengths_E = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    return pc.list_flatten(column), lengths_E


def _weights(column: pa.ChunkedArray, lengths_E: Int64Array, where: str) -> Float32Array:
    """Weights of all values of all lists, end to end."""
    flat, found_E = _flattened(column, where)
    wrong_E = found_E != lengths_E
    if wrong_E.any():
        first = int(wrong_E.argmax())
        what = f"lists of weights and of values differ in length, first {found_E[first]} against {lengths_E[first]}"
        refuse_rows(wrong_E, what, where=where, todo="give each value a weight")
    if is_text(column.type):
        flat = _parsed(flat, where)
    numbers, present = as_numbers(flat, where=where, nan_is_missing=True)
    bad: BoolArray = ~present | (numbers < 0) | (numbers > np.finfo(np.float32).max)
    bad_E = np.zeros(len(lengths_E), np.bool_)
    bad_E[np.repeat(np.arange(len(lengths_E)), lengths_E)[bad]] = True
    what = "weights of values that are missing, negative or too large"
    refuse_rows(bad_E, what, where=where, todo="give finite numbers, 0 or more")
    return numbers.astype(np.float32)


def _parsed(flat: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    try:
        return pc.cast(flat, pa.float64())
    except pa.ArrowInvalid:
        raise UserError("weights that are no numbers", where=where, todo="give numbers, 0 or more") from None


def is_text(kind: pa.DataType) -> bool:
    """True of text, dictionary-encoded text included."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """True of lists, those of one fixed length included."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))

"""A table's column as numbers or as text, with errors that name the column and its first bad rows."""

import difflib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray
from retrieval_contract.errors import UserError, first_rows

NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
"""Column types that can be read as numbers; a column of type null has no value at all."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant, or which there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names[:20]) or 'none'}"


def column_of(table: pa.Table, name: str, *, where: str, wanted_by: str) -> pa.ChunkedArray:
    """Take a column.

    Args:
        table: the table.
        name: the column.
        where: what to call the table in an error.
        wanted_by: the part of the configuration that asks for the column.

    Raises:
        UserError: no such column; the nearest is named.
    """
    if name not in table.column_names:
        todo = nearest(name, table.column_names)
        raise UserError(f"no column {name!r}, which {wanted_by} needs", where=where, todo=todo)
    return table.column(name)


def as_numbers(
    column: pa.ChunkedArray, *, where: str, nan_is_missing: bool = False
) -> tuple[NDArray[np.float64], BoolArray]:
    """Read a column as numbers.

    Args:
        column: integers, floats, decimals or booleans.
        where: table and column, for errors.
        nan_is_missing: take NaN for a missing value instead of refusing it.

    Returns:
        Values [E], 0 where missing, all finite; and True where a value is there [E].

    Raises:
        UserError: not a column of numbers, infinity in it, or NaN that is no missing value.
    """
    kind = column.type
    if not any(is_kind(kind) for is_kind in NUMBERS):
        todo = "give numbers, or use another feature kind"
        raise UserError(f"{kind} where numbers are needed", where=where, todo=todo)
    number = pa.int8() if pa.types.is_boolean(kind) else kind
    # safe=False: an integer above 2^53 is rounded, which no scale of a feature can notice.
    floats = pc.cast(pc.cast(column, number), pa.float64(), safe=False)
    present = pc.is_valid(floats).to_numpy()
    values = pc.fill_null(floats, 0.0).to_numpy()
    if nan_is_missing:
        present &= ~np.isnan(values)
        values = np.where(present, values, 0.0)
    what = "infinity" if nan_is_missing else "NaN or infinity"
    refuse_rows(~np.isfinite(values), what, where=where, todo="leave the value out, or drop the rows")
    return values, present


def as_text(column: pa.ChunkedArray, *, where: str, nan_is_missing: bool = False) -> pa.ChunkedArray:
    """Read a column of single values as text: ids stay as they are, numbers become their shortest decimal form.

    Args:
        column: single values [E].
        where: table and column, for errors.
        nan_is_missing: take NaN for a missing value instead of refusing it.

    Raises:
        UserError: lists or bytes, infinity in a column of floats, or NaN that is no missing value.
    """
    if pa.types.is_floating(column.type):
        present = as_numbers(column, where=where, nan_is_missing=nan_is_missing)[1]
        column = pc.if_else(pa.array(present), column, pa.scalar(None, column.type))
    try:
        return pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        todo = "give one value a row; a list needs the feature kind multivalent"
        raise UserError(f"{column.type} cannot be read as text", where=where, todo=todo) from None


def refuse_rows(bad: BoolArray, what: str, *, where: str, todo: str) -> None:
    """Raise where any row is bad, naming the first ones.

    Raises:
        UserError: `bad` is True somewhere.
    """
    if bad.any():
        rows = np.flatnonzero(bad)
        raise UserError(what, where=f"{where}, {first_rows(rows.tolist(), len(rows))}", todo=todo)

"""One column of any type -> the canonical type, with masks of the rows that could not be turned."""

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import AnyArray, BoolArray, Float32Array, Int64Array
from retrieval_contract.errors import UserError

Values = TypeVar("Values")
Column: TypeAlias = pa.Array | pa.ChunkedArray
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
WHOLE_NUMBER = r"^\s*[+-]?\d{1,18}\s*$"
LARGEST_WHOLE_FLOAT = 2.0**53
"""Above it a float no longer tells neighbouring integers apart, so it cannot be an id."""


@dataclass(frozen=True, slots=True)
class Converted(Generic[Values]):
    """A column in canonical type; places marked in either mask hold a harmless value."""

    values: Values
    missing: BoolArray
    """True where the file has nothing [R]."""
    wrong: BoolArray
    """True where the file has something that cannot be turned [R]."""


def as_ids(column: Column, *, where: str) -> Converted[pa.Array]:
    """Ids of any scalar type -> strings; whole floats lose their `.0`; null and the empty string are missing.

    Raises:
        UserError: a list, a struct, or another type that is no id.
    """
    column = _plain(column)
    wrong = np.zeros(len(column), bool)
    if pa.types.is_floating(column.type):
        values = _filled(column, np.nan, pa.float64())
        with np.errstate(invalid="ignore"):
            wrong = ~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < LARGEST_WHOLE_FLOAT))
        whole = pa.array(np.where(wrong, 0, values).astype(np.int64))
        column = pc.if_else(column.is_valid(), whole, pa.scalar(None, pa.int64()))
    elif not _is_scalar(column.type):
        raise UserError(f"an id cannot be of type {column.type}", where=where, todo="use whole numbers or text")
    text = column.cast(pa.string())
    missing = _mask(pc.fill_null(pc.equal(text, ""), True))
    return Converted(pc.fill_null(text, ""), missing, wrong & ~missing)


def as_whole_numbers(column: Column, *, where: str, floor: bool) -> Converted[Int64Array]:
    """Integers, whole floats, dates, times or their text -> int64; dates and times become Unix seconds (UTC).

    Args:
        column: R values.
        where: file and column.
        floor: round fractions down instead of calling them wrong.

    Raises:
        UserError: a type that is no number.
    """
    column = _plain(column)
    if (
        pa.types.is_temporal(column.type)
        and not pa.types.is_time(column.type)
        and not pa.types.is_duration(column.type)
    ):
        column = column.cast(pa.timestamp("s", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    if pa.types.is_string(column.type) and pc.all(pc.match_substring_regex(column, WHOLE_NUMBER)).as_py():
        column = pc.utf8_trim_whitespace(column).cast(pa.int64())
    if pa.types.is_integer(column.type):
        missing = _mask(column.is_null())
        whole: Int64Array = _filled(column, 0, pa.int64()).astype(np.int64)
        return Converted(whole, missing, np.zeros(len(column), bool))
    values, missing, wrong = _floats(column, where)
    wrong |= np.abs(values) >= LARGEST_WHOLE_FLOAT
    if not floor:
        wrong |= values != np.floor(values)
    return Converted(np.floor(np.where(wrong, 0, values)).astype(np.int64), missing, wrong & ~missing)


def as_numbers(column: Column, *, where: str) -> Converted[Float32Array]:
    """Numbers, flags or their text -> finite float32.

    Raises:
        UserError: a type that is no number.
    """
    values, missing, wrong = _floats(_plain(column), where)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    wrong |= ~np.isfinite(narrow)
    return Converted(np.where(wrong, np.float32(0), narrow), missing, wrong & ~missing)


def as_flags(column: Column, *, where: str) -> Converted[BoolArray]:
    """Flags, numbers or text (`true`, `false`, a number) -> bool; a number counts as true where it is not 0.

    Raises:
        UserError: a type that is no flag.
    """
    column = _plain(column)
    if pa.types.is_string(column.type):
        column = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        column = pc.if_else(pc.equal(column, "true"), "1", pc.if_else(pc.equal(column, "false"), "0", column))
    values, missing, wrong = _floats(column, where)
    return Converted(values != 0, missing, wrong)


def as_title(column: Column, *, where: str) -> Column:
    """Titles -> strings; null stays null.

    Raises:
        UserError: a list or a struct.
    """
    column = _plain(column)
    if not _is_scalar(column.type) and not pa.types.is_floating(column.type):
        raise UserError(f"a title cannot be of type {column.type}", where=where, todo="use text")
    return column.cast(pa.string())


def as_genres(column: Column, *, where: str) -> Column:
    """Lists of text, or text divided by `|`, -> list of string; null becomes the empty list.

    Raises:
        UserError: anything else.
    """
    column = _plain(column)
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.string()))
    if pa.types.is_string(column.type):
        empty = pc.equal(pc.fill_null(column, ""), "")
        column = pc.if_else(empty, pa.scalar(None, pa.list_(pa.string())), pc.split_pattern(column, "|"))
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise UserError(
            f"genres cannot be of type {column.type}", where=where, todo="use lists of text, or text with |"
        )
    column = column.cast(pa.list_(pa.string()))
    return pc.if_else(column.is_valid(), column, pa.scalar([], pa.list_(pa.string())))


def repeated(ids: Column) -> BoolArray:
    """True at every occurrence of an id after its first."""
    _, first = np.unique(_codes(ids), return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    return again


def absent(ids: Column, known: Column) -> BoolArray:
    """True where an id is not among the known ones."""
    return ~_mask(pc.is_in(_plain(ids), value_set=_plain(known)))


def _codes(ids: Column) -> AnyArray:
    return _plain(ids).dictionary_encode().indices.to_numpy(zero_copy_only=False)


def _plain(column: Column) -> pa.Array:
    """One array, without dictionary, view or large text types."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_text = pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type)
    is_bytes = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    return column.cast(pa.string()) if is_text or is_bytes else column


def _is_scalar(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_string, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_temporal)
    return pa.types.is_null(kind) or any(test(kind) for test in tests)


def _floats(column: pa.Array, where: str) -> tuple[AnyArray, BoolArray, BoolArray]:
    """float64 values (0 where unusable), missing, wrong."""
    missing = _mask(column.is_null())
    wrong = np.zeros(len(column), bool)
    kind = column.type
    if pa.types.is_string(kind):
        missing |= _mask(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True))
        fits = pc.fill_null(pc.match_substring_regex(column, NUMBER), False)
        wrong = ~_mask(fits) & ~missing
        column = pc.if_else(fits, pc.utf8_trim_whitespace(column), None)
        column = pc.replace_substring_regex(column, r"^\+", "")
    elif not any(
        test(kind)
        for test in (
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
            pa.types.is_decimal,
            pa.types.is_null,
        )
    ):
        raise UserError(f"a number was expected, the type is {kind}", where=where, todo="use a column of numbers")
    values = _filled(column, 0, pa.float64())
    wrong |= ~np.isfinite(values)
    return np.where(wrong, 0.0, values), missing, wrong


def _filled(column: pa.Array, value: float, kind: pa.DataType) -> AnyArray:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return pc.fill_null(column.cast(kind, safe=False), pa.scalar(value, kind)).to_numpy(zero_copy_only=False)


def _mask(column: Column) -> BoolArray:
    return np.array(column.to_numpy(zero_copy_only=False), dtype=bool)

"""Values of JSON, checked and converted: one look at the types of all, and a second one only where something is wrong.

Letters: B rows, T values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_contract.arrays import Int64Array
from retrieval_contract.data.numbers import Float64Array
from retrieval_contract.errors import UserError

WHERE = "features"
"""What errors call the place."""
NULL = type(None)
MISSING_BYTES = b"\xff"
"""A missing text, where it comes as bytes."""
MISSING_MOMENT = -(2**63)
"""Stands for a missing moment where there is no null: in tensors."""
FURTHEST_MOMENT = 2**61
"""Differences of moments up to here are exact in 64 bits."""
LARGEST = float(np.finfo(np.float64).max)
_NAMES: Mapping[type, str] = {
    str: "text",
    bytes: "bytes",
    bool: "a boolean",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    NULL: "null",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One input of one request, to be named where it is wrong."""

    name: str
    starts: Int64Array | None = None
    """Where each row's values begin among all values [B], of lists."""

    def fault(self, place: int, what: str, todo: str) -> UserError:
        """The error for a value.

        Args:
            place: its row, or of lists its place among all values.
            what: what it is and should be.
            todo: what would be right.
        """
        row = place if self.starts is None else int(np.searchsorted(self.starts, place, side="right")) - 1
        return UserError(f"field {self.name!r}, row {row}: {what}", where=WHERE, todo=todo)


def texts_of(values: list[Any], field: Field) -> list[str | None]:
    """Texts, None where missing.

    Raises:
        UserError: something else than text, whole numbers, booleans and null, or half a character.
    """
    todo = "give text, a whole number, a boolean or null"
    kinds = check_kinds(values, {str, bytes, int, bool, NULL}, field, "text", todo)
    if not kinds <= {str, NULL}:
        values = [_as_text(value, place, field) for place, value in enumerate(values)]
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        place = _first(values, lambda value: value is not None and not _is_utf_8(value))
        raise field.fault(place, "text with half a character (a lone surrogate)", "give whole characters") from None
    return values


def _as_text(value: Any, place: int, field: Field) -> str | None:
    """Text as the tables of training were read: whole numbers in decimal, booleans as words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _decimal(value, place, field)
    if not isinstance(value, bytes):
        return value
    try:
        return None if value == MISSING_BYTES else value.decode()
    except UnicodeDecodeError:
        raise field.fault(place, "bytes that are not UTF-8", "give text") from None


def _decimal(value: int, place: int, field: Field) -> str:
    if not -(2**63) <= value < 2**63:
        raise field.fault(place, "a whole number beyond 64 bits", "give it as text")
    return str(value)


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def numbers_of(values: list[Any], field: Field) -> Float64Array:
    """Finite numbers, NaN where missing.

    Raises:
        UserError: something else than numbers, booleans and null, or one that is not finite in float64.
    """
    todo = "give a finite number or null"
    kinds = check_kinds(values, {int, float, bool, NULL}, field, "a number", todo)
    try:
        numbers = np.array(values, np.float64)
    except OverflowError:
        place = _first(values, lambda value: isinstance(value, int) and abs(value) > LARGEST)
        raise field.fault(place, "a number too large for float64", todo) from None
    bad = ~np.isfinite(numbers)
    if NULL in kinds and bad.any():
        bad &= np.array([value is not None for value in values], np.bool_)
    if bad.any():
        raise field.fault(int(bad.argmax()), "NaN or infinity where a number is needed", todo)
    return numbers


def weights_of(values: list[Any], field: Field) -> Float64Array:
    """Numbers of 0 or more that float32 can hold, NaN where missing.

    Raises:
        UserError: as `numbers_of`, or another number.
    """
    numbers = numbers_of(values, field)
    if (bad := (numbers < 0) | (numbers > np.finfo(np.float32).max)).any():
        place = int(bad.argmax())
        what = "a weight below 0" if numbers[place] < 0 else "a weight too large for float32"
        raise field.fault(place, what, "give 0 or more")
    return numbers


def moments_of(values: list[Any], field: Field) -> Int64Array:
    """Unix seconds, `MISSING_MOMENT` where missing.

    Raises:
        UserError: something else than whole numbers and null, or one that is too far away.
    """
    todo = "give Unix seconds as a whole number, or null"
    kinds = check_kinds(values, {int, NULL}, field, "a moment", todo)
    if NULL in kinds:
        values = [MISSING_MOMENT if value is None else value for value in values]
    if values and (max(values) > FURTHEST_MOMENT or min(values) < -FURTHEST_MOMENT):
        far = _first(values, lambda value: abs(value) > FURTHEST_MOMENT and value != MISSING_MOMENT)
        if far < len(values):
            raise field.fault(far, "a moment further than 2^61 seconds", todo)
    return np.array(values, np.int64)


def check_kinds(values: list[Any], allowed: set[type], field: Field, wanted: str, todo: str) -> set[type]:
    """Types of the values.

    Args:
        values: any.
        allowed: types that may be among them.
        field: where they stand.
        wanted: what they should be, for the error.
        todo: what would be right.

    Raises:
        UserError: a value of another type.
    """
    kinds = set(map(type, values))
    if kinds <= allowed:
        return kinds
    place = _first(values, lambda value: type(value) not in allowed)
    raise field.fault(place, f"{kind_of(values[place])} where {wanted} is needed", todo)


def kind_of(value: Any) -> str:
    """What a value is, in words of JSON; never the value itself, which may be personal."""
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def _first(values: list[Any], is_wrong: Callable[[Any], bool]) -> int:
    """Place of the first wrong value; their number where none is."""
    return next((place for place, value in enumerate(values) if is_wrong(value)), len(values))

"""Raw columns of a request, as JSON means them, checked: each fault names the field and the row.

| form | one row is | missing |
|---|---|---|
| text | text; a whole number or a boolean is read as it is written | null |
| number | a number; a boolean is 0 or 1 | null |
| moment | a whole number, Unix seconds | null |
| texts | a list of what a text may be; or text with `|` between the values | null; null within it is an unknown value |
| numbers | a list of numbers, 0 or more, as long as its texts | null; null within it counts as 1 |
| moments | a list of moments, as long as its texts | null; null within it has age 0 |
| tokens | a list of token ids, whole numbers | null |
| vector | a list of as many numbers as the feature is wide | null |

A field that is left out is missing in every row. Bytes (a client of TensorFlow Serving sends them as `{"b64": ...}`)
are UTF-8, and the one byte 0xFF is a missing text, as in an exported model. Letters: B rows, T values of all lists, D
width of a vector.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Float32Array, Int64Array
from retrieval_contract.data.columns import nearest
from retrieval_contract.data.multivalent import SEPARATOR
from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_inputs import RawInput

Float64Array = NDArray[np.float64]
Lists = Literal["padded", "exact"]
WHERE = "features"
MISSING_BYTES = b"\xff"
MISSING_MOMENT = -(2**63)
"""Stands for a missing moment where there is no null: in tensors."""
FURTHEST_MOMENT = 2**61
"""Differences of moments up to here are exact in 64 bits."""
LARGEST = float(np.finfo(np.float64).max)
_NULL = type(None)
_NAMES: Mapping[type, str] = {
    str: "text",
    bytes: "bytes",
    bool: "a boolean",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    _NULL: "null",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RawLists:
    """Lists of B rows, end to end."""

    values: list[Any]
    """Checked texts (None where missing) or token ids of all rows [T]."""
    lengths: Int64Array
    """Values of each row [B]."""
    beside: tuple[NDArray[Any] | None, ...] = ()
    """What stands beside the values, in the order asked for [T]: numbers float64 (NaN where missing), moments int64
    (`MISSING_MOMENT` where missing); None where the field is left out."""


@final
class RawRows:
    """The fields of one request; each is checked when it is asked for, by its name."""

    def __init__(
        self,
        inputs: Mapping[str, RawInput],
        rows: Mapping[str, Sequence[Any]],
        *,
        num_rows: int | None = None,
        lists: Lists = "padded",
    ) -> None:
        """Look at what came.

        Args:
            inputs: what may be given, by name.
            rows: by name, one value a row.
            num_rows: B; None takes it from the fields.
            lists: `padded` leaves empty texts and negative token ids out of lists, with what stands beside them, since
                clients of an exported model fill rectangles with them; `exact` takes them for values.

        Raises:
            UserError: an unknown field, no rows at all, or fields that differ in their number of rows.
        """
        if unknown := sorted(set(rows) - set(inputs)):
            raise UserError(f"no field {unknown[0]!r}", where=WHERE, todo=nearest(unknown[0], inputs))
        self._inputs, self._padded = inputs, lists == "padded"
        self._columns = {name: _column(name, values) for name, values in rows.items()}
        self.num_rows = _agreed_rows(self._columns, inputs, num_rows)
        """B."""

    def texts(self, name: str) -> list[str | None]:
        """One text a row [B], None where missing."""
        return _texts(self._given(name), Field(name))

    def numbers(self, name: str) -> Float64Array:
        """One number a row [B], NaN where missing."""
        return _numbers(self._given(name), Field(name))

    def moments(self, name: str) -> Int64Array:
        """One moment a row [B], `MISSING_MOMENT` where missing."""
        return _moments(self._given(name), Field(name))

    def vectors(self, name: str) -> tuple[Float32Array, BoolArray]:
        """Vectors [B, D], zeros where one is missing, and True where one is there [B]."""
        width, field, column = self._inputs[name].width, Field(name), self._given(name)
        assert width is not None, "a vector has a width"
        todo = f"give a list of {width} numbers, or null"
        lists, present = _lists(column, field, todo), np.array([row is not None for row in column], np.bool_)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        if (wrong := present & (lengths != width)).any():
            place = int(wrong.argmax())
            what = f"a vector of width {lengths[place]} where the feature has width {width}"
            raise field.fault(place, what, todo)
        flat = list(itertools.chain.from_iterable(lists))
        with np.errstate(over="ignore"):
            numbers = _numbers(flat, Field(name, _starts(lengths))).astype(np.float32)
        if (bad := ~np.isfinite(numbers)).any():
            what = "a vector with a number that is null or too large for float32"
            raise Field(name, _starts(lengths)).fault(int(bad.argmax()), what, todo)
        vectors = np.zeros((self.num_rows, width), np.float32)
        vectors[present] = numbers.reshape(-1, width)
        return vectors, present

    def tokens(self, name: str) -> RawLists:
        """Token ids of each row."""
        todo = "give a list of whole numbers, or null"
        lists = _lists(self._given(name), Field(name), todo)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        flat, field = list(itertools.chain.from_iterable(lists)), Field(name, _starts(lengths))
        _check_kinds(flat, {int}, field, "a token id", todo)
        if self._padded and any(token < 0 for token in flat):
            return _kept(flat, lengths, (), [token >= 0 for token in flat])
        return RawLists(values=flat, lengths=lengths)

    def lists(self, name: str, *beside: str) -> RawLists:
        """Texts of each row, and what stands beside them: weights or moments."""
        lists = _lists(self._given(name), Field(name), "give a list, or null", split=True)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        starts = _starts(lengths)
        texts = _texts(list(itertools.chain.from_iterable(lists)), Field(name, starts))
        others = tuple(self._beside(other, lengths, name) for other in beside)
        if self._padded and "" in texts:
            return _kept(texts, lengths, others, [text != "" for text in texts])
        return RawLists(values=texts, lengths=lengths, beside=others)

    def _beside(self, name: str, lengths: Int64Array, of: str) -> NDArray[Any] | None:
        if name not in self._columns:
            return None
        column, todo = self._columns[name], f"give as many values as {of!r} has, or null"
        lists = _lists(column, Field(name), todo)
        found = np.fromiter(map(len, lists), np.int64, len(lists))
        left_out = np.array([row is None for row in column], np.bool_)
        if (wrong := (found != lengths) & ~left_out).any():
            place = int(wrong.argmax())
            raise Field(name).fault(place, f"{found[place]} values where {of!r} has {lengths[place]}", todo)
        # A row of null has nothing beside each of its values.
        filled = ([None] * size if gone else row for row, size, gone in zip(lists, lengths, left_out, strict=True))
        flat, field = list(itertools.chain.from_iterable(filled)), Field(name, _starts(lengths))
        return _moments(flat, field) if self._inputs[name].form == "moments" else _weights(flat, field)

    def _given(self, name: str) -> list[Any]:
        return self._columns.get(name) or [None] * self.num_rows


def _column(name: str, values: Any) -> list[Any]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, list | tuple):
        raise UserError(f"field {name!r} is {_kind(values)}", where=WHERE, todo="give a list with one value a row")
    return list(values)


def _agreed_rows(columns: Mapping[str, list[Any]], inputs: Iterable[str], num_rows: int | None) -> int:
    if num_rows is None:
        if not columns:
            todo = f"give one or more of {', '.join(inputs)}"
            raise UserError("not one field, so nobody knows how many rows", where=WHERE, todo=todo)
        num_rows = len(next(iter(columns.values())))
    for name, values in columns.items():
        if len(values) != num_rows:
            what = f"field {name!r} has {len(values)} rows where there are {num_rows}"
            raise UserError(what, where=WHERE, todo="give every field one value a row")
    return num_rows


def _lists(column: list[Any], field: Field, todo: str, *, split: bool = False) -> list[Sequence[Any]]:
    """Rows as lists, null as an empty one; with `split`, text is a list whose values have `|` between them."""
    _check_kinds(column, {list, tuple, _NULL, *({str} if split else ())}, field, "a list", todo)
    return [_split(row) if isinstance(row, str) else row or () for row in column]


def _split(text: str) -> list[str]:
    return [value for value in text.split(SEPARATOR) if value]


def _texts(values: list[Any], field: Field) -> list[str | None]:
    todo = "give text, a whole number, a boolean or null"
    kinds = _check_kinds(values, {str, bytes, int, bool, _NULL}, field, "text", todo)
    if not kinds <= {str, _NULL}:
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


def _numbers(values: list[Any], field: Field) -> Float64Array:
    todo = "give a finite number or null"
    kinds = _check_kinds(values, {int, float, bool, _NULL}, field, "a number", todo)
    try:
        numbers = np.array(values, np.float64)
    except OverflowError:
        place = _first(values, lambda value: isinstance(value, int) and abs(value) > LARGEST)
        raise field.fault(place, "a number too large for float64", todo) from None
    bad = ~np.isfinite(numbers)
    if _NULL in kinds and bad.any():
        bad &= np.array([value is not None for value in values], np.bool_)
    if bad.any():
        raise field.fault(int(bad.argmax()), "NaN or infinity where a number is needed", todo)
    return numbers


def _weights(values: list[Any], field: Field) -> Float64Array:
    numbers = _numbers(values, field)
    if (bad := (numbers < 0) | (numbers > np.finfo(np.float32).max)).any():
        place = int(bad.argmax())
        what = "a weight below 0" if numbers[place] < 0 else "a weight too large for float32"
        raise field.fault(place, what, "give 0 or more")
    return numbers


def _moments(values: list[Any], field: Field) -> Int64Array:
    todo = "give Unix seconds as a whole number, or null"
    kinds = _check_kinds(values, {int, _NULL}, field, "a moment", todo)
    if _NULL in kinds:
        values = [MISSING_MOMENT if value is None else value for value in values]
    if values and (max(values) > FURTHEST_MOMENT or min(values) < -FURTHEST_MOMENT):
        far = _first(values, lambda value: abs(value) > FURTHEST_MOMENT and value != MISSING_MOMENT)
        if far < len(values):
            raise field.fault(far, "a moment further than 2^61 seconds", todo)
    return np.array(values, np.int64)


def _check_kinds(values: list[Any], allowed: set[type], field: Field, wanted: str, todo: str) -> set[type]:
    """Types of the values; one look at each, whatever their number."""
    kinds = set(map(type, values))
    if kinds <= allowed:
        return kinds
    place = _first(values, lambda value: type(value) not in allowed)
    raise field.fault(place, f"{_kind(values[place])} where {wanted} is needed", todo)


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def _first(values: list[Any], is_wrong: Callable[[Any], bool]) -> int:
    """Place of the first wrong value; their number where none is."""
    return next((place for place, value in enumerate(values) if is_wrong(value)), len(values))


def _starts(lengths: Int64Array) -> Int64Array:
    return np.cumsum(lengths) - lengths


def _kept(values: list[Any], lengths: Int64Array, others: Sequence[NDArray[Any] | None], keep: list[bool]) -> RawLists:
    """Leave values out, with what stands beside them."""
    kept = np.array(keep, np.bool_)
    rows = np.repeat(np.arange(len(lengths)), lengths)[kept]
    return RawLists(
        values=list(itertools.compress(values, keep)),
        lengths=np.bincount(rows, minlength=len(lengths)),
        beside=tuple(None if other is None else other[kept] for other in others),
    )

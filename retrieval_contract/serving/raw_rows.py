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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.data.columns import nearest
from retrieval_contract.data.multivalent import SEPARATOR
from retrieval_contract.data.numbers import Float64Array
from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_inputs import RawInput
from retrieval_contract.serving.raw_values import (
    MISSING_MOMENT,
    NULL,
    WHERE,
    Field,
    check_kinds,
    kind_of,
    moments_of,
    numbers_of,
    texts_of,
    weights_of,
)

__all__ = ["MISSING_MOMENT", "WHERE", "ListForm", "RawLists", "RawRows"]

ListForm = Literal["padded", "exact"]
LONGEST_NAME = 100
"""Characters of an unknown field's name that are said again."""


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
        lists: ListForm = "padded",
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
            raise UserError(f"no field {unknown[0][:LONGEST_NAME]!r}", where=WHERE, todo=nearest(unknown[0], inputs))
        self._inputs, self._padded = inputs, lists == "padded"
        self._columns = {name: _column(name, values) for name, values in rows.items()}
        self.num_rows = _agreed_rows(self._columns, inputs, num_rows)
        """B."""

    def texts(self, name: str) -> list[str | None]:
        """One text a row [B], None where missing."""
        return texts_of(self._given(name), Field(name))

    def numbers(self, name: str) -> Float64Array:
        """One number a row [B], NaN where missing."""
        return numbers_of(self._given(name), Field(name))

    def moments(self, name: str) -> Int64Array:
        """One moment a row [B], `MISSING_MOMENT` where missing."""
        return moments_of(self._given(name), Field(name))

    def vectors(self, name: str) -> Float32Array:
        """Vectors [B, D], zeros where one is missing."""
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
            numbers = numbers_of(flat, Field(name, _starts(lengths))).astype(np.float32)
        if (bad := ~np.isfinite(numbers)).any():
            what = "a vector with a number that is null or too large for float32"
            raise Field(name, _starts(lengths)).fault(int(bad.argmax()), what, todo)
        vectors = np.zeros((self.num_rows, width), np.float32)
        vectors[present] = numbers.reshape(-1, width)
        return vectors

    def tokens(self, name: str) -> RawLists:
        """Token ids of each row."""
        todo = "give a list of whole numbers, or null"
        lists = _lists(self._given(name), Field(name), todo)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        flat, field = list(itertools.chain.from_iterable(lists)), Field(name, _starts(lengths))
        check_kinds(flat, {int}, field, "a token id", todo)
        if self._padded and any(token < 0 for token in flat):
            return _kept(flat, lengths, (), [token >= 0 for token in flat])
        return RawLists(values=flat, lengths=lengths)

    def lists(self, name: str, *beside: str) -> RawLists:
        """Texts of each row, and what stands beside them: weights or moments."""
        lists = _lists(self._given(name), Field(name), "give a list, or null", split=True)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        starts = _starts(lengths)
        texts = texts_of(list(itertools.chain.from_iterable(lists)), Field(name, starts))
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
        return moments_of(flat, field) if self._inputs[name].form == "moments" else weights_of(flat, field)

    def _given(self, name: str) -> list[Any]:
        return self._columns.get(name) or [None] * self.num_rows


def _column(name: str, values: Any) -> list[Any]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, list | tuple):
        raise UserError(f"field {name!r} is {kind_of(values)}", where=WHERE, todo="give a list with one value a row")
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
    check_kinds(column, {list, tuple, NULL, *({str} if split else ())}, field, "a list", todo)
    return [_split(row) if isinstance(row, str) else row or () for row in column]


def _split(text: str) -> list[str]:
    return [value for value in text.split(SEPARATOR) if value]


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

"""What candidates may be filtered by: a column of values a name, and which candidates a filter allows.

Letters: N candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray
from retrieval_contract.data.columns import column_of, nearest
from retrieval_contract.errors import UserError

Filter = Mapping[str, Sequence[str]]
"""Attribute name -> accepted values; a candidate must have one of them under every name."""
REMEMBERED = 64
"""Filters whose allowed candidates are kept, one bit array of N bytes each."""


@final
@dataclass(frozen=True, slots=True)
class _Column:
    """Rows by value, as one array sorted by value and the places where each value's rows begin."""

    code_of: Mapping[str, int]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]

    def mark(self, value: str, allowed_N: BoolArray) -> None:
        """Set True where a candidate has the value; one that no candidate has marks nothing."""
        code = self.code_of.get(value)
        if code is not None:
            allowed_N[self.rows[self.starts[code] : self.starts[code + 1]]] = True


@final
class Attributes:
    """Columns of text, or of lists of text, one entry a candidate; missing entries match no filter."""

    def __init__(self, table: pa.Table) -> None:
        """Code the columns of a table.

        Args:
            table: N rows; every column string or list of strings.
        """
        self.table = table
        self._columns = {name: _coded(table.column(name).combine_chunks()) for name in table.column_names}
        self._allowed = lru_cache(maxsize=REMEMBERED)(self._find)

    @classmethod
    def from_table(cls, table: pa.Table, names: Sequence[str]) -> Self:
        """Take columns of the candidates' table, numbers and truth values as text.

        Raises:
            UserError: no such column, or one that is neither text, a number, nor a list of those.
        """
        columns = {
            name: _as_text(column_of(table, name, where="candidates", wanted_by="index.attributes"), name)
            for name in names
        }
        return cls(pa.table(columns)) if columns else cls.none(table.num_rows)

    @classmethod
    def none(cls, size: int) -> Self:
        """N candidates of which nothing is known."""
        return cls(_empty(size))

    @property
    def names(self) -> tuple[str, ...]:
        """What may be filtered by."""
        return tuple(self._columns)

    @property
    def size(self) -> int:
        """Candidates N."""
        return int(self.table.num_rows)

    @property
    def num_bytes(self) -> int:
        """Memory of the coded columns."""
        return sum(column.rows.nbytes + column.starts.nbytes for column in self._columns.values())

    def allowed(self, wanted: Filter) -> BoolArray:
        """Say which candidates a filter allows [N], read only.

        Raises:
            UserError: a name that is no attribute, or a value that is no text.
        """
        for name, values in wanted.items():
            if name not in self._columns:
                todo = nearest(name, self._columns)
                raise UserError(f"candidates have no attribute {name!r} to filter by", where="filters", todo=todo)
            if isinstance(values, str) or not all(isinstance(value, str) for value in values):
                todo = "give a list of texts"
                raise UserError(f"filter {name!r} is {values!r}", where=f"filters, {name}", todo=todo)
        return self._allowed(tuple((name, tuple(sorted(set(wanted[name])))) for name in sorted(wanted)))

    def extended(self, more: "Attributes") -> "Attributes":
        """These candidates and others behind them, of the same attributes."""
        assert more.names == self.names, "the same attributes"
        return Attributes(pa.concat_tables([self.table, more.table]))

    def _find(self, wanted: tuple[tuple[str, tuple[str, ...]], ...]) -> BoolArray:
        allowed_N = np.ones(self.size, np.bool_)
        for name, values in wanted:
            has_N = np.zeros(self.size, np.bool_)
            for value in values:
                self._columns[name].mark(value, has_N)
            allowed_N &= has_N
        allowed_N.flags.writeable = False
        return allowed_N


def _empty(size: int) -> pa.Table:
    """A table of `size` rows without columns."""
    return pa.Table.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), size, [None]))


def _as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Cast to string, or list of string."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    kind = pa.list_(pa.string()) if is_list else pa.string()
    inner = column.type.value_type if is_list else column.type
    if pa.types.is_dictionary(inner):
        column, inner = column.cast(inner.value_type), inner.value_type
    known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    if not any(is_kind(inner) for is_kind in (*known, pa.types.is_boolean, pa.types.is_null)):
        todo = "name columns of text, numbers, or lists of those in index.attributes"
        raise UserError(f"column {name!r} is {column.type}", where="candidates", todo=todo)
    return column.cast(kind)


def _coded(column: Any) -> _Column:
    """Sort a column's rows by value."""
    if pa.types.is_list(column.type):
        rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int32)
        texts = pc.list_flatten(column)
    else:
        rows, texts = np.arange(len(column), dtype=np.int32), column
    coded = texts.dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    order = order[np.searchsorted(codes[order], 0) :]
    values = coded.dictionary.to_pylist()
    starts = np.searchsorted(codes[order], np.arange(len(values) + 1)).astype(np.int64)
    return _Column({value: code for code, value in enumerate(values)}, starts, rows[order])

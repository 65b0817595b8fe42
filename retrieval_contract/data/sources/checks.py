"""Row checks that every source shares: which rows cannot be used, said once, raised or dropped.

A check marks rows of a column as bad; `BadRows` turns the marks into one `UserError` or, with `drop`, into a note and a
shorter table. Masks always count rows as the file has them, from 0.
"""

import difflib
import time
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import BoolArray, Int64Array
from retrieval_contract.data.sources import conversion
from retrieval_contract.data.sources.raw import CANDIDATE_ID, QUERY_ID, TIME
from retrieval_contract.errors import UserError, first_rows

OnBadRows = Literal["raise", "drop"]
TimeKind = Literal["timestamp", "order", "none"]
NUMBERS = ("rating", "watched_fraction")
FLAGS = ("liked", "shared")
DAY = 86_400


class BadRows:
    """Rows of one file that cannot be used, gathered check by check."""

    def __init__(self, where: str, num_rows: int, on_bad_rows: OnBadRows) -> None:
        """Start with no bad row.

        Args:
            where: the file, as shown to people.
            num_rows: rows of the file.
            on_bad_rows: raise at the first check that fails, or drop and note.
        """
        self.where = where
        self.on_bad_rows = on_bad_rows
        self.bad: BoolArray = np.zeros(num_rows, bool)
        self.notes: list[str] = []

    def found(self, bad: BoolArray, column: str, what: str, todo: str) -> None:
        """Report the outcome of one check; a row is counted under the first check that finds it.

        Args:
            bad: True where the row fails [R].
            column: the file's name of the column.
            what: the fault.
            todo: what would be right.

        Raises:
            UserError: a row fails and rows are not to be dropped.
        """
        new = bad & ~self.bad
        rows = np.flatnonzero(new)
        if not len(rows):
            return
        place = f"column {column}, {first_rows(rows.tolist(), len(rows))}, {len(rows):,} of {len(bad):,} rows"
        if self.on_bad_rows == "raise":
            raise UserError(what, where=f"{self.where}, {place}", todo=f"{todo}, or run with on_bad_rows=drop")
        self.bad |= new
        self.notes.append(f"{self.where}: dropped {len(rows):,} of {len(bad):,} rows: {what} ({place}): {todo}")

    def keep(self, table: pa.Table) -> pa.Table:
        """Return the rows that no check found.

        Raises:
            UserError: no row is left; the reasons are named.
        """
        if not self.bad.any():
            return table
        if self.bad.all():
            raise UserError("every row was dropped", where=self.where, todo="; ".join(self.notes))
        return table.filter(pa.array(~self.bad))


def require_columns(table: pa.Table, wanted: Mapping[str, str], *, where: str, setting: str) -> None:
    """Refuse a table that lacks a wanted column, naming the nearest it has.

    Args:
        table: the file as read.
        wanted: our name -> the file's name.
        where: the file.
        setting: name of the configuration field that maps names.

    Raises:
        UserError: a column is missing, or appears twice.
    """
    for ours, theirs in wanted.items():
        found = table.column_names.count(theirs)
        if found > 1:
            raise UserError(f"column {theirs!r} appears {found} times", where=where, todo="rename or remove the others")
        if found == 0:
            nearest = difflib.get_close_matches(theirs, table.column_names, 1, cutoff=0)
            hint = f"did you mean {nearest[0]!r}? set source.{setting}.{ours}" if nearest else "the file has no columns"
            raise UserError(
                f"no column {theirs!r}", where=where, todo=f"{hint}; it has {', '.join(table.column_names)}"
            )


def checked_entities(
    table: pa.Table, *, id_name: str, file_id_name: str, where: str, on_bad_rows: OnBadRows
) -> tuple[pa.Table, list[str]]:
    """Check an attribute table: ids present, of one kind, distinct; title and genres in canonical form.

    Args:
        table: E rows with the canonical column `id_name`.
        id_name: `query_id` or `candidate_id`.
        file_id_name: what the file calls it.
        where: the file.
        on_bad_rows: with `drop`, the first row of an id stays.

    Returns:
        The table with string ids, and notes of what was dropped.

    Raises:
        UserError: a null or repeated id, a column of an impossible type, or no rows.
    """
    _refuse_empty(table, where)
    bad = BadRows(where, table.num_rows, on_bad_rows)
    table = _with_ids(table, id_name, file_id_name, bad)
    repeated = conversion.repeated(table[id_name]) & ~bad.bad
    bad.found(repeated, file_id_name, f"duplicate {id_name}", "keep one row per id")
    for name, convert in (("title", conversion.as_title), ("genres", conversion.as_genres)):
        if name in table.column_names:
            table = _replaced(table, name, convert(table[name], where=f"{where}, column {name}"))
    return bad.keep(table), bad.notes


def checked_interactions(
    table: pa.Table,
    *,
    time_kind: TimeKind,
    file_names: Mapping[str, str],
    where: str,
    on_bad_rows: OnBadRows,
    queries: pa.Table | None,
    candidates: pa.Table | None,
    now: int | None = None,
) -> tuple[pa.Table, list[str]]:
    """Check interactions and bring them to canonical types; duplicates of a pair are allowed.

    Args:
        table: R rows with `query_id`, `candidate_id` and, unless `time_kind` is none, `time`, of any type.
        time_kind: whether `time` holds Unix seconds or an order; with none, the row number becomes the time.
        file_names: canonical name -> what the file calls it; columns named here must be finite where they are numbers.
        where: the file.
        on_bad_rows: raise, or drop and note.
        queries: checked query table, or None.
        candidates: checked candidate table, or None.
        now: Unix seconds that count as the present; None means the clock.

    Returns:
        The table, `query_id`, `candidate_id` and `time` first, and notes of what was dropped.

    Raises:
        UserError: a row is bad and `on_bad_rows` is raise; a column of an impossible type; no rows.
    """
    _refuse_empty(table, where)
    bad = BadRows(where, table.num_rows, on_bad_rows)
    for name, entities in ((QUERY_ID, queries), (CANDIDATE_ID, candidates)):
        file_name = file_names.get(name, name)
        table = _with_ids(table, name, file_name, bad)
        if entities is not None:
            absent = conversion.absent(table[name], entities[name])
            bad.found(absent, file_name, f"{name} is in no row of its table", "add the missing rows to the table")
    table = _with_time(table, time_kind, file_names.get(TIME, TIME), bad, int(time.time()) if now is None else now)
    table = _with_numbers(table, file_names, bad)
    first = [QUERY_ID, CANDIDATE_ID, TIME]
    return bad.keep(table.select(first + [name for name in table.column_names if name not in first])), bad.notes


def _refuse_empty(table: pa.Table, where: str) -> None:
    if table.num_rows == 0:
        raise UserError("the file has no rows", where=where, todo="give a file with at least one row")


def _replaced(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, column)
    return table.set_column(table.column_names.index(name), name, column)


def _with_ids(table: pa.Table, name: str, file_name: str, bad: BadRows) -> pa.Table:
    ids = conversion.as_ids(table[name], where=f"{bad.where}, column {file_name}")
    bad.found(ids.missing, file_name, f"{name} is missing", "give every row an id")
    bad.found(ids.wrong, file_name, f"{name} is a fraction or not finite", "use whole numbers or text as ids")
    return _replaced(table, name, ids.values)


def _with_time(table: pa.Table, kind: TimeKind, file_name: str, bad: BadRows, now: int) -> pa.Table:
    if kind == "none":
        return _replaced(table, TIME, pa.array(np.arange(table.num_rows, dtype=np.int64)))
    times = conversion.as_whole_numbers(
        table[TIME], where=f"{bad.where}, column {file_name}", floor=kind == "timestamp"
    )
    bad.found(times.missing, file_name, f"{kind} is missing", f"give every row a {kind}")
    bad.found(times.wrong, file_name, f"{kind} is text or not a finite whole number", "use numbers")
    if kind == "timestamp":
        usable = ~times.missing & ~times.wrong
        _check_span(times.values, usable, file_name, bad, now)
    return _replaced(table, TIME, pa.array(times.values))


def _check_span(times: Int64Array, usable: BoolArray, file_name: str, bad: BadRows, now: int) -> None:
    bad.found(usable & (times < 0), file_name, "negative timestamp", "give Unix seconds, 0 or more")
    future = usable & (times > now + DAY)
    if not future.any():
        return
    middle = float(np.median(times[future]))
    for scale, unit in ((10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")):
        if DAY * 365 <= middle / scale <= now + DAY:
            hint = f"these look like {unit}, not seconds; divide by {scale:,}"
            break
    else:
        hint = "give Unix seconds, not after today"
    bad.found(future, file_name, f"timestamp in the future, {times[future][0]}", hint)


def _with_numbers(table: pa.Table, file_names: Mapping[str, str], bad: BadRows) -> pa.Table:
    mapped_floats = [
        name for name in file_names if name in table.column_names and pa.types.is_floating(table[name].type)
    ]
    for name in dict.fromkeys([*NUMBERS, *FLAGS, *mapped_floats]):
        if name not in table.column_names or name in (QUERY_ID, CANDIDATE_ID, TIME):
            continue
        file_name = file_names.get(name, name)
        convert = conversion.as_flags if name in FLAGS else conversion.as_numbers
        numbers = convert(table[name], where=f"{bad.where}, column {file_name}")
        bad.found(numbers.missing, file_name, f"{name} is missing", "fill it in")
        bad.found(numbers.wrong, file_name, f"{name} is text, NaN or infinite", "use finite numbers")
        table = _replaced(table, name, pa.array(numbers.values))
    return table

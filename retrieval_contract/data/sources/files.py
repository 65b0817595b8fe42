"""The source `files`: a person's own Parquet, CSV or JSON-lines files, columns mapped by the configuration."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from retrieval_contract.config import FilesSource
from retrieval_contract.data.sources.checks import (
    FLAGS,
    NUMBERS,
    OnBadRows,
    TimeKind,
    checked_entities,
    checked_interactions,
    require_columns,
)
from retrieval_contract.data.sources.raw import CANDIDATE_ID, QUERY_ID, TIME, RawData
from retrieval_contract.data.sources.reading import read_table
from retrieval_contract.errors import UserError

TIMESTAMP, ORDER = "timestamp", "order"


def load(source: FilesSource) -> RawData:
    """Read the files that a source names.

    Time is the column `timestamp` (mapped, or of that name), else `order`, else the order of the rows in the file.
    A column `genres` of text is divided at `|`. Columns that nobody maps keep their name, except that one which would
    take the name of a mapped one is refused.

    Raises:
        UserError: see `checks`; every fault names file, column, first rows, how many, and what to do.
    """
    notes: list[str] = []
    queries = _entities(source, source.queries, source.query_columns, QUERY_ID, "query_columns", notes)
    candidates = _entities(
        source, source.candidates, source.candidate_columns, CANDIDATE_ID, "candidate_columns", notes
    )
    path = Path(source.data_dir) / source.interactions
    names = {QUERY_ID: QUERY_ID, CANDIDATE_ID: CANDIDATE_ID, **source.columns}
    # timestamp and order are read under the one name `time`; unmapped canonical columns are text in a CSV as well.
    as_text = {*names.values(), *({TIMESTAMP, ORDER, *NUMBERS, *FLAGS} - set(source.columns))}
    raw = _read(path, as_text, source.on_bad_rows, notes)
    require_columns(raw, names, where=str(path), setting="columns")
    time_kind, names = _time_column(raw, names)
    table = _renamed(raw, names, where=str(path), setting="columns")
    checked, dropped = checked_interactions(
        table,
        time_kind=time_kind,
        file_names=names,
        where=str(path),
        on_bad_rows=source.on_bad_rows,
        queries=queries,
        candidates=candidates,
    )
    if time_kind == "none":
        notes.append(f"{path.name}: no timestamp and no order; rows count as ordered as they stand in the file")
    return RawData(
        interactions=checked,
        queries=queries,
        candidates=candidates,
        truth=None,
        has_timestamps=time_kind == "timestamp",
        notes=(*notes, *dropped),
    )


def _entities(
    source: FilesSource, file: str | None, mapping: Mapping[str, str], id_name: str, setting: str, notes: list[str]
) -> pa.Table | None:
    if file is None:
        return None
    path = Path(source.data_dir) / file
    names = {id_name: id_name, **mapping}
    raw = _read(path, names.values(), source.on_bad_rows, notes)
    require_columns(raw, names, where=str(path), setting=setting)
    table = _renamed(raw, names, where=str(path), setting=setting)
    checked, dropped = checked_entities(
        table, id_name=id_name, file_id_name=names[id_name], where=str(path), on_bad_rows=source.on_bad_rows
    )
    notes.extend(dropped)
    return checked


def _read(path: Path, as_text: Iterable[str], on_bad_rows: OnBadRows, notes: list[str]) -> pa.Table:
    read = read_table(path, as_text=tuple(as_text), drop_malformed=on_bad_rows == "drop")
    if read.note:
        notes.append(read.note)
    return read.table


def _time_column(table: pa.Table, names: dict[str, str]) -> tuple[TimeKind, dict[str, str]]:
    """Decide which column is the time: a mapped one before one that has the right name, timestamp before order."""
    rest = {ours: theirs for ours, theirs in names.items() if ours not in (TIMESTAMP, ORDER)}
    unmapped = {name: name for name in table.column_names if name not in names.values()}
    for place in (names, unmapped):
        if TIMESTAMP in place:
            return "timestamp", {**rest, TIME: place[TIMESTAMP]}
        if ORDER in place:
            return "order", {**rest, TIME: place[ORDER]}
    return "none", rest


def _renamed(table: pa.Table, names: Mapping[str, str], *, where: str, setting: str) -> pa.Table:
    """Mapped columns first, under our names; then the others under theirs."""
    taken = set(names.values())
    others = [name for name in table.column_names if name not in taken]
    for name in others:
        if name in names or (name == TIME and setting == "columns") or others.count(name) > 1:
            raise UserError(
                f"two columns would be called {name!r}",
                where=where,
                todo=f"map the right one with source.{setting} (time: timestamp or order), or rename the other",
            )
    return pa.table(
        {**{ours: table[theirs] for ours, theirs in names.items()}, **{name: table[name] for name in others}}
    )

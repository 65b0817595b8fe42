"""A Parquet, CSV or JSON-lines file -> one Arrow table, with every way a file can be broken said in one line.

CSV columns that a source maps are read as text, so that an id keeps its leading zeros and a word in a number column is
one bad row and not the end; the other columns get the type that Arrow infers.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from retrieval_contract.errors import UserError, first_rows

NULLS = ["", "null", "NULL", "NaN", "nan", "N/A"]
"""CSV texts that mean nothing is there. `NA` is not one of them: it is a country and a fine id."""
SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
COMPRESSIONS = (".gz", ".bz2", ".zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTable:
    """What a file held, and the lines of it that are no rows at all."""

    table: pa.Table
    note: str
    """One line on malformed lines that were left out; empty where there were none."""


def read_table(path: Path, *, as_text: Collection[str], drop_malformed: bool) -> FileTable:
    """Read a whole file.

    Args:
        path: the ending (`.parquet`, `.csv`, `.tsv`, `.jsonl`, with `.gz` and the like behind the text ones) decides.
        as_text: columns of a CSV file to leave as text.
        drop_malformed: leave out lines that are no rows (wrong number of cells, broken JSON), or refuse the file.

    Raises:
        UserError: no such file, unknown ending, unreadable, truncated, empty, not UTF-8, or malformed lines.
    """
    kind = _kind(path)
    _require_file(path)
    try:
        if kind == "parquet":
            # Through a handle: given a path, Arrow would take `a=1` in a folder's name for a column.
            with path.open("rb") as handle:
                return FileTable(table=pyarrow.parquet.read_table(handle), note="")
        if kind == "json":
            return _read_json(path, drop_malformed)
        return _read_csv(path, as_text, drop_malformed, "\t" if kind == "tsv" else ",")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        todo = "the file is truncated, damaged or not of the kind that its name says; copy or make it again"
        raise UserError(f"cannot read as {kind}: {_first_line(error)}", where=str(path), todo=todo) from error


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    kind = SUFFIXES.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise UserError(
            "the ending of the name says no format that can be read", where=str(path), todo=f"use {', '.join(SUFFIXES)}"
        )
    return kind


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise UserError("this is a folder, not a file", where=str(path), todo="name one file")
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir() if p.is_file())[:10] if path.parent.is_dir() else []
        todo = f"that folder holds {', '.join(beside)}" if beside else "check source.data_dir and the name"
        raise UserError("no such file", where=str(path), todo=todo)
    if path.stat().st_size == 0:
        raise UserError("the file is empty", where=str(path), todo="give a file with a header and at least one row")


def _read_csv(path: Path, as_text: Collection[str], drop_malformed: bool, delimiter: str) -> FileTable:
    malformed: list[tuple[int | None, str]] = []

    def handle(row: pyarrow.csv.InvalidRow) -> str:
        malformed.append((row.number, f"{row.actual_columns} cells where the header has {row.expected_columns}"))
        return "skip"

    def read(text_columns: Collection[str]) -> pa.Table:
        malformed.clear()
        return pyarrow.csv.read_csv(
            path,
            # One thread: with several, Arrow does not know the number of a malformed row.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=handle
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(text_columns, pa.string()), null_values=NULLS, strings_can_be_null=True
            ),
        )

    try:
        table = read(as_text)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
        # A column changes its type behind the block that Arrow infers from: all of it is text then.
        with pyarrow.csv.open_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter)) as reader:
            names = reader.schema.names
        table = read(names)
    table = _without_point_zero(table, as_text)
    # Arrow counts lines from 1 with the header as the first; people are shown rows from 0.
    rows = [(number or 2) - 2 for number, _ in malformed]
    return FileTable(
        table=table, note=_malformed_note(path, rows, malformed[0][1] if malformed else "", drop_malformed)
    )


def _without_point_zero(table: pa.Table, as_text: Collection[str]) -> pa.Table:
    """Turn 7.0 into 7 where a whole column looks like that: integers of a column with gaps, as pandas writes them."""
    for place, name in enumerate(table.column_names):
        column = table[place]
        if name in as_text and pc.all(pc.match_substring_regex(column, r"^-?\d+\.0$")).as_py():
            table = table.set_column(place, name, pc.replace_substring(column, ".0", "", max_replacements=1))
    return table


def _read_json(path: Path, drop_malformed: bool) -> FileTable:
    try:
        return FileTable(table=pyarrow.json.read_json(path), note="")
    except pa.ArrowInvalid:
        return _read_json_by_line(path, drop_malformed)


def _read_json_by_line(path: Path, drop_malformed: bool) -> FileTable:
    """Slow, for files that Arrow refuses: broken lines are told apart, columns of several types become text."""
    objects: list[dict[str, object]] = []
    malformed: list[int] = []
    for number, line in enumerate(_lines(path)):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict):
            objects.append(found)
        else:
            malformed.append(number)
    if not objects:
        raise UserError("no line is a JSON object", where=str(path), todo="write one object a line")
    names = dict.fromkeys(name for found in objects for name in found)
    table = pa.table({name: _json_column([found.get(name) for found in objects]) for name in names})
    return FileTable(table=table, note=_malformed_note(path, malformed, "not a JSON object", drop_malformed))


def _lines(path: Path) -> Iterator[str]:
    compression = "detect" if path.suffix.lower() in COMPRESSIONS else None
    with pa.input_stream(str(path), compression=compression) as stream:
        return iter([line for line in stream.read().decode("utf-8").splitlines() if line.strip()])


def _json_column(values: list[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.string())


def _malformed_note(path: Path, rows: list[int], what: str, drop_malformed: bool) -> str:
    if not rows:
        return ""
    place = f"{path}, {first_rows(rows, len(rows))}"
    if not drop_malformed:
        raise UserError(f"malformed line: {what}", where=place, todo="mend the lines, or run with on_bad_rows=drop")
    return f"{path.name}: left out {len(rows):,} malformed lines: {what} ({first_rows(rows, len(rows))})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]

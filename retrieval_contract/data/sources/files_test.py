import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from retrieval_contract.config import FilesSource
from retrieval_contract.data.sources import load
from retrieval_contract.errors import UserError

SHARED = Path(os.environ.get("TWO_TOWER_SHARED", "../shared")) / "data"
MAPPED = {"query_id": "user", "candidate_id": "movie"}
ROWS = {
    "user": [1, 2, 1, 3],
    "movie": [10, 10, 11, 12],
    "timestamp": [100, 200, 300, 400],
    "rating": [1.0, 2.5, 3.0, 5.0],
}
MOVIES = {"movie": [10, 11, 12], "title": ["Ten", "Eleven", None], "genres": [["a", "b"], [], None]}


def write(path, columns):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path.name


def source(folder, rows=None, *, ending="parquet", movies=None, users=None, **settings):
    """Write the tables that are given and configure their source."""
    given = {"interactions": write(folder / f"rows.{ending}", ROWS if rows is None else rows)}
    if movies is not None:
        given |= {
            "candidates": write(folder / "movies.parquet", movies),
            "candidate_columns": {"candidate_id": "movie"},
        }
    if users is not None:
        given |= {"queries": write(folder / "users.parquet", users), "query_columns": {"query_id": "user"}}
    settings = {"columns": MAPPED, **settings}
    return FilesSource(kind="files", data_dir=str(folder), **given, **settings)


def refused(source_, *words):
    with pytest.raises(UserError) as caught:
        load(source_, seed=0)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line
    return line


def changed(**columns):
    return ROWS | columns


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_same_rows_from_every_format(tmp_path, ending):
    raw = load(source(tmp_path, ending=ending, movies=MOVIES), seed=0)
    assert raw.interactions.column_names == ["query_id", "candidate_id", "time", "rating"]
    assert raw.interactions["query_id"].to_pylist() == ["1", "2", "1", "3"]
    assert raw.interactions["time"].to_pylist() == [100, 200, 300, 400]
    assert raw.interactions["rating"].type == pa.float32() and raw.has_timestamps and raw.notes == ()
    assert raw.candidates["genres"].to_pylist() == [["a", "b"], [], []]
    assert raw.candidates["title"].to_pylist() == ["Ten", "Eleven", None] and raw.queries is None


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([1, 2**40], pa.int64()), ["1", str(2**40)]),
        (pa.array([1.0, 3.0]), ["1", "3"]),
        (pa.array(["007", "x y"]), ["007", "x y"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    ],
)
def test_ids_of_any_type_become_strings(tmp_path, ids, expected):
    raw = load(source(tmp_path, {"user": ids, "movie": ids, "timestamp": [1, 2]}), seed=0)
    assert raw.interactions["query_id"].to_pylist() == expected == raw.interactions["candidate_id"].to_pylist()


def test_csv_ids_keep_leading_zeros_and_words_that_look_like_nothing(tmp_path):
    (tmp_path / "rows.csv").write_text("user,movie,timestamp\n007,NA,5\n+1,1e3,6\n")
    raw = load(FilesSource(kind="files", data_dir=str(tmp_path), interactions="rows.csv", columns=MAPPED), seed=0)
    assert raw.interactions["query_id"].to_pylist() == ["007", "+1"]
    assert raw.interactions["candidate_id"].to_pylist() == ["NA", "1e3"]


def test_csv_integers_that_pandas_wrote_as_floats_lose_the_point_zero(tmp_path):
    (tmp_path / "rows.csv").write_text("user,movie,timestamp\n1.0,1.0,5\n,2.5,6\n10.0,3.0,7\n")
    given = FilesSource(
        kind="files", data_dir=str(tmp_path), interactions="rows.csv", columns=MAPPED, on_bad_rows="drop"
    )
    raw = load(given, seed=0)
    assert raw.interactions["query_id"].to_pylist() == ["1", "10"]
    assert raw.interactions["candidate_id"].to_pylist() == ["1.0", "3.0"]


def test_compressed_csv_with_tabs_and_genres_as_text(tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"user,movie,timestamp\n1,a,5\n"))
    (tmp_path / "movies.tsv").write_text("movie\tgenres\na\tx|y\nb\t\n")
    raw = load(
        FilesSource(
            kind="files", data_dir=str(tmp_path), interactions="rows.csv.gz", columns=MAPPED,
            candidates="movies.tsv", candidate_columns={"candidate_id": "movie"},
        ),
        seed=0,
    )  # fmt: skip
    assert raw.candidates["genres"].to_pylist() == [["x", "y"], []] and raw.interactions.num_rows == 1


@pytest.mark.parametrize(
    "times",
    [
        pa.array([1, 60], pa.timestamp("s")),
        pa.array([1_000, 60_999], pa.timestamp("ms")),
        pa.array([1_000, 60_999], pa.timestamp("ms", "UTC")),
        pa.array([1.0, 60.7]),
        pa.array(["1", " 60 "]),
        pa.array(["1.2", "6e1"]),
    ],
)
def test_times_become_unix_seconds(tmp_path, times):
    raw = load(source(tmp_path, {"user": [1, 2], "movie": [1, 2], "timestamp": times}), seed=0)
    assert raw.interactions["time"].type == pa.int64() and raw.interactions["time"].to_pylist() == [1, 60]


def test_order_instead_of_timestamps_and_a_mapped_order_before_an_unmapped_timestamp(tmp_path):
    rows = changed(place=[-1, 0, 7, 10**12])
    raw = load(source(tmp_path, rows, columns=MAPPED | {"order": "place"}), seed=0)
    assert raw.interactions["time"].to_pylist() == [-1, 0, 7, 10**12] and not raw.has_timestamps
    assert "timestamp" in raw.interactions.column_names


def test_without_any_time_the_rows_are_in_file_order_and_the_note_says_so(tmp_path):
    raw = load(source(tmp_path, {"user": [5, 5], "movie": [1, 1]}), seed=0)
    assert raw.interactions["time"].to_pylist() == [0, 1] and not raw.has_timestamps and "no order" in raw.notes[0]


def test_flags_from_numbers_and_words(tmp_path):
    rows = "user,movie,timestamp,liked,shared\n1,1,1,true,0\n1,1,2,False,1\n"
    (tmp_path / "rows.csv").write_text(rows)
    raw = load(FilesSource(kind="files", data_dir=str(tmp_path), interactions="rows.csv", columns=MAPPED), seed=0)
    assert raw.interactions["liked"].to_pylist() == [True, False]
    assert raw.interactions["shared"].to_pylist() == [False, True]


def test_duplicate_interactions_are_allowed_and_inputs_are_not_written(tmp_path):
    given = source(tmp_path, pa.concat_tables([pa.table(ROWS)] * 2))
    before = (tmp_path / "rows.parquet").read_bytes()
    assert load(given, seed=0).interactions.num_rows == 8 and (tmp_path / "rows.parquet").read_bytes() == before


# ---------------------------------------------------------------- files that cannot be read


def test_a_missing_file_is_refused_and_its_neighbours_named(tmp_path):
    given = source(tmp_path)
    refused(given.model_copy(update={"interactions": "row.parquet"}), "no such file", "row.parquet", "rows.parquet")
    refused(given.model_copy(update={"data_dir": str(tmp_path / "no")}), "no such file", "data_dir")
    refused(given.model_copy(update={"candidates": "gone.csv"}), "no such file", "gone.csv")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_parquet_file_is_refused(tmp_path, kept):
    given = source(tmp_path)
    whole = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(whole[: int(kept * len(whole))])
    refused(given, "rows.parquet", "empty" if kept == 0 else "cannot read as parquet")


def test_other_unreadable_files_are_refused(tmp_path):
    given = source(tmp_path)
    (tmp_path / "rows.parquet").write_text("user,movie\n1,2\n")
    refused(given, "cannot read as parquet", "rows.parquet")
    (tmp_path / "rows.csv").write_bytes(b"user,movie\n\xff\xfe,2\n")
    refused(given.model_copy(update={"interactions": "rows.csv"}), "cannot read as csv", "UTF8")
    (tmp_path / "rows.xlsx").write_text("x")
    refused(given.model_copy(update={"interactions": "rows.xlsx"}), "the ending", ".jsonl")
    (tmp_path / "folder.csv").mkdir()
    refused(given.model_copy(update={"interactions": "folder.csv"}), "folder")
    (tmp_path / "rows.jsonl").write_text("[1, 2]\n3\n")
    refused(given.model_copy(update={"interactions": "rows.jsonl"}), "no line is a JSON object")


def test_files_without_rows_are_refused(tmp_path):
    refused(source(tmp_path, {name: pa.array([], pa.int64()) for name in ROWS}), "no rows", "rows.parquet")
    (tmp_path / "rows.csv").write_text("user,movie,timestamp\n")
    refused(FilesSource(kind="files", data_dir=str(tmp_path), interactions="rows.csv", columns=MAPPED), "no rows")


@pytest.mark.parametrize(
    ("ending", "text", "row"),
    [
        ("csv", "user,movie,timestamp\n1,1,1\n2,2\n3,3,3\n", "rows 1 "),
        ("jsonl", '{"user":1,"movie":1,"timestamp":1}\n{"user":2,\n{"user":3,"movie":3,"timestamp":3}\n', "rows 1 "),
    ],
)
def test_malformed_lines_are_refused_or_left_out(tmp_path, ending, text, row):
    (tmp_path / f"rows.{ending}").write_text(text)
    given = FilesSource(kind="files", data_dir=str(tmp_path), interactions=f"rows.{ending}", columns=MAPPED)
    refused(given, "malformed", row.strip(), "on_bad_rows=drop")
    raw = load(given.model_copy(update={"on_bad_rows": "drop"}), seed=0)
    assert raw.interactions["query_id"].to_pylist() == ["1", "3"] and "1 malformed" in raw.notes[0]


def test_a_missing_column_is_refused_and_the_nearest_named(tmp_path):
    refused(source(tmp_path, columns=MAPPED | {"rating": "ratings"}), "'ratings'", "'rating'", "source.columns.rating")
    refused(source(tmp_path, columns={}), "'query_id'", "user, movie, timestamp, rating")
    refused(source(tmp_path, movies={"film": [1]}), "'movie'", "'film'", "source.candidate_columns.candidate_id")
    refused(source(tmp_path, columns=MAPPED | {"timestamp": "time"}), "'time'", "'timestamp'")


def test_two_columns_of_one_name_are_refused(tmp_path):
    refused(source(tmp_path, changed(query_id=[1, 1, 1, 1])), "two columns", "'query_id'")
    refused(source(tmp_path, changed(time=[1, 1, 1, 1])), "two columns", "'time'")


# ---------------------------------------------------------------- rows that cannot be used

NOW_IN_MILLISECONDS = 1_700_000_000_000
BAD_ROWS = {
    "null query id": (changed(user=[1, None, 1, 3]), ("query_id is missing", "column user", "rows 1,")),
    "empty candidate id": (changed(movie=["10", "", "11", "12"]), ("candidate_id is missing", "column movie")),
    "fraction as id": (changed(user=[1.0, 2.5, 1.0, 3.0]), ("fraction", "column user")),
    "infinite id": (changed(user=[1.0, float("inf"), 1.0, 3.0]), ("not finite", "column user")),
    "negative timestamp": (changed(timestamp=[1, -5, 2, 3]), ("negative timestamp", "column timestamp")),
    "future timestamp": (changed(timestamp=[1, 9 * 10**9, 2, 3]), ("future", "9000000000", "not after today")),
    "milliseconds": (changed(timestamp=[1, NOW_IN_MILLISECONDS, 2, 3]), ("future", "milliseconds", "1,000")),
    "null timestamp": (changed(timestamp=[1, None, 2, 3]), ("timestamp is missing", "column timestamp")),
    "NaN timestamp": (changed(timestamp=[1, float("nan"), 2, 3]), ("timestamp is text or not a finite",)),
    "text timestamp": (changed(timestamp=["1", "soon", "2", "3"]), ("timestamp is text", "column timestamp")),
    "text rating": (changed(rating=["1", "good", "2", "3"]), ("rating is text", "column rating", "rows 1,")),
    "NaN rating": (changed(rating=[1, float("nan"), 2, 3]), ("rating is text, NaN or infinite",)),
    "infinite rating": (changed(rating=[1, float("-inf"), 2, 3]), ("NaN or infinite",)),
    "rating beyond float32": (changed(rating=[1, 1e300, 2, 3]), ("NaN or infinite",)),
    "null rating": (changed(rating=[1, None, 2, 3]), ("rating is missing",)),
    "text flag": (changed(liked=["true", "maybe", "false", "1"]), ("liked is text",)),
}


@pytest.mark.parametrize("name", BAD_ROWS)
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_bad_row_is_refused_with_its_place_or_dropped_with_a_note(tmp_path, name, ending):
    rows, words = BAD_ROWS[name]
    if ending == "jsonl" and any(w in name for w in ("NaN", "infinite")):
        pytest.skip("JSON has no such number")
    if ending == "csv" and name in ("fraction as id", "infinite id"):
        pytest.skip("an id of a CSV file is text")
    given = source(tmp_path, rows, ending=ending)
    if ending == "csv" and name == "NaN timestamp":
        words = ("timestamp is missing",)
    if ending == "csv" and name == "NaN rating":
        words = ("rating is missing",)
    refused(given, f"rows.{ending}", "rows 1,", "1 of 4 rows", "on_bad_rows=drop", *words)
    raw = load(given.model_copy(update={"on_bad_rows": "drop"}), seed=0)
    assert raw.interactions.num_rows == 3 and raw.interactions["query_id"].to_pylist() == ["1", "1", "3"]
    (note,) = raw.notes
    assert "dropped 1 of 4 rows" in note and all(word in note for word in words)


def test_order_must_be_whole_and_present(tmp_path):
    given = source(tmp_path, changed(place=[0, None, 1, 2]), columns=MAPPED | {"order": "place"})
    refused(given, "order is missing", "column place", "rows 1,")
    refused(
        source(tmp_path, changed(place=[0, 0.5, 1, 2]), columns=MAPPED | {"order": "place"}), "order is text or not"
    )


def test_a_mapped_column_must_be_finite_an_unmapped_one_is_left_alone(tmp_path):
    rows = changed(importance=[1.0, float("nan"), 1.0, 1.0])
    refused(source(tmp_path, rows, columns=MAPPED | {"weight": "importance"}), "weight", "column importance")
    assert np.isnan(load(source(tmp_path, rows), seed=0).interactions["importance"].to_pylist()[1])


def test_unknown_candidates_and_queries_are_refused_or_dropped(tmp_path):
    few = {"movie": [10, 11]}
    refused(
        source(tmp_path, movies=few),
        "candidate_id is in no row of its table",
        "rows.parquet",
        "column movie",
        "rows 3,",
    )
    refused(source(tmp_path, users={"user": [1, 2]}), "query_id is in no row of its table", "rows 3,")
    raw = load(source(tmp_path, movies=few, on_bad_rows="drop"), seed=0)
    assert raw.interactions["candidate_id"].to_pylist() == ["10", "10", "11"] and len(raw.notes) == 1


def test_duplicate_and_null_ids_in_the_tables_are_refused_or_the_first_kept(tmp_path):
    twice = {"movie": [10, 11, 12, 10], "title": ["a", "b", "c", "d"]}
    refused(source(tmp_path, movies=twice), "duplicate candidate_id", "movies.parquet", "column movie", "rows 3,")
    raw = load(source(tmp_path, movies=twice, on_bad_rows="drop"), seed=0)
    assert raw.candidates["title"].to_pylist() == ["a", "b", "c"]
    refused(source(tmp_path, users={"user": [1, 2, 3, 3]}), "duplicate query_id", "users.parquet")
    refused(source(tmp_path, movies={"movie": [10, 11, 12, None]}), "candidate_id is missing", "movies.parquet")


def test_several_reasons_are_counted_once_each_and_rows_by_the_file(tmp_path):
    rows = {"user": [None, 1, None, 2], "movie": [1, None, 2, 3], "timestamp": [-1, 5, 5, -2]}
    raw = load(
        source(tmp_path, rows | {"user": ["", "1", "", "2"], "movie": ["1", "2", "3", "4"]}, on_bad_rows="drop"), seed=0
    )
    assert [note.split(" rows: ")[0].split(": ")[1] for note in raw.notes] == ["dropped 2 of 4", "dropped 1 of 4"]
    assert "rows 0, 2," in raw.notes[0] and "rows 3," in raw.notes[1]


def test_nothing_left_is_refused_with_the_reason(tmp_path):
    rows = changed(timestamp=[NOW_IN_MILLISECONDS + n for n in range(4)])
    refused(source(tmp_path, rows, on_bad_rows="drop"), "every row was dropped", "milliseconds")


def test_impossible_types_are_refused(tmp_path):
    refused(source(tmp_path, changed(user=[[1], [2], [3], [4]])), "id cannot be of type list", "column user")
    refused(source(tmp_path, changed(rating=[[1.0], [2.0], [3.0], [4.0]])), "a number was expected", "column rating")
    refused(source(tmp_path, movies={"movie": [10, 11, 12], "genres": [1, 2, 3]}), "genres cannot be", "column genres")


# ---------------------------------------------------------------- real data


def real(folder, interactions, columns, **settings):
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"no {path}; set TWO_TOWER_SHARED")
    return FilesSource(kind="files", data_dir=str(path), interactions=interactions, columns=columns, **settings)


def test_movietweetings():
    given = real(
        "movietweetings-100k", "ratings.parquet", {"query_id": "user_id", "candidate_id": "movie_id"},
        candidates="movies.parquet", candidate_columns={"candidate_id": "movie_id"},
    )  # fmt: skip
    raw = load(given, seed=0)
    assert raw.interactions.num_rows == 100_000 and raw.candidates.num_rows == 10_506 and raw.has_timestamps
    assert len(set(raw.interactions["query_id"].to_pylist())) == 16_554
    assert raw.candidates["genres"].type == pa.list_(pa.string()) and raw.notes == ()


def test_movielens_100k_as_files():
    given = real(
        "ml-100k", "ratings.parquet", {"query_id": "user_id", "candidate_id": "item_id"},
        candidates="items.parquet", candidate_columns={"candidate_id": "item_id"},
        queries="users.parquet", query_columns={"query_id": "user_id"},
    )  # fmt: skip
    raw = load(given, seed=0)
    assert (raw.interactions.num_rows, raw.queries.num_rows, raw.candidates.num_rows) == (100_000, 943, 1_682)


def test_amazon_beauty_has_an_order_only():
    raw = load(
        real(
            "amazon-beauty",
            "interactions.parquet",
            {"query_id": "user_id", "candidate_id": "item_id", "order": "position"},
        ),
        seed=0,
    )
    assert (
        raw.interactions.num_rows == 198_502
        and not raw.has_timestamps
        and raw.interactions["time"].to_pylist()[:2] == [0, 1]
    )


def test_movielens_1m_has_rows_without_a_position():
    columns = {"query_id": "user_id", "candidate_id": "movie_id", "order": "position"}
    given = real("ml-1m", "interactions.parquet", columns)
    refused(given, "order is missing", "column position", "598 of 1,000,209 rows")
    raw = load(given.model_copy(update={"on_bad_rows": "drop"}), seed=0)
    assert raw.interactions.num_rows == 999_611 and "dropped 598 of 1,000,209" in raw.notes[0]


def test_gowalla_has_no_time_at_all():
    raw = load(real("gowalla", "test.parquet", {"query_id": "user_id", "candidate_id": "item_id"}), seed=0)
    assert raw.interactions.num_rows == 217_242 and not raw.has_timestamps and len(raw.notes) == 1

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_contract.config import MovieLensSource
from retrieval_contract.data.sources import load, movielens, prepared
from retrieval_contract.errors import UserError

SHARED = Path(os.environ.get("TWO_TOWER_SHARED", "../shared"))
GENRES = ["Action", "Comedy", "Drama"]
OCCUPATIONS = ["artist", "doctor/health care"]
RATING = {
    "user_id": b"7", "movie_id": b"10", "user_rating": 4.5, "timestamp": 900_000_000, "movie_title": b"Ten",
    "movie_genres": [2, 0], "user_gender": 1, "bucketized_user_age": 25.0, "user_occupation_label": 1,
    "user_zip_code": b"0123", "raw_user_age": 31.0,
}  # fmt: skip
RATINGS = [
    RATING,
    RATING | {"movie_id": b"9", "movie_title": b"Caf\xc3\xa9", "movie_genres": [], "user_rating": 1.0},
    RATING | {"user_id": b"12", "user_gender": 0, "bucketized_user_age": 56.0, "user_occupation_label": 0},
]
MOVIES = [{"movie_id": name, "movie_title": b"M", "movie_genres": [1]} for name in (b"11", b"9", b"10")]


def serialized(example):
    from tensorflow_datasets.proto import tf_example_pb2

    proto = tf_example_pb2.Example()
    for name, value in example.items():
        values = value if isinstance(value, list) else [value]
        feature = proto.features.feature[name]
        whole = not values or isinstance(values[0], int)
        kind = (
            feature.int64_list if whole else feature.bytes_list if isinstance(values[0], bytes) else feature.float_list
        )
        kind.value.extend(values)
    return proto.SerializeToString()


def write_shard(path, records, file_format):
    if file_format == "parquet":
        pq.write_table(pa.table({"data": pa.array(records, pa.binary())}), path)
    elif file_format == "tfrecord":
        path.write_bytes(b"".join(struct.pack("<QI", len(r), 0) + r + b"\0\0\0\0" for r in records))
    else:
        from array_record.python import array_record_module

        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()


def write_prepared(data_dir, config, examples, file_format="parquet", *, genres=GENRES, occupations=OCCUPATIONS):
    """Lay a folder out as TFDS does, two shards; its own parquet writer loses records, so it cannot make this."""
    folder = data_dir / "movielens" / config / "0.1.1"
    folder.mkdir(parents=True)
    records = [serialized(example) for example in examples]
    shards = [records[: len(records) // 2], records[len(records) // 2 :]]
    for number, shard in enumerate(shards):
        write_shard(folder / f"movielens-train.{file_format}-{number:05d}-of-00002", shard, file_format)
    split = {"name": "train", "shardLengths": [str(len(shard)) for shard in shards]}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {"name": "movielens", "fileFormat": file_format, "splits": [split], "version": "0.1.1"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "movie_genres.labels.txt").write_text("\n".join(genres) + "\n")
    (folder / "user_occupation_label.labels.txt").write_text("\n".join(occupations) + "\n")
    return folder


def source(data_dir, variant="100k", **settings):
    return MovieLensSource(kind="movielens", variant=variant, data_dir=str(data_dir), **settings)


def refused(source_, *words):
    with pytest.raises(UserError) as caught:
        load(source_, seed=0)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


@pytest.mark.parametrize("file_format", ["parquet", "array_record", "tfrecord"])
def test_every_format_that_tfds_prepares_is_read(tmp_path, file_format):
    write_prepared(tmp_path, "100k-ratings", RATINGS, file_format)
    raw = load(source(tmp_path), seed=0)
    assert raw.interactions.to_pylist()[1] == {
        "query_id": "7", "candidate_id": "9", "time": 900_000_000, "rating": 1.0
    }  # fmt: skip
    assert raw.queries.to_pylist() == [
        {
            "query_id": "7",
            "gender": "M",
            "age": "25-34",
            "occupation": "doctor/health care",
            "zip": "0123",
            "raw_age": 31.0,
        },
        {"query_id": "12", "gender": "F", "age": "56+", "occupation": "artist", "zip": "0123", "raw_age": 31.0},
    ]
    assert raw.candidates.to_pylist() == [
        {"candidate_id": "9", "title": "Café", "genres": []},
        {"candidate_id": "10", "title": "Ten", "genres": ["Drama", "Action"]},
    ]
    assert raw.has_timestamps and raw.truth is None and raw.notes == ()


def test_chunks_do_not_show(tmp_path, monkeypatch):
    write_prepared(tmp_path, "100k-ratings", RATINGS, "array_record")
    whole = load(source(tmp_path), seed=0)
    monkeypatch.setattr(prepared, "CHUNK", 1)
    in_pieces = load(source(tmp_path), seed=0)
    assert in_pieces.interactions.equals(whole.interactions) and in_pieces.queries.equals(whole.queries)


def test_the_catalogue_is_all_movies_where_they_are_prepared(tmp_path):
    write_prepared(tmp_path, "100k-ratings", RATINGS)
    write_prepared(tmp_path, "100k-movies", MOVIES)
    assert load(source(tmp_path), seed=0).candidates["candidate_id"].to_pylist() == ["9", "10", "11"]


def test_a_release_without_demographics_has_no_query_table(tmp_path):
    plain = [{n: v for n, v in row.items() if "user" not in n or n in ("user_id", "user_rating")} for row in RATINGS]
    write_prepared(tmp_path, "20m-ratings", plain)
    assert load(source(tmp_path, "20m"), seed=0).queries is None


def test_a_rated_movie_outside_the_catalogue_is_refused_or_dropped(tmp_path):
    write_prepared(tmp_path, "100k-ratings", RATINGS)
    write_prepared(tmp_path, "100k-movies", MOVIES[:2])
    refused(source(tmp_path), "candidate_id is in no row", "column movie_id", "rows 0, 2,")
    raw = load(source(tmp_path, on_bad_rows="drop"), seed=0)
    assert raw.interactions.num_rows == 1 and "dropped 2 of 3" in raw.notes[0]


# ---------------------------------------------------------------- what is damaged, incomplete or not there


@pytest.mark.parametrize("file_format", ["parquet", "array_record", "tfrecord"])
def test_a_shard_with_fewer_records_than_noted_is_refused(tmp_path, file_format):
    folder = write_prepared(tmp_path, "100k-ratings", RATINGS, file_format)
    shard = next(folder.glob("*-00001-of-00002"))
    write_shard(shard, [serialized(RATING)], file_format)
    refused(source(tmp_path, on_bad_rows="drop"), "holds 1 records where dataset_info.json says 2", shard.name)


@pytest.mark.parametrize("file_format", ["parquet", "array_record", "tfrecord"])
def test_a_truncated_or_missing_shard_is_refused(tmp_path, file_format):
    folder = write_prepared(tmp_path, "100k-ratings", RATINGS, file_format)
    shard = next(folder.glob("*-00001-of-00002"))
    shard.write_bytes(shard.read_bytes()[:-9])
    refused(source(tmp_path), shard.name, "prepare")
    shard.unlink()
    refused(source(tmp_path), shard.name, "missing")


def test_damaged_notes_and_unknown_formats_are_refused(tmp_path):
    folder = write_prepared(tmp_path, "100k-ratings", RATINGS)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "riegeli"}))
    refused(source(tmp_path), "'riegeli' cannot be read")
    (folder / "dataset_info.json").write_text("{")
    refused(source(tmp_path), "cannot read dataset_info.json")


def no_network(*args, **kwargs):
    raise OSError("Name or service not known")


def test_nothing_prepared_and_no_network_is_one_line_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    place = tmp_path / "not yet"
    refused(source(place), "no prepared MovieLens here", "not known", "source.data_dir", "source.download_dir", "100k")
    assert not place.exists()


# ---------------------------------------------------------------- real data

WITHOUT_TENSORFLOW = """
import importlib.machinery, sys
real = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in ("tensorflow", "tf_keras", "keras") else real(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
try:
    import tensorflow
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("TensorFlow is still there")
"""
LOAD = """
import sys
from retrieval_contract.config import MovieLensSource
from retrieval_contract.data.sources import load
source = MovieLensSource(kind="movielens", variant="latest-small", data_dir=sys.argv[1], download_dir=sys.argv[2])
raw = load(source, seed=0)
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules), "TensorFlow came in"
print(raw.interactions.num_rows, raw.candidates.num_rows, raw.queries)
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def latest_small(tmp_path_factory):
    """latest-small by TFDS's own download path, from its cache, where TensorFlow is not installed."""
    cache = SHARED / "tfds_downloads"
    if not cache.is_dir():
        pytest.skip(f"no {cache}; set TWO_TOWER_SHARED")
    folder = tmp_path_factory.mktemp("latest-small")
    shutil.copytree(cache, folder / "cache")
    before = {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*")}
    assert run(WITHOUT_TENSORFLOW + LOAD, folder / "data", folder / "cache") == "100836 9742 None\n"
    assert {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*")} == before
    return folder


def test_latest_small_is_what_the_archive_holds(latest_small):
    raw = load(source(latest_small / "data", "latest-small"), seed=0)
    assert len(set(raw.interactions["query_id"].to_pylist())) == 610
    first = raw.candidates.slice(0, 1).to_pylist()[0]
    assert first["title"] == "Toy Story (1995)" and "Children" in first["genres"]
    triples = zip(
        *(raw.interactions[n].to_pylist() for n in ("query_id", "candidate_id", "rating", "time")), strict=True
    )
    text = "".join(sorted(f"{user},{movie},{rating},{time}\n" for user, movie, rating, time in triples))
    archive = next((latest_small / "cache").rglob("*.zip"))
    rows = zipfile.ZipFile(archive).read("ml-latest-small/ratings.csv").decode().splitlines()[1:]
    assert text == "".join(sorted(f"{row}\n" for row in rows))
    assert not list((latest_small / "data").glob(".extracted*"))


def test_our_reader_equals_tfds_own(latest_small):
    import tensorflow_datasets as tfds

    builder = tfds.builder("movielens/latest-small-movies", data_dir=latest_small / "data", file_format="array_record")
    names = builder.info.features["movie_genres"].feature.names
    theirs = list(builder.as_data_source(split="train"))
    ours = {
        row["candidate_id"]: row
        for row in load(source(latest_small / "data", "latest-small"), seed=0).candidates.to_pylist()
    }
    assert len(ours) == len(theirs)
    for row in theirs:
        expected = (row["movie_title"].decode(), [names[label] for label in row["movie_genres"]])
        mine = ours[row["movie_id"].decode()]
        assert (mine["title"], mine["genres"]) == expected


def real_100k():
    folder = SHARED / "data" / "ml-100k"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set TWO_TOWER_SHARED")
    return [pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("ratings", "users", "items")]


def test_all_of_movielens_100k_from_a_prepared_folder(tmp_path):
    ratings, users, items = real_100k()
    genres = sorted({name for item in items for name in item["genres"]})
    occupations = sorted({user["occupation"] for user in users})
    movie_of = {
        item["item_id"]: {
            "movie_id": str(item["item_id"]).encode(),
            "movie_title": item["title"].encode(),
            "movie_genres": [genres.index(name) for name in item["genres"]],
        }
        for item in items
    }
    user_of = {
        user["user_id"]: {
            "user_id": str(user["user_id"]).encode(),
            "user_gender": int(user["gender"] == "M"),
            "bucketized_user_age": 25.0,
            "raw_user_age": float(user["age"]),
            "user_occupation_label": occupations.index(user["occupation"]),
            "user_zip_code": user["zip"].encode(),
        }
        for user in users
    }
    rows = [
        movie_of[r["item_id"]]
        | user_of[r["user_id"]]
        | {"user_rating": float(r["rating"]), "timestamp": r["timestamp"]}
        for r in ratings
    ]
    write_prepared(tmp_path, "100k-ratings", rows, genres=genres, occupations=occupations)
    raw = load(source(tmp_path), seed=0)
    assert (raw.interactions.num_rows, raw.queries.num_rows, raw.candidates.num_rows) == (100_000, 943, 1_682)
    assert raw.interactions["time"].to_pylist() == [row["timestamp"] for row in ratings]
    assert raw.queries["occupation"].to_pylist() == [user["occupation"] for user in users]
    assert [set(names) for names in raw.candidates["genres"].to_pylist()] == [set(item["genres"]) for item in items]


def shared_prepared():
    if not (SHARED / "tfds" / "movielens" / "100k-ratings").is_dir():
        pytest.skip(f"no {SHARED / 'tfds'}; set TWO_TOWER_SHARED")
    return SHARED / "tfds"


def test_the_shared_prepared_folder_is_whole_or_refused():
    """TFDS 4.9.10 kept 4,400 of 100,000 ratings when it wrote this folder; 4,400 must never pass for MovieLens 100K."""
    data_dir = shared_prepared()
    shard = next((data_dir / "movielens" / "100k-ratings").rglob("*.parquet-*"))
    if pq.read_metadata(shard).num_rows == 100_000:
        raw = load(source(data_dir), seed=0)
        assert (raw.interactions.num_rows, raw.queries.num_rows, raw.candidates.num_rows) == (100_000, 943, 1_682)
    else:
        refused(source(data_dir), "100,000", "TFDS 4.9.10", "source.kind=files")


def test_records_that_tfds_wrote_decode_to_the_published_rows(monkeypatch):
    data_dir = shared_prepared()
    ratings, users, items = real_100k()
    monkeypatch.setattr(prepared, "_require_all", lambda shard, found: None)
    folder = prepared.find_prepared(data_dir, "movielens", "100k-ratings")
    table, user_table, movie_table = movielens._read_ratings(folder)
    known = {(str(r["user_id"]), str(r["item_id"]), float(r["rating"]), r["timestamp"]) for r in ratings}
    found = zip(*(table[n].to_pylist() for n in ("query_id", "candidate_id", "rating", "time")), strict=True)
    assert set(found) <= known
    user_of = {str(user["user_id"]): user for user in users}
    labels: dict[str, set[str]] = {}
    for row in user_table.to_pylist():
        user = user_of[row["query_id"]]
        assert (row["gender"], row["raw_age"], row["zip"]) == (user["gender"], user["age"], user["zip"])
        labels.setdefault(user["occupation"], set()).add(row["occupation"])
    assert labels["doctor"] == {"doctor/health care"} and labels["librarian"] == {"librarian"}
    assert all(len(names) == 1 for names in labels.values())
    item_of = {str(item["item_id"]): item for item in items}
    for row in movie_table.to_pylist():
        assert row["title"] == item_of[row["candidate_id"]]["title"]


def test_importing_the_source_brings_in_neither_tfds_nor_tensorflow():
    code = "import sys, retrieval_contract.data.sources.movielens; print([n for n in sys.modules if 'tensorflow' in n])"
    assert run(code) == "[]\n"

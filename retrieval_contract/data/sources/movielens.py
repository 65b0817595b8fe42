"""The source `movielens`: MovieLens as TensorFlow Datasets prepares it, read and prepared without TensorFlow."""

import contextlib
import importlib
import json
import os
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_contract.config import MovieLensSource
from retrieval_contract.data.sources.checks import OnBadRows, checked_entities, checked_interactions
from retrieval_contract.data.sources.prepared import Feature, feature_chunks, find_prepared, read_labels
from retrieval_contract.data.sources.raw import CANDIDATE_ID, QUERY_ID, TIME, RawData
from retrieval_contract.errors import UserError

NAME = "movielens"
HOST = "files.grouplens.org"
AGES = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
"""TFDS's `bucketized_user_age` -> what it means, by TFDS's documentation."""
FILE_NAMES = {QUERY_ID: "user_id", CANDIDATE_ID: "movie_id", TIME: "timestamp", "rating": "user_rating"}


def load(source: MovieLensSource) -> RawData:
    """Read a prepared release; where `data_dir` holds none, let TFDS download and prepare it there first.

    Queries have `gender` (M, F), `age` (a bucket), `occupation` and `zip` in 100k and 1m, `raw_age` (years) in 100k,
    and no table in the others. The catalogue is the release's movies where their configuration is prepared too, else
    the movies of the ratings. Both tables are sorted by id as a number; interactions keep TFDS's order.

    Raises:
        UserError: nothing is prepared and TFDS cannot prepare it, what is prepared is damaged or incomplete, bad rows.
    """
    data_dir = Path(source.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    folder = find_prepared(data_dir, NAME, f"{source.variant}-ratings")
    if folder is None:
        _prepare(source, data_dir)
        folder = find_prepared(data_dir, NAME, f"{source.variant}-ratings")
        assert folder is not None
    ratings, users, rated_movies = _read_ratings(folder)
    movies_folder = find_prepared(data_dir, NAME, f"{source.variant}-movies")
    movies, where = (rated_movies, folder) if movies_folder is None else (_read_movies(movies_folder), movies_folder)
    return _checked(ratings, users, movies, str(folder), str(where), source.on_bad_rows)


def _checked(
    ratings: pa.Table, users: pa.Table | None, movies: pa.Table, where: str, movies_where: str, on_bad_rows: OnBadRows
) -> RawData:
    candidates, notes = checked_entities(
        movies, id_name=CANDIDATE_ID, file_id_name="movie_id", where=movies_where, on_bad_rows=on_bad_rows
    )
    interactions, dropped = checked_interactions(
        ratings,
        time_kind="timestamp",
        file_names=FILE_NAMES,
        where=where,
        on_bad_rows=on_bad_rows,
        queries=users,
        candidates=candidates,
    )
    return RawData(
        interactions=interactions,
        queries=users,
        candidates=candidates,
        truth=None,
        has_timestamps=True,
        notes=(*notes, *dropped),
    )


# ---------------------------------------------------------------- reading what is prepared


class _Firsts:
    """The first example of each id, over chunks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.examples: dict[bytes, Feature] = {}

    def add(self, ids: Sequence[bytes], chunk: Sequence[Feature]) -> None:
        distinct, first = np.unique(np.array(ids, object), return_index=True)
        for name, place in zip(distinct, first, strict=True):
            self.examples.setdefault(name, chunk[place])

    def sorted(self) -> list[Feature]:
        return [example for _, example in sorted(self.examples.items(), key=lambda item: (len(item[0]), item[0]))]


def _read_ratings(folder: Path) -> tuple[pa.Table, pa.Table | None, pa.Table]:
    users, movies = _Firsts("user_id"), _Firsts("movie_id")
    tables: list[pa.Table] = []
    for chunk in feature_chunks(folder):
        user_ids, movie_ids = _bytes(chunk, "user_id"), _bytes(chunk, "movie_id")
        users.add(user_ids, chunk)
        movies.add(movie_ids, chunk)
        columns = {
            QUERY_ID: pa.array(user_ids).cast(pa.string()),
            CANDIDATE_ID: pa.array(movie_ids).cast(pa.string()),
            TIME: pa.array(_integers(chunk, "timestamp"), pa.int64()),
            "rating": pa.array(_floats(chunk, "user_rating"), pa.float32()),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables), _user_table(users.sorted(), folder), _movie_table(movies.sorted(), folder)


def _read_movies(folder: Path) -> pa.Table:
    movies = [example for chunk in feature_chunks(folder) for example in chunk]
    ids = _bytes(movies, "movie_id")
    order = sorted(range(len(ids)), key=lambda place: (len(ids[place]), ids[place]))
    return _movie_table([movies[place] for place in order], folder)


def _movie_table(movies: Sequence[Feature], folder: Path) -> pa.Table:
    names = np.array(read_labels(folder, "movie_genres"), object)
    genres = [names[list(movie["movie_genres"].int64_list.value)].tolist() for movie in movies]
    return pa.table(
        {
            CANDIDATE_ID: _strings(movies, "movie_id"),
            "title": _strings(movies, "movie_title"),
            "genres": pa.array(genres, pa.list_(pa.string())),
        }
    )


def _user_table(users: Sequence[Feature], folder: Path) -> pa.Table | None:
    if not users or "user_gender" not in users[0]:
        return None
    occupations = np.array(read_labels(folder, "user_occupation_label"), object)
    columns = {
        QUERY_ID: _strings(users, "user_id"),
        "gender": pa.array(["M" if male else "F" for male in _integers(users, "user_gender")]),
        "age": pa.array([AGES.get(int(age), "unknown") for age in _floats(users, "bucketized_user_age")]),
        "occupation": pa.array(occupations[_integers(users, "user_occupation_label")].tolist()),
        "zip": _strings(users, "user_zip_code"),
    }
    if "raw_user_age" in users[0]:
        columns["raw_age"] = pa.array(_floats(users, "raw_user_age"), pa.float32())
    return pa.table(columns)


def _bytes(chunk: Sequence[Feature], name: str) -> list[bytes]:
    return [example[name].bytes_list.value[0] for example in chunk]


def _strings(chunk: Sequence[Feature], name: str) -> pa.Array:
    return pa.array(_bytes(chunk, name)).cast(pa.string())


def _integers(chunk: Sequence[Feature], name: str) -> list[int]:
    return [example[name].int64_list.value[0] for example in chunk]


def _floats(chunk: Sequence[Feature], name: str) -> list[float]:
    return [example[name].float_list.value[0] for example in chunk]


# ---------------------------------------------------------------- preparing


def _prepare(source: MovieLensSource, data_dir: Path) -> None:
    """Let TFDS download (or find in its cache), check and prepare the ratings and the movies of the release.

    Written as ArrayRecord: TFRecord needs TensorFlow, and TFDS 4.9.10 loses records when it writes Parquet. The archive
    is unpacked beside the data, so that a download cache that already holds it is only read.
    """
    where = f"{data_dir}, MovieLens {source.variant}"
    try:
        if not _is_cached(Path(source.download_dir or data_dir / "downloads"), f"ml-{source.variant}.zip"):
            _require_network()
        data_dir.mkdir(parents=True, exist_ok=True)
        with (
            _plain_files(),
            # TFDS announces itself on stdout, which belongs to the verbs' answers.
            contextlib.redirect_stdout(sys.stderr),
            tempfile.TemporaryDirectory(dir=data_dir, prefix=".extracted.") as extracted,
        ):
            for table in ("ratings", "movies"):
                _download_and_prepare(f"{NAME}/{source.variant}-{table}", data_dir, source.download_dir, extracted)
    # TFDS and what it calls raise errors of every kind; whichever it was, nothing half-prepared stays behind.
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:300]
        raise UserError(
            f"no prepared MovieLens here, and it cannot be downloaded and prepared: {reason}",
            where=where,
            todo=f"set source.data_dir to a folder that holds {NAME}/{source.variant}-ratings, or source.download_dir "
            f"to a TFDS download cache that holds the archive, or run where the network reaches {HOST}",
        ) from error


def _is_cached(download_dir: Path, archive: str) -> bool:
    """True where TFDS's cache holds the archive; TFDS notes beside each download what it was called."""
    notes = list(download_dir.glob("**/*.INFO"))
    return any(json.loads(note.read_text(encoding="utf-8")).get("original_fname") == archive for note in notes)


def _require_network() -> None:
    """Fail at once where TFDS would try for minutes; behind a proxy only TFDS can tell."""
    if not urllib.request.getproxies():
        socket.create_connection((HOST, 443), timeout=10).close()


def _download_and_prepare(name: str, data_dir: Path, download_dir: str, extracted: str) -> None:
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(
        download_dir=download_dir or None,
        download_config=tfds.download.DownloadConfig(extract_dir=extracted),
    )


@contextlib.contextmanager
def _plain_files() -> Iterator[None]:
    """TFDS opens archives and MovieLens's files with `tf.io.gfile`; local files need no TensorFlow.

    For the time being its three users of TensorFlow get a stand-in of the two functions that they call, so that the
    PyTorch stack can prepare a dataset where TensorFlow is not installed, and does not load it where it is.
    """
    stand_in = SimpleNamespace(
        io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)), compat=SimpleNamespace(as_text=os.fsdecode)
    )
    places: list[tuple[str, str, Any]] = [
        ("tensorflow_datasets.core.download.extractor", "tf", stand_in),
        ("tensorflow_datasets.structured.movielens_parsing", "tf", stand_in),
        ("etils.epath.gpath", "_is_tf_installed", lambda: False),
    ]
    modules = [(importlib.import_module(module), name, value) for module, name, value in places]
    before = [getattr(module, name) for module, name, _ in modules]
    try:
        for module, name, value in modules:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(modules, before, strict=True):
            setattr(module, name, value)

"""Every query's results in one file: what is in it, and that an interruption leaves no trace."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.runs import bulk
from retrieval_contract.runs.bulk import Bulk, write_all
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir

FRESH = {"resume": False, "overwrite": False}
_KILLED = """
import sys, time
from pathlib import Path
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.runs import bulk, bulk_test
bulk.PART_QUERIES = 3
search = ExactIndex.search
ExactIndex.search = lambda *given, **named: (time.sleep(0.05), search(*given, **named))[1]
bulk.write_all(bulk_test.asked(Path(sys.argv[1])), Path(sys.argv[2]), resume=False, overwrite=False)
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "w"
    train_run(PlantedStack(), planted_run(), Workdir(folder), resume=False, overwrite=False)
    return folder


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(bulk, "PART_QUERIES", 3)


def asked(workdir, **changes):
    opened = open_run(PlantedStack(), planted_run(), Workdir(workdir))
    index = ExactIndex.build(opened.candidate_vectors(), opened.config.index)
    return Bulk(**{"opened": opened, "index": index, "index_name": "exact", "k": 7, "exclude_seen": True, **changes})


def test_the_file_holds_what_single_searches_find(workdir, tmp_path, small_parts):
    job = asked(workdir)
    written = write_all(job, tmp_path / "out.parquet", **FRESH)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names[:4] == ["query_id", "rank", "candidate_id", "score"]
    assert (written.num_queries, written.num_results, written.num_silent) == (40, 280, 0) == (40, len(table), 0)
    prepared = job.opened.prepared
    assert table["query_id"].to_pylist() == np.repeat(prepared.queries.ids, 7).tolist()
    assert table["rank"].to_pylist() == list(range(1, 8)) * 40
    for place in (0, 2, 3, 39):
        rows = np.array([place], np.int32)
        top = job.index.search(
            job.opened.query_vectors(rows),
            7,
            weights_digest=job.opened.weights_digest,
            excluded=[prepared.seen()[place].indices],
        )
        lines = table.slice(7 * place, 7)
        assert lines["candidate_id"].to_pylist() == [job.index.ids[row] for row in top.rows[0]]
        assert lines["score"].to_pylist() == top.scores[0].tolist()
        if prepared.titles:
            assert lines["title"].to_pylist() == [prepared.titles[row] for row in top.rows[0]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet"]


def test_fewer_than_k_are_left_where_seen_ones_are_out(workdir, tmp_path):
    job = asked(workdir, k=50)
    write_all(job, tmp_path / "out.parquet", **FRESH)
    table = pq.read_table(tmp_path / "out.parquet")
    counts = {row["values"]: row["counts"] for row in table["query_id"].value_counts().to_pylist()}
    seen_Q = np.diff(job.opened.prepared.seen().indptr)
    assert [counts[id_] for id_ in job.opened.prepared.queries.ids] == (50 - seen_Q).tolist()


def test_a_query_of_which_nothing_is_known_is_left_out(workdir, tmp_path, monkeypatch):
    job = asked(workdir)
    encode = job.opened.encoders.encode_queries

    def first_is_zero(features):
        vectors = encode(features).copy()
        vectors[0] = 0
        return vectors

    monkeypatch.setattr(job.opened.encoders, "encode_queries", first_is_zero)
    written = write_all(job, tmp_path / "out.parquet", **FRESH)
    assert (written.num_queries, written.num_silent) == (39, 1)
    assert job.opened.prepared.queries.ids[0] not in pq.read_table(tmp_path / "out.parquet")["query_id"].to_pylist()


def test_killed_and_resumed_it_leaves_the_same_bytes(workdir, tmp_path, small_parts):
    write_all(asked(workdir), tmp_path / "whole.parquet", **FRESH)
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.partial"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(workdir), str(out)], cwd=Path(__file__).parents[2])
    while len(list(parts.glob("part-*.parquet"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*.parquet")}
    assert 2 <= len(before) < 14
    kept = []
    real = bulk._results
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "_results", lambda job, rows: (kept.append(len(rows)), real(job, rows))[1])
        write_all(asked(workdir), out, resume=True, overwrite=False)
    assert len(kept) == 14 - len(before), "parts that were there are not made again"
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not parts.exists()


def test_what_an_interrupted_run_left_is_not_mixed_with_another(workdir, tmp_path, monkeypatch, small_parts):
    out = tmp_path / "out.parquet"
    real = bulk._results

    def broken(job, rows):
        if rows[0] > 5:
            raise KeyboardInterrupt
        return real(job, rows)

    with pytest.raises(UserError, match=r"nothing to resume.*run without --resume"):
        write_all(asked(workdir), out, resume=True, overwrite=False)
    monkeypatch.setattr(bulk, "_results", broken)
    with pytest.raises(KeyboardInterrupt):
        write_all(asked(workdir), out, **FRESH)
    monkeypatch.setattr(bulk, "_results", real)
    with pytest.raises(UserError, match=r"interrupted run left parts.*--overwrite.*--resume"):
        write_all(asked(workdir), out, **FRESH)
    for changes, name in (({"k": 8}, "k"), ({"exclude_seen": False}, "exclude_seen"), ({"index_name": "x"}, "index")):
        with pytest.raises(UserError, match=f"was another: {name} differ"):
            write_all(asked(workdir, **changes), out, resume=True, overwrite=False)
    write_all(asked(workdir, k=8), out, resume=False, overwrite=True)
    assert len(pq.read_table(out)) == 8 * 40


def test_a_file_that_is_there_is_kept_unless_told(workdir, tmp_path):
    out = tmp_path / "out.parquet"
    out.write_bytes(b"precious")
    with pytest.raises(UserError, match=r"the file exists.*--overwrite to begin anew, or another --out"):
        write_all(asked(workdir), out, **FRESH)
    assert out.read_bytes() == b"precious"
    with pytest.raises(UserError, match="k is 51"):
        write_all(asked(workdir, k=51), out, resume=False, overwrite=True)
    assert out.read_bytes() == b"precious" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError, match="both given"):
        write_all(asked(workdir), out, resume=True, overwrite=True)
    with pytest.raises(UserError, match="--out is a folder"):
        write_all(asked(workdir), tmp_path, resume=False, overwrite=True)
    write_all(asked(workdir), out, resume=False, overwrite=True)
    assert len(pq.read_table(out)) == 7 * 40

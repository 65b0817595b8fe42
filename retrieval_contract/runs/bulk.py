"""The best candidates of every query, in one Parquet file that is written in parts and can be gone on with.

FILE.partial/plan.json                what is being written; parts of another plan are never mixed with these
FILE.partial/part-00000.parquet …     results of as many queries each, whole or absent
FILE                                  all parts, put in place by one rename; the folder of parts is removed behind it

The bytes do not depend on where the work was interrupted.

Letters: Q queries, B of a part, K results.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_contract.arrays import Float32Array, Int32Array
from retrieval_contract.errors import UserError
from retrieval_contract.files import replacing_file, write_text
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.runs.progress import Progress

PART_QUERIES = 4_096
"""Queries of a part, at most."""
PART_RESULTS = 1_000_000
"""Results of a part, at most, unless one query has more."""
PLAN = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """What is asked for of every query."""

    opened: OpenedRun
    index: Index
    index_name: str
    """What the index is, to the byte: a part found by another is not gone on with."""
    k: int
    """Results a query, K."""
    exclude_seen: bool
    """Leave out what a query met in training."""

    @property
    def part_queries(self) -> int:
        """Queries of a part: a matter of K alone, so that a resumed run cuts in the same places."""
        return max(1, min(PART_QUERIES, PART_RESULTS // self.k))

    @property
    def num_queries(self) -> int:
        """Queries Q."""
        return len(self.opened.prepared.queries.ids)

    def plan(self) -> dict[str, Any]:
        """Everything that decides the bytes, as JSON values."""
        prepared = self.opened.prepared
        return {
            "weights": self.opened.weights_digest,
            "configuration": self.opened.config.digest(),
            "index": self.index_name,
            "k": self.k,
            "exclude_seen": self.exclude_seen,
            "queries": hashlib.sha256(json.dumps(prepared.queries.ids).encode()).hexdigest(),
            "num_interactions": len(prepared.interactions.times),
            "part_queries": self.part_queries,
            "pyarrow": pa.__version__,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a bulk run left."""

    num_queries: int
    """Queries that have results."""
    num_results: int
    num_silent: int
    """Queries that were left out, because nothing is known of them: every score would be zero."""


def write_all(bulk: Bulk, out: Path, *, resume: bool, overwrite: bool) -> Written:
    """Search for every query and write the results.

    Columns: query_id string, rank int32 from 1, candidate_id string, score float32, and title string where the data has
    titles; queries in the order of the data, each best first. A query has fewer than K rows where fewer exist.

    Args:
        bulk: what is asked for.
        out: the Parquet file.
        resume: go on where an interrupted run of the same plan stopped.
        overwrite: replace `out`, and forget what an interrupted run left.

    Raises:
        UserError: `out` or parts of it exist and neither flag allows for it, nothing to resume, parts of another plan,
            K larger than the catalogue, an index of other weights, or a full disk.
    """
    index = bulk.index
    # Of no query at all: what the index refuses is refused before anything is written.
    index.search(np.empty((0, index.dim), np.float32), bulk.k, weights_digest=bulk.opened.weights_digest)
    parts = out.with_name(f"{out.name}.partial")
    _claim(parts, out, bulk.plan(), resume=resume, overwrite=overwrite)
    starts = range(0, bulk.num_queries, bulk.part_queries)
    paths = [parts / f"part-{number:05d}.parquet" for number in range(len(starts))]
    done = sum(path.exists() for path in paths) * bulk.part_queries
    total = bulk.num_queries
    with Progress("recommending", total=total, done=min(done, total), unit="answer") as progress:
        for start, path in zip(starts, paths, strict=True):
            rows = np.arange(start, min(start + bulk.part_queries, total), dtype=np.int32)
            if not path.exists():
                with replacing_file(path) as beside:
                    pq.write_table(_results(bulk, rows), beside)
                progress.advance(len(rows))
    written = _join(paths, out, total)
    shutil.rmtree(parts, ignore_errors=True)
    return written


def _claim(parts: Path, out: Path, plan: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make sure that nothing of value is lost and nothing unlike is mixed; then the folder of parts is there."""
    if resume and overwrite:
        raise UserError("--resume and --overwrite are both given", where="command line", todo="give one")
    if out.is_dir():
        raise UserError("--out is a folder", where=str(out), todo="name a file to write")
    if resume:
        _check_plan(parts / PLAN, plan)
        return
    if not overwrite and (out.exists() or parts.exists()):
        what = "the file exists" if out.exists() else "an interrupted run left parts of the file"
        todo = "use --overwrite to begin anew" + (", or --resume to go on" if parts.exists() else ", or another --out")
        raise UserError(what, where=str(out), todo=todo)
    shutil.rmtree(parts, ignore_errors=True)
    write_text(parts / PLAN, json.dumps(plan, indent=1) + "\n")


def _check_plan(path: Path, plan: Mapping[str, Any]) -> None:
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("nothing to resume", where=str(path), todo="run without --resume") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read ({error})", where=str(path), todo="begin anew with --overwrite") from None
    differ = sorted(name for name in {*begun, *plan} if begun.get(name) != plan.get(name))
    if differ:
        what = f"the interrupted run was another: {', '.join(differ)} differ"
        raise UserError(what, where=str(path), todo="ask as it did, or begin anew with --overwrite")


def _results(bulk: Bulk, query_rows: Int32Array) -> pa.Table:
    """Results of some queries, one row each."""
    prepared, index = bulk.opened.prepared, bulk.index
    queries = bulk.opened.query_vectors(query_rows)
    spoken = np.flatnonzero(_any_known(queries))
    query_rows, queries = query_rows[spoken], queries[spoken]
    excluded = [prepared.seen()[row].indices.astype(np.int32) for row in query_rows] if bulk.exclude_seen else None
    top = index.search(queries, bulk.k, weights_digest=bulk.opened.weights_digest, excluded=excluded)
    places, ranks = np.nonzero(top.rows >= 0)
    rows = pa.array(top.rows[places, ranks])
    columns = {
        "query_id": pa.array(prepared.queries.ids, pa.string()).take(pa.array(query_rows[places])),
        "rank": pa.array((ranks + 1).astype(np.int32)),
        "candidate_id": pa.array(index.ids, pa.string()).take(rows),
        "score": pa.array(top.scores[places, ranks]),
    }
    if prepared.titles:
        columns["title"] = pa.array(prepared.titles, pa.string()).take(rows)
    return pa.table(columns)


def _any_known(queries: Float32Array) -> Any:
    """False where a query's vectors are all zero [B]."""
    return queries.reshape(len(queries), -1).any(axis=1)


def _join(paths: list[Path], out: Path, num_queries: int) -> Written:
    """Write all parts as one file, a row group each, and put it in place."""
    num_spoken = num_results = 0
    with replacing_file(out) as beside, pq.ParquetWriter(beside, pq.read_schema(paths[0])) as writer:
        for path in paths:
            part = pq.read_table(path)
            writer.write_table(part, row_group_size=max(1, len(part)))
            num_results += len(part)
            num_spoken += int((part["rank"].to_numpy() == 1).sum())
    return Written(num_queries=num_spoken, num_results=num_results, num_silent=num_queries - num_spoken)

"""`recommend`: the best candidates of one query, with the time that each phase took, or those of all in a file."""

import hashlib
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_contract.data.histories import NOBODY
from retrieval_contract.errors import UserError
from retrieval_contract.flags import Command, saved_config
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.manifest import NAME
from retrieval_contract.runs.bulk import Bulk, write_all
from retrieval_contract.runs.opened import OpenedRun, open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack
from retrieval_contract.verbs.build_index import chosen_backend, index_class
from retrieval_contract.verbs.command import run_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One line of an answer."""

    id: str
    title: str
    """Empty where the data has no titles."""
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query gets, and the milliseconds of each phase."""

    recommendations: tuple[Recommendation, ...]
    encode_ms: float
    search_ms: float
    format_ms: float


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.recommend`."""
    run_command("recommend", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Answer one query, or all."""
    _check_flags(command)
    config = saved_config(command)
    backend = chosen_backend(config, command)
    kind = index_class(stack, backend)
    opened = open_run(stack, config, Workdir(command.workdir))
    if command.values["all"]:
        index = open_index(kind, opened, backend)
        check_same_catalogue(opened, index)
        answer_all(opened, index, backend, command)
    else:
        answer_one(opened, kind, backend, command)


def _check_flags(command: Command) -> None:
    """Refuse flags that do not go together.

    Raises:
        UserError: neither or both of --query_id and --all, or one that needs the other.
    """
    values, where = command.values, "command line"
    if values["all"] and values["query_id"]:
        raise UserError("--query_id and --all are both given", where=where, todo="give one")
    if not values["all"] and not values["query_id"]:
        todo = "name a query of the run's data, or say --all --out=FILE.parquet"
        raise UserError("--query_id is missing", where=where, todo=todo)
    if values["all"] and not values["out"]:
        raise UserError("--all writes a file: --out is missing", where=where, todo="say --out=FILE.parquet")
    stray = [name for name in ("out", "resume", "overwrite") if values[name] and not values["all"]]
    if stray:
        raise UserError(f"--{stray[0]} goes with --all", where=where, todo=f"leave --{stray[0]} out, or say --all")


def answer_all(opened: OpenedRun, index: Index, backend: str, command: Command) -> None:
    """Write the best candidates of every query to a file.

    Raises:
        UserError: as `write_all` does.
    """
    out, k = Path(command.values["out"]), command.values["k"]
    bulk = Bulk(
        opened=opened,
        index=index,
        index_name=_index_name(opened.workdir.index(backend), backend),
        k=k,
        exclude_seen=command.values["exclude_seen"],
    )
    began = time.perf_counter()
    written = write_all(bulk, out, resume=command.values["resume"], overwrite=command.values["overwrite"])
    if written.num_silent:
        print(f"left out: {written.num_silent:,} queries without history, whose vectors are zero", file=sys.stderr)
    what = f"{written.num_results:,} results of {written.num_queries:,} queries by {backend} search"
    print(f"{what} in {time.perf_counter() - began:.2f} s: {out}")


def _index_name(folder: Path, backend: str) -> str:
    """The backend, and a digest of everything that a saved index is."""
    manifest = folder / NAME
    return f"{backend} {hashlib.sha256(manifest.read_bytes()).hexdigest()}" if manifest.is_file() else backend


def answer_one(opened: OpenedRun, kind: type[Index], backend: str, command: Command) -> None:
    """Print the best candidates of one query.

    Raises:
        UserError: unknown query, no index, k larger than the catalogue, or an index of other weights.
    """
    query_id, k, exclude_seen = (command.values[name] for name in ("query_id", "k", "exclude_seen"))
    note_unseen_query(opened, query_id)
    index = open_index(kind, opened, backend)
    check_same_catalogue(opened, index)
    # The first call pays for compilation and for what is gathered once; only the second one's times mean anything.
    recommend(opened, index, query_id, k, exclude_seen=exclude_seen)
    answer = recommend(opened, index, query_id, k, exclude_seen=exclude_seen)
    print(as_text(answer, backend, query_id))


def note_unseen_query(opened: OpenedRun, query_id: str) -> None:
    """Say on stderr that training never met the query, where that is so.

    Raises:
        UserError: unknown query id, or nothing at all is known of it: its vector is zero, and every score would be too.
    """
    histories = opened.prepared.histories
    query_rows = opened.prepared.query_rows_of([query_id])
    if histories.window(query_rows, histories.ends(query_rows), 1)[0, 0] != NOBODY:
        return
    if not opened.query_vectors(query_rows).any():
        todo = "give the query tower a feature that a new query has, or set model.candidate_bias=true"
        raise UserError(f"query {query_id!r} has no history, and its vector is zero", where="train rows", todo=todo)
    print(f"query {query_id!r} has no history: the answer rests on what all queries share", file=sys.stderr)


def open_index(kind: type[Index], opened: OpenedRun, backend: str) -> Index:
    """Load the run's index of a backend; an exact one that was never built is made on the spot.

    Raises:
        UserError: it was not built, is damaged, or names other weights.
    """
    folder = opened.workdir.index(backend)
    if folder.is_dir():
        return kind.load(folder)
    if backend == "exact":
        return kind.build(opened.candidate_vectors(), opened.config.index, opened.attributes())
    raise UserError(f"no {backend} index yet", where=str(folder), todo=f"run build_index --backend={backend} first")


def check_same_catalogue(opened: OpenedRun, index: Index) -> None:
    """Make sure that a row means the same candidate in both: titles and what a query has seen go by it.

    Raises:
        UserError: candidates were added to one of them, or the data changed.
    """
    ids = opened.prepared.candidates.ids
    if index.ids != ids:
        what = f"the index holds other candidates ({index.size:,}) than the data ({len(ids):,})"
        raise UserError(what, where=str(opened.workdir.indexes), todo="run build_index again")


def recommend(opened: OpenedRun, index: Index, query_id: str, k: int, *, exclude_seen: bool) -> Answer:
    """Encode the query, search, and put ids and titles to the rows.

    Raises:
        UserError: unknown query id, k larger than the catalogue, or an index of other weights.
    """
    clock = [time.perf_counter()]
    query_rows = opened.prepared.query_rows_of([query_id])
    query = opened.query_vectors(query_rows)
    clock.append(time.perf_counter())
    excluded = [opened.prepared.seen()[query_rows[0]].indices.astype(np.int32)] if exclude_seen else None
    found = index.search(query, k, weights_digest=opened.weights_digest, excluded=excluded)
    clock.append(time.perf_counter())
    titles = opened.prepared.titles
    recommendations = tuple(
        Recommendation(id=index.ids[row], title=titles[row] if titles else "", score=float(score))
        for row, score in zip(found.rows[0], found.scores[0], strict=True)
        if row >= 0
    )
    clock.append(time.perf_counter())
    encode_ms, search_ms, format_ms = (1e3 * (b - a) for a, b in itertools.pairwise(clock))
    return Answer(recommendations=recommendations, encode_ms=encode_ms, search_ms=search_ms, format_ms=format_ms)


def as_text(answer: Answer, backend: str, query_id: str) -> str:
    """A table for people, and the times below it."""
    width = max([2, *(len(item.id) for item in answer.recommendations)])
    lines = [f"{'id':<{width}}  {'score':>9}  title"]
    lines += [f"{item.id:<{width}}  {item.score:>9.4f}  {item.title}".rstrip() for item in answer.recommendations]
    times = (
        f"encoding {answer.encode_ms:.2f} ms, searching {answer.search_ms:.2f} ms, formatting {answer.format_ms:.2f} ms"
    )
    return "\n".join([f"query {query_id}, {backend} search", *lines, times])

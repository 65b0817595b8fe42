"""How do building and searching grow with the catalogue, and what would 100 million or a billion candidates take?

    python -m benchmarks.scale [--quick] [--full] [--results FOLDER]

One kind of index, FAISS `IVF,PQ64x4fs` that keeps a vector in 8 bits a number to score the best again, with as many
lists as the square root of the candidates, over clustered vectors of width 128 at 10 thousand to 1 million, with
`--full` 10 million. It is trained on a sample and takes the candidates by chunks, which are drawn, scored for the
truth, added, and forgotten: no second copy is ever held. Each size is searched with more and more lists until
recall@100 is 0.95, so that sizes are compared at the same answer. Beside it stands looking at everything.

Each size runs in a process of its own, so that its peak of resident memory is its own. Nothing is written before the
recall is known, and that the truth is the truth was checked against an exact search. The last line is one JSON object.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import index_faiss, record
from benchmarks.index_measuring import AT, K, rounded
from benchmarks.index_neighbours import packed, packed_truth, recalls
from benchmarks.index_structures import peak_resident, saved_bytes, threads, wait_patiently
from benchmarks.index_truth import Truth
from benchmarks.record import num_cores
from benchmarks.scale_vectors import ChunkedVectors
from retrieval_contract.arrays import Int32Array

NAME = "scale"
SIZES, QUICK_SIZES, FULL_SIZE = (10_000, 31_623, 100_000, 316_228, 1_000_000), (5_000, 10_000, 20_000), 10_000_000
DIM, SEED = 128, 0
NUM_QUERIES, DEPTH = 200, 200
LEAST = 0.95
"""Recall@100 that is searched for."""
GROWTH = 1.25
"""Lists are tried in steps of this factor."""
K_FACTOR = 10
"""How many times K candidates are scored again: with 4, all lists of 10 million find 0.931."""
FACTORY = "IVF{lists},PQ{codes}x4fs,Refine(SQ8)"
LIMIT = 20 * 2**30
"""Bytes that a process may hold at its peak."""
CHECKED = 20_000
"""Candidates over which the truth is checked."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each size, write the raw lines, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 to 20,000 candidates, in 40 seconds")
    parser.add_argument("--full", action="store_true", help="10 million too: minutes, and 3 GB")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    flags = parser.parse_args(arguments)
    wait_patiently()
    sizes = QUICK_SIZES if flags.quick else (*SIZES, *([FULL_SIZE] if flags.full else []))
    figures = {}
    for size in sizes:
        # A process a size: the high-water mark of one is not that of another.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            lines = pool.submit(measured, size).result()
        record.append(flags.results / f"{NAME}.jsonl", lines)
        figures[size] = figure(lines[1])
        print(f"{size:,} candidates: {figures[size]}", file=sys.stderr, flush=True)
    print(json.dumps(figures))


def figure(line: Mapping[str, Any]) -> dict[str, Any]:
    """What is printed of a size."""
    return {
        "recall@100": round(line["recall"]["recall@100"], 4),
        "p50_ms": round(1e3 * float(np.median(line["wall_seconds"])), 3),
        "build_cpu_seconds": round(line["build_cpu_seconds"], 1),
        "bytes": line["disk_bytes"],
        "peak_bytes": line["peak_bytes"],
    }


def measured(size: int, dim: int = DIM) -> list[dict[str, Any]]:
    """Lines of one size: its truth, the index, and looking at everything.

    Raises:
        AssertionError: the truth is none, recall cannot be reached, or memory is above the limit.
    """
    base = peak_resident()
    vectors = ChunkedVectors(size, NUM_QUERIES, dim, seed=SEED)
    index, truth, times = _filled(vectors)
    nprobe, latency, rows_QK = searched(index, vectors.queries, truth.rows)
    peak = peak_resident()
    assert peak is None or peak < LIMIT, f"{peak / 2**30:.1f} GiB at the peak"
    settings = {"dataset": f"clustered, {size:,}", "candidates": size, "dim": dim, "k": K, **vectors.facts}
    line = partial(record.line, NAME, seed=SEED, num_queries=NUM_QUERIES)
    neighbours = packed_truth(truth.rows)
    index_line = line(
        f"clustered, {size:,}, index",
        rounded(latency),
        settings={**settings, "factory": FACTORY, "lists": round(size**0.5), "nprobe": nprobe, "k_factor": K_FACTOR},
        recall={f"recall@{at}": float(recalls(rows_QK, truth.rows, at).mean()) for at in AT},
        train_seconds=sum(times.training.wall),
        add_seconds=sum(times.adding.wall),
        build_cpu_seconds=sum(times.training.cpu) + sum(times.adding.cpu),
        disk_bytes=saved_bytes(partial(index_faiss.write, index)),
        base_bytes=base,
        peak_bytes=peak,
        threads=num_cores(),
        neighbours=packed(rows_QK, truth.rows),
    )
    lines = [line(f"truth, clustered, {size:,}", times.looking, settings=settings, neighbours=neighbours), index_line]
    if size <= max(SIZES):
        settings = {**settings, "factory": "Flat"}
        lines.append(line(f"clustered, {size:,}, everything", everything(vectors), settings=settings))
    return lines


def everything(vectors: ChunkedVectors) -> record.Times:
    """Times of looking at all, one query on one thread."""
    index, times = index_faiss.untrained("Flat", vectors.dim), record.Times()
    for chunk in vectors.chunks():
        index.add(chunk)
    with threads(1):
        for place in range(20):
            times.take(lambda at=place: index.search(vectors.queries[at : at + 1], K))  # type: ignore[misc]
    return rounded(times)


@dataclass(frozen=True, slots=True)
class _Times:
    """Of one size, a time a chunk."""

    training: record.Times = field(default_factory=record.Times)
    adding: record.Times = field(default_factory=record.Times)
    looking: record.Times = field(default_factory=record.Times)


def _filled(vectors: ChunkedVectors) -> tuple[Any, Truth, _Times]:
    """An index that was trained and given all candidates, each chunk looked at for the truth before it is gone."""
    lists, times = round(vectors.size**0.5), _Times()
    index = index_faiss.untrained(FACTORY.format(lists=lists, codes=vectors.dim // 2), vectors.dim)
    _train(index, vectors, times.training)
    truth = Truth(vectors.queries, min(DEPTH, vectors.size))
    for place, chunk in enumerate(vectors.chunks()):
        if place == 0:
            check_truth(chunk[:CHECKED], vectors.queries)
        times.looking.take(lambda values=chunk: truth.add(values))  # type: ignore[misc]
        times.adding.take(lambda values=chunk: index.add(values))  # type: ignore[misc]
        del chunk
    assert index.ntotal == vectors.size, f"{index.ntotal} of {vectors.size} candidates were added"
    return index, truth, times


def _train(index: Any, vectors: ChunkedVectors, times: record.Times) -> None:
    """Train on a sample, which is gone afterwards."""
    size = max(index_faiss.SAMPLED_A_LIST * index_faiss.num_lists(index), index_faiss.SAMPLED_AT_LEAST)
    sample = vectors.sample(size)
    times.take(lambda: index.train(sample))


def searched(index: Any, queries: Any, truth: Int32Array) -> tuple[int, record.Times, Int32Array]:
    """Search with more and more lists until enough is found; the times of the last search, one query on one thread.

    Raises:
        AssertionError: all lists do not find enough.
    """
    search, lists = index_faiss.searcher(index).search, index_faiss.num_lists(index)
    nprobe = 1
    with threads(1):
        while True:
            rows_QK = search(queries, K, {"nprobe": nprobe, "k_factor": K_FACTOR}, 1)
            if recalls(rows_QK, truth, K).mean() >= LEAST:
                break
            assert nprobe < lists, f"all {lists} lists find {recalls(rows_QK, truth, K).mean():.3f}"
            nprobe = min(lists, max(nprobe + 1, round(GROWTH * nprobe)))
        width, times, rows = {"nprobe": nprobe, "k_factor": K_FACTOR}, record.Times(), []
        for place in range(len(queries)):
            search(queries[place - 1 : place] if place else queries[-1:], K, width, 1)
            times.take(lambda at=place: rows.append(search(queries[at : at + 1], K, width, 1)))  # type: ignore[misc]
    return nprobe, times, np.concatenate(rows)


def check_truth(values_ND: Any, queries: Any) -> None:
    """Make sure that what is taken for the truth is found by FAISS's exact search too.

    Raises:
        AssertionError: it is not.
    """
    truth = Truth(queries, K)
    truth.add(values_ND)
    rows = index_faiss.flat().build(values_ND).search(queries, K, {}, num_cores())
    share = float(recalls(rows, truth.rows, K).mean())
    assert share >= 0.999, f"an exact search finds {share} of the truth"


if __name__ == "__main__":
    main()

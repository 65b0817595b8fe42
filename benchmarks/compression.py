"""How many bytes does a vector need: recall against bytes, with and without scoring the best again?

    python -m benchmarks.compression [--quick] [--results FOLDER]

The codes of `compression_codes` over 100,000 clustered vectors of width 128 (`index_datasets`), all codes looked
through, so that what is lost is lost by the code. Each is asked for the best 100, and for the best 1,000, which are
scored again by vectors kept in int8 or float32 beside the code. At a million, FAISS indexes of different sizes are each
served by a process of their own, whose resident size is read.

Raw lines carry the neighbours of 200 queries; nothing is written before it is verified. The last line is one JSON
object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import index_datasets, index_faiss, record
from benchmarks.compression_codes import Code, codes
from benchmarks.index_datasets import Dataset, truth_line
from benchmarks.index_measuring import AT, LEAST_EXACT, K
from benchmarks.index_neighbours import packed, recalls, refuse_repeats
from benchmarks.index_structures import Built, built, threads, wait_patiently
from benchmarks.record import num_cores
from benchmarks.serving_contestants import load_frameworks
from retrieval_contract.arrays import Float32Array, Int32Array
from retrieval_contract.indexes.brute_force import inner_products
from retrieval_contract.indexes.stored import Store, StoredVectors

NAME = "compression"
SIZE, QUICK_SIZE, SERVED_SIZE = 100_000, 10_000, 1_000_000
RESCORED = 1_000
"""Candidates that are scored again."""
KEPT: Mapping[str, Store] = {"int8": "int8", "float32": "float32"}
"""What they are scored by."""
REPEATS = 3
SERVED = {
    "OPQ48_48,IVF{lists},PQ48": {"nprobe": 125},
    "IVF{lists},PQ64x4fs": {"nprobe": 80},
    "IVF{lists},SQ8": {"nprobe": 80},
    "IVF{lists},PQ64x4fs,Refine(SQ8)": {"nprobe": 80, "k_factor": 4},
    "IVF{lists},PQ64x4fs,RFlat": {"nprobe": 80, "k_factor": 4},
    "Flat": {},
}
"""Indexes that are served, and with which widths."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the raw lines, print recall by bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 vectors, none of them served, in 40 seconds")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    flags = parser.parse_args(arguments)
    wait_patiently()
    load_frameworks()
    lines = list(coded(index_datasets.clustered(QUICK_SIZE if flags.quick else SIZE), quick=flags.quick))
    record.append(flags.results / f"{NAME}.jsonl", lines)
    if not flags.quick:
        more = list(served(index_datasets.clustered(SERVED_SIZE)))
        record.append(flags.results / f"{NAME}.jsonl", more)
        lines += more
    figures = {line["setting"]: figure(line) for line in lines if "recall" in line}
    print(json.dumps(figures))


def figure(line: Mapping[str, Any]) -> dict[str, float]:
    """What is printed of a line."""
    return {"recall@100": round(line["recall"]["recall@100"], 4), "bytes": line["bytes"]}


def coded(dataset: Dataset, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Every code, alone and with the best scored again; the truth's line first. Quick leaves out the slowest to train.

    Raises:
        AssertionError: an answer is wrong.
    """
    yield truth_line(NAME, dataset, K)
    kept = {name: StoredVectors.keep(dataset.candidates, kind) for name, kind in KEPT.items()}
    for code in codes(quick=quick):
        each = built(code.structure, dataset.candidates)
        with threads(num_cores()):
            times, rows_QK = _asked(each, dataset, K)
            yield _code_line(code, each, dataset, times, rows_QK, kept=None)
            if code.structure.is_exact:
                continue
            times, rows_QM = _asked(each, dataset, min(RESCORED, len(dataset.candidates)))
        for name, stored in kept.items():
            rows_QK = rescored(stored, dataset.queries, rows_QM)
            yield _code_line(code, each, dataset, times, rows_QK, kept=name)
        print(f"{code.structure.name} is measured and verified", file=sys.stderr, flush=True)


def rescored(stored: StoredVectors, queries_QD: Float32Array, rows_QM: Int32Array) -> Int32Array:
    """The best K of the proposed rows by the vectors kept, ties by the smaller row [Q, K]."""
    rows_QM = np.sort(rows_QM, axis=1)
    scores_QM = inner_products(stored, queries_QD, rows_QM)
    return np.take_along_axis(rows_QM, np.argsort(-scores_QM, axis=1, kind="stable")[:, :K], axis=1)


def served(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Indexes of a million, each in a process of its own.

    Raises:
        AssertionError: an answer is wrong.
    """
    yield truth_line(NAME, dataset, K)
    lists = round(len(dataset.candidates) ** 0.5)
    for words, width in SERVED.items():
        yield _served(words.format(lists=lists), width, dataset)


def checked(name: str, rows_QK: Int32Array, dataset: Dataset, *, is_exact: bool) -> dict[str, float]:
    """Recall by name, after making sure that it may be written.

    Raises:
        AssertionError: a row comes twice, or what is exact misses.
    """
    refuse_repeats(rows_QK, name)
    found = {f"recall@{at}": float(recalls(rows_QK, dataset.truth, at).mean()) for at in AT}
    assert not is_exact or min(found.values()) >= LEAST_EXACT, f"{name} is exact and misses: {found}"
    return found


def _asked(each: Built, dataset: Dataset, k: int) -> tuple[record.Times, Int32Array]:
    """Times of all queries as one batch, and the rows found."""
    times, rows = record.Times(), []
    for _ in range(REPEATS):
        times.take(lambda: rows.append(each.search(dataset.queries, k, each.structure.widths[0], num_cores())))
    return times, rows[0]


def _code_line(
    code: Code, each: Built, dataset: Dataset, times: record.Times, rows_QK: Int32Array, *, kept: str | None
) -> dict[str, Any]:
    dim = dataset.candidates.shape[1]
    structure, own = code.structure, code.num_bytes(dim)
    more = {None: 0, "int8": dim + 4, "float32": 4 * dim}[kept]
    name = structure.name + (f", {RESCORED:,} again by {kept}" if kept else "")
    settings = {"dataset": dataset.name, "k": K, **dataset.facts, "code": structure.name, "kept": kept}
    return record.line(
        NAME,
        f"{dataset.name}, {name}",
        times,
        settings={**settings, **structure.settings, "rescored": RESCORED if kept else 0},
        seed=index_datasets.SEED,
        setting=name,
        code=structure.name,
        library=structure.library,
        kept=kept,
        code_bytes=own,
        bytes=own + more,
        disk_bytes=each.disk_bytes,
        build_seconds=each.times.wall[0],
        recall=checked(name, rows_QK, dataset, is_exact=structure.is_exact),
        neighbours=packed(rows_QK, dataset.truth),
    )


def _served(words: str, width: Mapping[str, int], dataset: Dataset) -> dict[str, Any]:
    """Build, write, and have a process of its own answer."""
    nprobe, k_factor = ([width[name]] if name in width else [] for name in ("nprobe", "k_factor"))
    structure = index_faiss.factory(words, nprobe=nprobe, k_factor=k_factor)
    took = record.Times()
    with tempfile.TemporaryDirectory() as folder:
        searcher = structure.build(dataset.candidates)
        searcher.search(dataset.queries[:1], K, structure.widths[0], 1)  # The widths are written with the index.
        assert searcher.save is not None
        searcher.save(Path(folder))
        del searcher
        path, queries = Path(folder) / index_faiss.FILE, Path(folder) / "queries.npy"
        np.save(queries, dataset.queries)
        command = [sys.executable, "-m", "benchmarks.index_resident", str(path), str(queries), str(K)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        disk_bytes = path.stat().st_size
    rows_QK = np.array(told["rows"], np.int32)
    took.wall = [round(value, 7) for value in told["seconds"]]
    name = f"{structure.name}, {', '.join(f'{key} {value}' for key, value in width.items())}".removesuffix(", ")
    print(f"{name} is served in {(told['resident'] or 0) / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return record.line(
        NAME,
        f"{dataset.name}, served, {name}",
        took,
        settings={"dataset": dataset.name, "k": K, **dataset.facts, **structure.settings, **width, "served": True},
        seed=index_datasets.SEED,
        setting=f"served, {name}",
        library=structure.library,
        bytes=disk_bytes / len(dataset.candidates),
        disk_bytes=disk_bytes,
        process_bytes=told["before"],
        resident_bytes=told["resident"],
        recall=checked(name, rows_QK, dataset, is_exact=words == "Flat"),
        neighbours=packed(rows_QK, dataset.truth),
    )


if __name__ == "__main__":
    main()

"""What does recall cost: latency and throughput of ScaNN, FAISS, hnswlib and this project's own indexes?

    python -m benchmarks.index_frontier [--quick] [--full] [--results FOLDER] [--only NAME]

Every structure is built once and searched with several widths: latency with one query on one thread, throughput with a
batch on all, see `index_measuring`. Vectors: a model trained here, clustered ones at 10 thousand, 100 thousand and
1 million, and `sift-5k` where it lies; see `index_datasets`. Raw lines carry every time, the neighbours of 200 queries,
and the truth once for each data set, so that any metric can be recomputed. Nothing is written before it is verified.

The last line is one JSON object: for each data set and library the quickest setting that finds 0.95 of the best 100.
"""

import argparse
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import index_datasets, index_hnswlib, record
from benchmarks.index_datasets import Dataset, truth_line
from benchmarks.index_lineup import lineup
from benchmarks.index_measuring import K, Setting, check, described, measure, rounded, settings_of
from benchmarks.index_structures import Built, built, wait_patiently
from benchmarks.record import num_cores
from benchmarks.serving_contestants import load_frameworks

NAME = "index_frontier"
SHOWN_RECALL = 0.95


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every data set, write its raw lines, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 thousand candidates and sift-5k, in 40 seconds")
    parser.add_argument("--full", action="store_true", help="at a million also what takes minutes to build")
    parser.add_argument("--only", help="data sets whose name holds this")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    flags = parser.parse_args(arguments)
    wait_patiently()
    load_frameworks()
    figures = {}
    for name, make in datasets(quick=flags.quick).items():
        if flags.only is None or flags.only in name:
            dataset = make()
            if dataset is None:
                _say(f"{name} is not measured: it is not under the folder that TWO_TOWER_SHARED names")
                continue
            lines = list(measured(dataset, full=flags.full, quick=flags.quick))
            record.append(flags.results / f"{NAME}.jsonl", lines)
            figures[dataset.name] = quickest(lines)
    print(json.dumps(figures))


def datasets(*, quick: bool) -> dict[str, Callable[[], Dataset | None]]:
    """What is searched, by name; made when it is called."""
    sizes = (10_000,) if quick else (10_000, 100_000, 1_000_000)
    made: dict[str, Callable[[], Dataset | None]] = {"sift-5k": index_datasets.sift}
    if not quick:
        made["model"] = index_datasets.model
    return made | {f"clustered, {size:,}": partial(index_datasets.clustered, size) for size in sizes}


def measured(dataset: Dataset, *, full: bool = False, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Build everyone, measure, verify; the truth's line first.

    Raises:
        AssertionError: an answer is wrong.
    """
    everyone = list(_built(dataset, full=full, quick=quick))
    settings = settings_of(everyone)
    began = time.perf_counter()
    measure(settings, dataset)
    found = [check(setting, dataset) for setting in settings]
    _say(f"{dataset.name}: {len(settings)} settings measured in {time.perf_counter() - began:.0f} s, and verified")
    shared = {"dataset": dataset.name, "k": K, **dataset.facts}
    yield truth_line(NAME, dataset, K)
    for setting, recall in zip(settings, found, strict=True):
        yield _line(setting, recall, dataset, shared)


def quickest(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By library the setting of least median latency with the recall that is shown."""
    best: dict[str, Any] = {}
    for line in lines:
        if line["case"].startswith("truth, ") or line["recall"]["recall@100"] < SHOWN_RECALL:
            continue
        told = {
            "setting": line["setting"],
            "recall@100": round(line["recall"]["recall@100"], 4),
            "p50_ms": round(1e3 * float(np.median(line["wall_seconds"])), 3),
            "queries_per_second": round(line["batch"] / float(np.median(line["throughput_seconds"]))),
        }
        other = best.get(line["library"])
        best[line["library"]] = told if other is None or told["p50_ms"] < other["p50_ms"] else other
    return best


def _built(dataset: Dataset, *, full: bool, quick: bool) -> Iterator[Built]:
    gc.collect()
    for structure in lineup(*dataset.candidates.shape, full=full, quick=quick):
        if structure.library == "hnswlib" and not index_hnswlib.available():
            _say("hnswlib is not measured: it is not installed (`pip install hnswlib` compiles it)")
            continue
        each = built(structure, dataset.candidates)
        peak = math.nan if each.peak_bytes is None else each.peak_bytes / 1e6
        took = f"{each.times.wall[0]:.1f} s, {peak:.0f} MB at the peak, {each.disk_bytes / 1e6:.0f} MB on disk"
        _say(f"{dataset.name}: {structure.name} built in {took}")
        yield each


def _line(setting: Setting, recall: Mapping[str, float], dataset: Dataset, shared: Mapping[str, Any]) -> dict[str, Any]:
    structure, each = setting.built.structure, setting.built
    return record.line(
        NAME,
        f"{dataset.name}, {setting.name}",
        rounded(setting.latency),
        settings={**shared, "structure": structure.name, **structure.settings, **setting.width},
        seed=index_datasets.SEED,
        recall=recall,
        throughput_seconds=rounded(setting.throughput).wall,
        batch=len(dataset.batch),
        threads=num_cores(),
        build_cpu_seconds=each.times.cpu[0],
        peak_bytes=each.peak_bytes,
        disk_bytes=each.disk_bytes,
        **described(setting, dataset),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

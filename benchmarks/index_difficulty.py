"""Do the same structures at the same widths find more where vectors live in fewer dimensions?

    python -m benchmarks.index_difficulty [--quick] [--latent R ...] [--results FOLDER]

Two settings were seen with more recall, on vectors that are not told, than `benchmarks.index_frontier` finds with them
on its own of 24 latent dimensions. Here the same law is drawn with fewer, and the two are built and searched as there.
The law's noise has all 128 dimensions, and where latent ones are few it is what near neighbours see; so it is drawn
with less of that too, and `estimated_dimension` tells what is left. What else could explain the difference, that more
was scored again elsewhere, is measured beside: each is searched a second time with more of that. Raw lines carry every
latency, the neighbours and the truth, as there.

The last line is one JSON object: for each law what `estimated_dimension` sees, and recall and latency.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import index_datasets, index_faiss, index_scann, record
from benchmarks.index_datasets import Dataset, truth_line
from benchmarks.index_lineup import K_FACTOR, RESCORED
from benchmarks.index_measuring import K, Setting, check, described, measure, rounded, settings_of
from benchmarks.index_structures import Structure, built, wait_patiently
from benchmarks.serving_contestants import load_frameworks
from benchmarks.serving_vectors import CLUSTER_SIZE, LATENT, NOISE, SPREAD, draw, estimated_dimension

NAME = "index_difficulty"
LESS_NOISE = 0.05
LAWS = ((8, LESS_NOISE), (12, LESS_NOISE), (16, LESS_NOISE), (LATENT, LESS_NOISE), (8, NOISE), (LATENT, NOISE))
"""Latent dimensions and noise; the last is the law of `index_datasets.clustered`."""
QUICK_LAWS = (LAWS[0], LAWS[-1])
MILLION, QUICK = 1_000_000, 50_000
LEAVES_SEARCHED, LISTS_SEARCHED = 0.02, 0.04
"""Shares: 20 and 40 of 1,000."""
MORE_RESCORED, MORE_K_FACTOR = 1_000, 16
"""What is scored again, where more is: candidates, and times K."""
SAMPLE = 200
"""Candidates whose neighbours tell the dimension."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every law, write its raw lines, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two laws, 50 thousand candidates")
    parser.add_argument("--latent", type=int, nargs="+", help="only laws of so many latent dimensions")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    flags = parser.parse_args(arguments)
    wait_patiently()
    load_frameworks()
    figures = {}
    for latent, noise in QUICK_LAWS if flags.quick else LAWS:
        if flags.latent and latent not in flags.latent:
            continue
        dataset = drawn(QUICK if flags.quick else MILLION, latent, noise)
        lines = list(measured(dataset))
        record.append(flags.results / f"{NAME}.jsonl", lines)
        figures[dataset.name] = told(lines)
        gc.collect()
    print(json.dumps(figures))


def drawn(num_candidates: int, latent: int, noise: float, dim: int = index_datasets.DIM) -> Dataset:
    """The vectors of `index_datasets.clustered`, but for the dimensions that they live in, and noise."""
    found = draw(num_candidates, index_datasets.BATCH, dim, latent=latent, noise=noise, seed=index_datasets.SEED)
    facts = {"latent": latent, "cluster_size": CLUSTER_SIZE, "spread": SPREAD, "noise": noise}
    name = f"{num_candidates:,}, latent {latent}, noise {noise:g}"
    return index_datasets.dataset(name, found.candidates, found.queries, facts)


def structures(num_candidates: int, dim: int) -> list[Structure]:
    """The two that were seen elsewhere: leaves or lists are the square root of the number of candidates."""
    lists = round(num_candidates**0.5)
    leaves, probed = (max(1, round(share * lists)) for share in (LEAVES_SEARCHED, LISTS_SEARCHED))
    rescored, k_factor = (*RESCORED, MORE_RESCORED), (*K_FACTOR, MORE_K_FACTOR)
    return [
        index_scann.hashed(leaves=lists, searched=(leaves,), rescored=rescored, soar=True, reorder="bfloat16"),
        index_faiss.factory(f"IVF{lists},PQ{dim // 2}x4fs,RFlat", nprobe=(probed,), k_factor=k_factor),
    ]


def measured(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Build both, measure, verify; the truth's line first.

    Raises:
        AssertionError: an answer is wrong.
    """
    began = time.perf_counter()
    settings = settings_of([built(each, dataset.candidates) for each in structures(*dataset.candidates.shape)])
    measure(settings, dataset)
    found = [check(setting, dataset) for setting in settings]
    dimension = estimated_dimension(dataset.candidates, SAMPLE)
    print(f"{dataset.name}: built, measured, verified in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    yield truth_line(NAME, dataset, K)
    for setting, recall in zip(settings, found, strict=True):
        yield _line(setting, recall, dataset, dimension)


def told(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of one law."""
    _, *searches = lines
    figures = {"dimension": round(searches[0]["dimension"], 1)}
    for line in searches:
        milliseconds = round(1e3 * float(np.median(line["wall_seconds"])), 3)
        figures[line["setting"]] = {"recall@100": round(line["recall"]["recall@100"], 4), "p50_ms": milliseconds}
    return figures


def _line(setting: Setting, recall: Mapping[str, float], dataset: Dataset, dimension: float) -> dict[str, Any]:
    structure = setting.built.structure
    named = {"dataset": dataset.name, "k": K, **dataset.facts, "structure": structure.name}
    return record.line(
        NAME,
        f"{dataset.name}, {setting.name}",
        rounded(setting.latency),
        settings={**named, **structure.settings, **setting.width},
        seed=index_datasets.SEED,
        recall=recall,
        dimension=dimension,
        **described(setting, dataset),
    )


if __name__ == "__main__":
    main()

"""A small data set and searches of known recall, for the tests of the comparisons of indexes."""

from collections.abc import Callable

import numpy as np

from benchmarks import record
from benchmarks.index_datasets import Dataset, dataset
from benchmarks.index_measuring import K, Setting
from benchmarks.index_structures import Built, Structure
from benchmarks.serving_vectors import draw
from retrieval_contract.arrays import Int32Array

NUM_CANDIDATES, NUM_QUERIES = 1_500, 12


def planted() -> Dataset:
    """1,500 clustered vectors of width 32."""
    drawn = draw(NUM_CANDIDATES, NUM_QUERIES, 32, seed=0)
    return dataset("clustered, 1,500", drawn.candidates, drawn.queries, {"latent": 24, "noise": 0.2})


def setting(
    name: str,
    answer: Callable[[int], Int32Array],
    *,
    library: str = "FAISS",
    is_exact: bool = False,
    milliseconds: float = 1.0,
    width: int = 7,
) -> Setting:
    """A setting that was measured: what it found for each query [K], and how long it says that this took."""
    structure = Structure(
        name=name, library=library, settings={}, widths=(), build=lambda values: None, is_exact=is_exact
    )  # type: ignore[arg-type, return-value]
    built = Built(
        structure=structure,
        search=lambda *of: np.empty(0, np.int32),
        times=record.Times([2.0], [3.0]),
        peak_bytes=5_000_000,
        disk_bytes=7_000_000,
    )
    rows = [answer(place)[None, :K] for place in range(NUM_QUERIES)]
    noise = np.random.default_rng(width).uniform(0.9, 1.1, NUM_QUERIES)
    seconds = (1e-3 * milliseconds * noise).tolist()
    return Setting(
        built=built,
        width={"nprobe": width},
        latency=record.Times(seconds, seconds),
        throughput=record.Times([0.5] * 3, [0.5] * 3),
        rows=rows,
        batch_rows=[np.concatenate(rows)],
    )

"""This project's own structures in the comparison of indexes: exact, and partitions in plain TensorFlow operations.

Letters: N candidates, Q queries, D width, K results.
"""

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.index_structures import Searcher, Structure, Width
from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Int32Array, Vectors
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.stored import Store

DIGEST = "0" * 64


def exact(store: Store = "float32") -> Structure:
    """`ExactIndex`: everything is scored by BLAS, the best again in float64; exact where the vectors are kept whole."""
    is_exact = store == "float32"

    def build(values_ND: Float32Array) -> Searcher:
        index = ExactIndex.build(vectors_of(values_ND), config.Index(store=store))

        def search(queries_QD: Float32Array, k: int, width: Width, threads: int) -> Int32Array:
            return index.search(queries_QD, k, weights_digest=DIGEST).rows

        return Searcher(search=search, save=None if is_exact else lambda folder: index.save(folder / "index"))

    name, settings = ("exact", {}) if is_exact else (f"here {store}", {"store": store})
    return Structure(name=name, library="here", settings=settings, widths=({},), build=build, is_exact=is_exact)


def partitioned(searched: Sequence[int]) -> Structure:
    """`PartitionedIndex` with its defaults: int8 codes in partitions, float32 beside them to rescore by."""
    settings = config.Index(backend="partitioned")

    def build(values_ND: Float32Array) -> Searcher:
        kind = importlib.import_module("tfrs_models.indexes.partitioned_index").PartitionedIndex
        index = kind.build(vectors_of(values_ND), settings)
        twins = {
            number: index.with_settings(settings.model_copy(update={"partitioned_searched": number}))
            for number in searched
        }

        def search(queries_QD: Float32Array, k: int, width: Width, threads: int) -> Int32Array:
            twin = twins[width["searched"]]
            if threads == 1:
                return twin.search(queries_QD, k, weights_digest=DIGEST).rows
            return _in_parts(twin, queries_QD, k, threads)

        return Searcher(search=search, save=lambda folder: index.save(folder / "index"))

    own = {field: getattr(settings, field) for field in ("partitioned_storage", "partitioned_rescore", "store")}
    widths = tuple({"searched": number} for number in searched)
    return Structure(name="partitioned", library="here", settings=own, widths=widths, build=build)


def widths_of(num_candidates: int, shares: Sequence[float]) -> list[int]:
    """Partitions to search, as shares of what is searched by default."""
    home, settings = importlib.import_module("tfrs_models.indexes.partitioned_index"), config.Index()
    usual = home.num_searched(settings, home.num_partitions(settings, num_candidates))
    return sorted({max(1, round(share * usual)) for share in shares})


def _in_parts(index: Any, queries_QD: Float32Array, k: int, threads: int) -> Int32Array:
    """A part of the queries in each thread: one search uses one core."""
    with ThreadPoolExecutor(threads) as pool:
        parts = np.array_split(queries_QD, threads)
        return np.concatenate(list(pool.map(lambda part: index.search(part, k, weights_digest=DIGEST).rows, parts)))


def vectors_of(values_ND: Float32Array) -> Vectors:
    """Vectors whose ids are their rows."""
    return Vectors(ids=tuple(map(str, range(len(values_ND)))), values=values_ND, weights_digest=DIGEST)

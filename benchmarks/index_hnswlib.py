"""hnswlib, the outsider in the comparison of indexes: a graph by the authors of HNSW.

Letters: N candidates, Q queries, D width, K results.
"""

import importlib
import importlib.util
from collections.abc import Sequence

import numpy as np

from benchmarks.index_structures import Searcher, Structure, Width
from retrieval_contract.arrays import Float32Array, Int32Array

LINKS, EF_CONSTRUCTION = 16, 200
"""Its M, of which the lowest layer has twice as many, as FAISS's HNSW32 has; and the breadth of building."""


def available() -> bool:
    """Whether the package is installed: it is compiled where it is installed, and not everyone has a compiler."""
    return importlib.util.find_spec("hnswlib") is not None


def graph(ef: Sequence[int]) -> Structure:
    """An HNSW searched with some breadths, at least K each."""

    def build(values_ND: Float32Array) -> Searcher:
        index = importlib.import_module("hnswlib").Index(space="ip", dim=values_ND.shape[1])
        index.init_index(len(values_ND), M=LINKS, ef_construction=EF_CONSTRUCTION, random_seed=0)
        index.add_items(values_ND)

        def search(queries_QD: Float32Array, k: int, width: Width, threads: int) -> Int32Array:
            index.set_ef(width["ef"])
            return index.knn_query(queries_QD, k, num_threads=threads)[0].astype(np.int32)

        return Searcher(search=search, save=lambda folder: index.save_index(str(folder / "graph.bin")))

    settings = {"M": LINKS, "ef_construction": EF_CONSTRUCTION}
    widths = tuple({"ef": breadth} for breadth in ef)
    return Structure(name=f"hnswlib M {LINKS}", library="hnswlib", settings=settings, widths=widths, build=build)

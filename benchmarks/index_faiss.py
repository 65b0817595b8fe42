"""FAISS by factory string in the comparison of indexes.

What needs training is trained on a sample: so many vectors for each list, and for each word of a codebook. FAISS's own
25 rounds over 256 vectors a word take twice as long and found no better codes here (recall@100 0.909 for 0.910, PQ32).

Letters: N candidates, Q queries, D width, K results.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_structures import Searcher, Structure, Width
from retrieval_contract.arrays import Float32Array, Int32Array

FILE = "index.faiss"
SAMPLED_A_LIST, SAMPLED_AT_LEAST = 64, 65_536
"""Vectors to train on."""
CODEBOOK_ROUNDS, CODEBOOK_VECTORS = 12, 64
"""Rounds that a codebook is trained for, and vectors for each of its words."""
ROTATION_ROUNDS, ROTATION_VECTORS = 8, 10_000
"""Of OPQ."""
EF_CONSTRUCTION = 200
"""Breadth of an HNSW while it is built."""


def flat() -> Structure:
    """Every vector is scored."""
    return factory("Flat", is_exact=True)


def factory(
    words: str,
    *,
    nprobe: Sequence[int] = (),
    ef: Sequence[int] = (),
    k_factor: Sequence[int] = (),
    is_exact: bool = False,
) -> Structure:
    """An index of a factory string.

    Args:
        words: the string.
        nprobe: lists to search, where it has lists.
        ef: breadths of the search, where it is a graph.
        k_factor: how many times K candidates are scored again, where it keeps something to do so.
        is_exact: it must find the truth.
    """
    widths: list[Width] = [{}]
    for name, values in (("nprobe", nprobe), ("ef", ef), ("k_factor", k_factor)):
        widths = [width | {name: value} for width in map(dict, widths) for value in values] if values else widths
    return Structure(
        name=f"FAISS {words}",
        library="FAISS",
        settings={"factory": words},
        widths=tuple(widths),
        build=lambda values_ND: searcher(trained(words, values_ND)),
        is_exact=is_exact,
    )


def trained(words: str, values_ND: Float32Array) -> Any:
    """An index that was trained on a sample of the candidates, and holds them all."""
    index = untrained(words, values_ND.shape[1])
    index.train(sample(values_ND, max(SAMPLED_A_LIST * num_lists(index), SAMPLED_AT_LEAST)))
    index.add(values_ND)
    return index


def untrained(words: str, dim: int) -> Any:
    """An empty index, set to train quietly, and a graph to be built with a stated breadth."""
    index = importlib.import_module("torch_reference.indexes.faiss_factories").made(words, dim)
    faiss = importlib.import_module("faiss")
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = EF_CONSTRUCTION
    quantizer = getattr(_base(index), "pq", None)
    if quantizer is not None:
        quantizer.cp.niter, quantizer.cp.max_points_per_centroid = CODEBOOK_ROUNDS, CODEBOOK_VECTORS
    if isinstance(index, faiss.IndexPreTransform):
        rotation = faiss.downcast_VectorTransform(index.chain.at(0))
        if isinstance(rotation, faiss.OPQMatrix):
            rotation.niter, rotation.max_train_points = ROTATION_ROUNDS, ROTATION_VECTORS
    return index


def sample(values_ND: Float32Array, size: int) -> Float32Array:
    """So many of the candidates, or all, drawn without replacement."""
    if size >= len(values_ND):
        return values_ND
    return values_ND[np.sort(np.random.default_rng(0).choice(len(values_ND), size, replace=False))]


def num_lists(index: Any) -> int:
    """Lists of an IVF, 0 where there are none."""
    return int(getattr(_base(index), "nlist", 0))


def searcher(index: Any) -> Searcher:
    """The search of an index; its widths are set before each."""
    base = _base(index)

    def search(queries_QD: Float32Array, k: int, width: Width, threads: int) -> Int32Array:
        for name, value in width.items():
            if name == "nprobe":
                base.nprobe = value
            elif name == "ef":
                base.hnsw.efSearch = value
            else:
                assert name == "k_factor", f"{name} is no width of FAISS"
                index.k_factor = value
        return index.search(queries_QD, k)[1].astype(np.int32)

    return Searcher(search=search, save=lambda folder: write(index, folder))


def write(index: Any, folder: Path) -> None:
    """Write an index as one file."""
    importlib.import_module("faiss").write_index(index, str(folder / FILE))


def _base(index: Any) -> Any:
    """What holds the codes, within transforms and refinements."""
    return importlib.import_module("torch_reference.indexes.faiss_structure").parts(index)[-1]

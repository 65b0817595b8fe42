"""ScaNN's own searcher in the comparison of indexes: brute force, hashing (AH), or a tree; each with its options.

Letters: N candidates, Q queries, D width, K results.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.index_structures import Searcher, Structure, Width
from retrieval_contract.arrays import Float32Array, Int32Array

MOST = 200
"""Results that a searcher is built for; a search asks for fewer."""
THRESHOLD = 0.2
"""Of the anisotropic loss, as ScaNN's documentation has it."""
SOAR_LAMBDA = 1.5


def brute_force() -> Structure:
    """Every vector is scored."""

    def build(values_ND: Float32Array) -> Searcher:
        return _searcher(_builder(values_ND).score_brute_force().build())

    return Structure(name="ScaNN brute force", library="ScaNN", settings={}, widths=({},), build=build, is_exact=True)


def hashed(
    *,
    leaves: int | None,
    searched: Sequence[int] = (),
    rescored: Sequence[int],
    reorder: str = "float32",
    soar: bool = False,
    anisotropic: bool = True,
    dims_per_block: int = 2,
) -> Structure:
    """Codes of 4 bits for every two dimensions, all looked through, or those of some leaves of a tree.

    Args:
        leaves: of the tree; None for no tree.
        searched: leaves to search.
        rescored: candidates that are scored again, for each of `searched`; (0,) where nothing is kept to do so.
        reorder: what is kept to score again by: float32, bfloat16, int8 or none.
        soar: every candidate stands in two leaves.
        anisotropic: the loss that codes are chosen by weighs errors along the vector more.
        dims_per_block: dimensions that share a code.
    """
    settings: dict[str, Any] = {"leaves": leaves, "soar": soar, "anisotropic": anisotropic, "reorder": reorder}
    settings["dims_per_block"] = dims_per_block

    def build(values_ND: Float32Array) -> Searcher:
        builder = _builder(values_ND)
        if leaves is not None:
            spill = {"soar_lambda": SOAR_LAMBDA} if soar else {}
            builder = builder.tree(num_leaves=leaves, num_leaves_to_search=min(leaves, 20), **spill)
        threshold = THRESHOLD if anisotropic else float("nan")
        builder = builder.score_ah(dims_per_block, anisotropic_quantization_threshold=threshold)
        if reorder != "none":
            builder = builder.reorder(MOST, quantize=_kinds()[reorder.upper()])
        return _searcher(builder.build())

    ranges = searched if leaves is not None else (0,)
    widths = tuple(_width(number, again) for number in ranges for again in rescored)
    words = ["AH", *(["SOAR"] if soar else []), *([] if anisotropic else ["not anisotropic"])]
    words += [] if dims_per_block == 2 else [f"{dims_per_block} dimensions a code"]
    name = f"ScaNN {f'tree {leaves}, ' if leaves else ''}{', '.join(words)}, reorder {reorder}"
    return Structure(name=name, library="ScaNN", settings=settings, widths=widths, build=build)


def _width(searched: int, rescored: int) -> Width:
    return ({"leaves": searched} if searched else {}) | ({"rescored": rescored} if rescored else {})


def _searcher(searcher: Any) -> Searcher:
    def search(queries_QD: Float32Array, k: int, width: Width, threads: int) -> Int32Array:
        # Behind K: candidates to score again, and leaves; -1 means what the searcher was built with.
        told = k, width.get("rescored", -1), width.get("leaves", -1)
        if threads > 1:
            return _rows(searcher.search_batched_parallel(queries_QD, *told), k)
        if len(queries_QD) == 1:
            return _rows([found_M[None] for found_M in searcher.search(queries_QD[0], *told)], k)
        return _rows(searcher.search_batched(queries_QD, *told), k)

    return Searcher(search=search, save=lambda folder: searcher.serialize(str(folder)))


def _rows(found: Any, k: int) -> Int32Array:
    """Rows, -1 where ScaNN has none: there it repeats rows with scores that are no numbers, or gives fewer."""
    rows_QM, scores_QM = found
    rows_QM = np.where(np.isnan(scores_QM), -1, rows_QM.astype(np.int32)).astype(np.int32)
    missing = k - rows_QM.shape[1]
    return np.pad(rows_QM, ((0, 0), (0, missing)), constant_values=-1) if missing > 0 else rows_QM


def _builder(values_ND: Float32Array) -> Any:
    return _module().builder(values_ND, min(MOST, len(values_ND)), "dot_product")


def _module() -> Any:
    return importlib.import_module("scann.scann_ops.py.scann_ops_pybind")


def _kinds() -> Any:
    return importlib.import_module("scann.scann_ops.py.scann_builder").ReorderType

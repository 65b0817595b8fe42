"""Every code of a vector that `benchmarks.compression` compares: all codes are looked through, no lists, no tree.

Letters: N candidates, Q queries, D width, K results.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import index_faiss, index_here, index_scann
from benchmarks.index_structures import Structure

FAISS_CODES = ("Flat", "SQbf16", "SQ8", "SQ6", "SQ4")
"""Numbers one by one."""
PQ_BYTES = (8, 16, 32, 64)
"""Codes of 8 bits for so many parts of a vector."""
FEW_AXES = "OPQ48_48,PQ48"
"""Codes of 8 bits for one axis each of the few that hold most of the variance: what the preset `compressed` takes."""
SCANN_BLOCKS = (2, 4)
"""Dimensions that share a code of 4 bits."""
INT8_BYTES = 4
"""Of a vector's own scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code, and what it takes."""

    structure: Structure
    num_bytes: Callable[[int], float]
    """Width D -> bytes a vector, codebooks left out."""


def codes(*, quick: bool = False) -> list[Code]:
    """All of them, from float32 on; quick leaves out those whose codebooks take longest to train."""
    faiss = {words: _faiss(words) for words in FAISS_CODES}
    quantised = [_faiss(f"PQ{num}") for num in (PQ_BYTES[:3] if quick else PQ_BYTES)]
    rotated = [_faiss(f"OPQ{num},PQ{num}") for num in PQ_BYTES[: 2 if quick else 3]]
    rotated += [] if quick else [_faiss(FEW_AXES)]
    scann = [_scann(block, anisotropic=True) for block in SCANN_BLOCKS]
    scann.append(_scann(SCANN_BLOCKS[0], anisotropic=False))
    rabitq = [_faiss("RR128,RaBitQ"), _faiss("RR128,RaBitQ4")]
    return [*faiss.values(), _int8(), *quantised, *rotated, *scann, *rabitq]


def _faiss(words: str) -> Code:
    structure = index_faiss.factory(words, is_exact=words == "Flat")
    return Code(structure=structure, num_bytes=lambda dim: _code_size(words, dim))


def _code_size(words: str, dim: int) -> int:
    index = index_faiss.untrained(words, dim)
    return int(importlib.import_module("torch_reference.indexes.faiss_structure").parts(index)[-1].code_size)


def _int8() -> Code:
    """What `index.store` int8 keeps here: 255 steps for each vector."""
    return Code(structure=index_here.exact("int8"), num_bytes=lambda dim: dim + INT8_BYTES)


def _scann(block: int, *, anisotropic: bool) -> Code:
    structure = index_scann.hashed(
        leaves=None, rescored=(0,), reorder="none", anisotropic=anisotropic, dims_per_block=block
    )
    return Code(structure=structure, num_bytes=lambda dim: math.ceil(dim / block) / 2)

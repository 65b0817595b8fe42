"""Who is compared in `benchmarks.index_frontier`, by the number of candidates.

Leaves and lists are the square root of the number of candidates, as ScaNN's and FAISS's authors advise; a search looks
through 0.63, 1.26, 2.5 and 5 square roots of those: at a million 20, 40, 80 and 160 of 1,000.
"""

import math
from collections.abc import Sequence
from functools import partial

from benchmarks import index_faiss, index_here, index_hnswlib, index_scann
from benchmarks.index_structures import Structure

SHARES = (0.632, 1.265, 2.53, 5.06)
"""Leaves or lists searched, as shares of the square root of their number."""
BREADTHS = (100, 200, 400)
"""Of the search in a graph."""
RESCORED, K_FACTOR = (300,), (4,)
"""Candidates that ScaNN scores again, and how many times K FAISS does."""
FEW, MANY = 50_000, 500_000
"""Candidates below which ScaNN needs no tree, and from which on only what is built in a minute is compared by
default."""


def lineup(num_candidates: int, dim: int, *, full: bool, quick: bool = False) -> list[Structure]:
    """Everyone at this size.

    Args:
        num_candidates: N.
        dim: D, of which codes of 4 and of 2 dimensions are made.
        full: also what takes minutes to build, at `MANY`.
        quick: without codebooks of 256 words, which take seconds to train at any size.
    """
    lists = round(math.sqrt(num_candidates))
    everyone = [*_exact(num_candidates), *_scann(num_candidates, lists), *_faiss(lists, dim)]
    everyone += [
        index_here.partitioned(index_here.widths_of(num_candidates, (0.5, 1, 2, 4))),
        index_faiss.factory("HNSW32", ef=BREADTHS),
        index_hnswlib.graph(BREADTHS),
    ]
    if quick:
        return [each for each in everyone if not each.name.endswith(f",PQ{dim // 4}")]
    if full or num_candidates < MANY:
        return everyone
    return [each for each in everyone if each.name.replace(str(lists), "L") in AFFORDED]


AFFORDED = (
    "exact",
    "FAISS Flat",
    "ScaNN tree L, AH, SOAR, reorder bfloat16",
    "ScaNN tree L, AH, reorder float32",
    "FAISS IVFL,Flat",
    "FAISS IVFL,PQ64x4fs,RFlat",
    "FAISS RR128,IVFL,RaBitQfs2,RFlat",
    "partitioned",
)
"""What is built at a million of width 128 by default, L lists."""


def searched(lists: int, shares: Sequence[float] = SHARES) -> tuple[int, ...]:
    """Lists or leaves to search."""
    return tuple(sorted({min(lists, max(1, round(share * math.sqrt(lists)))) for share in shares}))


def _exact(num_candidates: int) -> list[Structure]:
    brute = [index_scann.brute_force()] if num_candidates < MANY else []
    return [index_here.exact(), index_faiss.flat(), *brute]


def _scann(num_candidates: int, lists: int) -> list[Structure]:
    """A tree, or codes alone where candidates are few; then one option changed at a time."""
    hashed = index_scann.hashed
    tree = partial(hashed, leaves=lists, searched=searched(lists))
    if num_candidates < FEW:
        return [
            hashed(leaves=None, rescored=(150, 300, 600)),
            hashed(leaves=None, rescored=RESCORED, reorder="bfloat16"),
            hashed(leaves=None, rescored=RESCORED, reorder="int8"),
            hashed(leaves=None, rescored=(0,), reorder="none"),
            hashed(leaves=None, rescored=RESCORED, anisotropic=False),
            tree(rescored=RESCORED, soar=True, reorder="bfloat16"),
        ]
    return [
        tree(rescored=RESCORED, soar=True, reorder="bfloat16"),
        tree(rescored=RESCORED, soar=True),
        tree(rescored=RESCORED, soar=True, reorder="int8"),
        tree(rescored=RESCORED, soar=True, anisotropic=False, reorder="bfloat16"),
        tree(rescored=(0,), soar=True, reorder="none"),
        tree(rescored=RESCORED),
    ]


def _faiss(lists: int, dim: int) -> list[Structure]:
    nprobe, factory = searched(lists), index_faiss.factory
    return [
        factory(f"IVF{lists},Flat", nprobe=nprobe),
        factory(f"IVF{lists},PQ{dim // 4}", nprobe=nprobe),
        factory(f"OPQ{dim // 4},IVF{lists},PQ{dim // 4}", nprobe=nprobe),
        factory(f"IVF{lists},PQ{dim // 2}x4fs,RFlat", nprobe=nprobe, k_factor=K_FACTOR),
        factory(f"RR{dim},IVF{lists},RaBitQfs2,RFlat", nprobe=nprobe, k_factor=K_FACTOR),
    ]

"""Which settings are worth trying for a catalogue of a given size: few structures, and a ladder of searches of each.

Settings of one structure stand side by side, quick searches first, so that it is built once.

Letters: N candidates, D width.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from retrieval_contract import config
from retrieval_contract.indexes.stored import Store

SMALL = 20_000
"""Candidates below which looking at all is quick, and one partition of them is tried."""
LEAST_FOR_CODES = 256
"""Candidates that a product quantiser needs: as many as a code has values."""
SHARES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
"""Of the partitions, how many are searched."""
RESCORED = (200, 500, 1_000)
"""Candidates rescored exactly."""
BREADTHS = (64, 128, 256, 512)
"""Of a search in HNSW."""

Fields = Mapping[str, Any]


def candidates_of(
    base: config.Index, backend: str, *, size: int, dim: int, max_bytes: int | None = None
) -> list[config.Index]:
    """Settings of one backend to try.

    Args:
        base: the run's own settings, which are tried too where they are of this backend, and give every field that the
            grid leaves alone.
        backend: `exact`, `scann`, `partitioned` or `faiss`.
        size: candidates N.
        dim: width D.
        max_bytes: memory allowed; see `stores_of`.

    Returns:
        Distinct settings, those of one structure side by side.
    """
    own: list[Fields] = [{}] if base.backend == backend else []
    tried = [
        config.Index.model_validate({**base.model_dump(), "backend": backend, "store": store, **fields})
        for store in stores_of(base.store, size=size, dim=dim, max_bytes=max_bytes)
        for fields in (*own, *_GRIDS[backend](size, dim))
    ]
    groups: dict[str, dict[config.Index, None]] = {}
    for settings in tried:
        groups.setdefault(structure_of(settings), {})[settings] = None
    return [settings for group in groups.values() for settings in group]


def structure_of(settings: config.Index) -> str:
    """What two settings share that one structure serves, as text."""
    return settings.model_dump_json(exclude=set(settings.SEARCHED_BY))


def stores_of(wanted: Store, *, size: int, dim: int, max_bytes: int | None) -> list[Store]:
    """Precisions in which to keep the vectors, the best first.

    Args:
        wanted: the configured one, which is the only one where memory is not bounded.
        size: candidates N.
        dim: width D.
        max_bytes: bound; the best precision up to the wanted one whose vectors alone fit is tried, and keeping none.
    """
    if max_bytes is None:
        return [wanted]
    row_bytes: dict[Store, int] = {"float32": 4 * dim, "float16": 2 * dim, "int8": dim + 4, "none": 0}
    narrower = list(row_bytes)[list(row_bytes).index(wanted) :]
    fitting = [store for store in narrower if size * row_bytes[store] <= max_bytes]
    return list(dict.fromkeys([fitting[0], "none"]))


def _exact(size: int, dim: int) -> Iterator[Fields]:
    yield {}


def _scann(size: int, dim: int) -> Iterator[Fields]:
    """ScaNN's advice, a tree with about the square root of N leaves; below `SMALL` also all looked at."""
    if size < SMALL:
        yield {"scann_brute_force_below": SMALL}
    for leaves in _partitions(size):
        for rescored in RESCORED:
            for searched in _searched(leaves):
                tree = {"scann_brute_force_below": 1, "scann_leaves": leaves, "scann_rescore": rescored}
                yield {**tree, "scann_leaves_to_search": searched}


def _faiss(size: int, dim: int) -> Iterator[Fields]:
    """Flat, lists of vectors or codes, and a graph."""
    if size < SMALL:
        yield {"faiss_factory": "Flat"}
    for breadth in BREADTHS:
        yield {"faiss_factory": "HNSW32", "faiss_ef_search": breadth}
    for lists in _partitions(size):
        for held in ("Flat", "SQ8", *([f"PQ{_codes(dim)}"] if size >= LEAST_FOR_CODES else [])):
            for searched in _searched(lists):
                yield {"faiss_factory": f"IVF{lists},{held}", "faiss_nprobe": searched}


def _codes(dim: int) -> int:
    """Codes of a product quantiser: the most that divide the width into parts of two dimensions or more."""
    return max(codes for codes in range(1, max(2, dim // 2 + 1)) if dim % codes == 0)


def _partitions(size: int) -> list[int]:
    """Numbers of partitions: the square root of N, and twice that where there are many candidates."""
    root = max(1, round(math.sqrt(size)))
    return [root] if size < SMALL else [root, 2 * root]


def _searched(partitions: int) -> list[int]:
    """Numbers of partitions to search, ascending."""
    return sorted({max(1, round(share * partitions)) for share in SHARES})


def _partitioned(size: int, dim: int) -> Iterator[Fields]:
    yield {}


_GRIDS: Final[Mapping[str, Callable[[int, int], Iterator[Fields]]]] = {
    "exact": _exact,
    "scann": _scann,
    "partitioned": _partitioned,
    "faiss": _faiss,
}

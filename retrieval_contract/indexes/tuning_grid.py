"""Which settings are worth trying for a catalogue of a given size: few structures, and a ladder of searches of each.

Settings of one structure stand side by side, quick searches first, so that it is built once.

Letters: N candidates, D width.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from retrieval_contract import config
from retrieval_contract.indexes.stored import Store

SMALL, MEDIUM = 20_000, 100_000
"""Candidates below which looking at all vectors, or at all codes, is quick."""
GRAPH = 300_000
"""Candidates from which a graph takes too long to build."""
SHARES = (0.01, 0.02, 0.04, 0.08, 0.16)
"""Of the partitions, how many are searched."""
FEW_AXES = 0.95
"""Share of the variance that `partitioned` may keep: vectors of towers often lie near few directions."""
RESCORED = (300, 600)
"""Candidates rescored exactly."""
BREADTHS = (64, 128, 256, 512)
"""Of a search in HNSW."""

Fields = Mapping[str, Any]


def candidates_of(
    base: config.Index, backend: str, *, size: int, dim: int, max_bytes: int | None = None
) -> list[config.Index]:
    """Settings of one backend to try.

    Args:
        base: the run's own settings, which are tried too, and give every field that the grid leaves alone.
        backend: `exact`, `scann`, `partitioned` or `faiss`.
        size: candidates N.
        dim: width D.
        max_bytes: memory allowed; see `stores_of`.

    Returns:
        Distinct settings, those of one structure side by side.
    """
    own: Fields = {}
    tried = [
        config.Index.model_validate({**base.model_dump(), "backend": backend, "store": store, **fields})
        for store in stores_of(base.store, size=size, dim=dim, max_bytes=max_bytes)
        for fields in (own, *_GRIDS[backend](size, dim, store))
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


def _exact(size: int, dim: int, store: Store) -> Iterator[Fields]:
    yield {}


def _scann(size: int, dim: int, store: Store) -> Iterator[Fields]:
    """All vectors or all codes where there are few, a tree with about the square root of N leaves where there are many.

    Where no vectors are kept beside, ScaNN reorders by its own, or by nothing, and then with codes half as long too.
    """
    if size < SMALL:
        yield {"scann_brute_force_below": SMALL}
    if size < MEDIUM:
        for rescored in RESCORED:
            yield {"scann_brute_force_below": 1, "scann_hash_only_below": MEDIUM, "scann_rescore": rescored}
    if size < SMALL:
        return
    kept: list[Fields] = [{}]
    if store == "none":
        kept = [{"scann_reorder": "int8"}, {}, {"scann_dims_per_block": 4, "scann_soar": False}]
    for leaves in _partitions(size):
        for own in kept:
            tree = {"scann_brute_force_below": 1, "scann_hash_only_below": 1, "scann_leaves": leaves, **own}
            for rescored in RESCORED:
                for searched in _searched(leaves):
                    yield {**tree, "scann_rescore": rescored, "scann_leaves_to_search": searched}


def _partitioned(size: int, dim: int, store: Store) -> Iterator[Fields]:
    """Partitions of int8: four times the square root of N; of many candidates eight times too, and few axes."""
    root = _partitions(size)[0]
    structures = [(4 * root, 1.0), (8 * root, 1.0), (8 * root, FEW_AXES)][: 1 if size < SMALL else 3]
    for partitions, variance in structures if store != "none" else structures[:2]:
        partitions = min(partitions, size)
        for rescored in RESCORED:
            for searched in _searched(partitions, share=0.25):
                fields = {"partitioned_partitions": partitions, "partitioned_searched": searched}
                yield {**fields, "partitioned_variance": variance, "partitioned_rescore": rescored}


def _faiss(size: int, dim: int, store: Store) -> Iterator[Fields]:
    """FAISS's structures by name: lists of vectors or codes, and a graph where it is built in minutes.

    Where no vectors are kept beside, those whose own scores are good, or that are small.
    """
    presets = ["flat", "ivf"] if size < SMALL else ["fastscan", "opq", "sq8", "ivf"]
    if store == "none":
        presets = ["flat"] if size < SMALL else ["compressed", "ivfpq", "sq8", "ivf"]
    for preset in presets:
        rescored_by = RESCORED if store != "none" and preset in ("fastscan", "opq") else RESCORED[:1]
        for rescored in rescored_by:
            for searched in _searched(round(math.sqrt(size))) if preset != "flat" else [1]:
                fields = {"faiss_preset": preset, "faiss_nprobe": searched, "faiss_rescore": rescored}
                yield {"faiss_factory": None, **fields}
    if size < GRAPH:
        for breadth in BREADTHS:
            yield {"faiss_factory": None, "faiss_preset": "hnsw", "faiss_ef_search": breadth}


def _partitions(size: int) -> list[int]:
    """Numbers of partitions: the square root of N, and twice that where there are many candidates."""
    root = max(1, round(math.sqrt(size)))
    return [root] if size < SMALL else [root, 2 * root]


def _searched(partitions: int, *, share: float = 1) -> list[int]:
    """Numbers of partitions to search, ascending; of smaller partitions a smaller share."""
    return sorted({max(1, round(share * each * partitions)) for each in SHARES})


_GRIDS: Final[Mapping[str, Callable[[int, int, Store], Iterator[Fields]]]] = {
    "exact": _exact,
    "scann": _scann,
    "partitioned": _partitioned,
    "faiss": _faiss,
}

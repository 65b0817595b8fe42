import itertools

import pytest

from retrieval_contract import config
from retrieval_contract.indexes.tuning_grid import candidates_of, stores_of, structure_of


@pytest.mark.parametrize("backend", ["exact", "scann", "faiss", "partitioned"])
@pytest.mark.parametrize("size", [1, 120, 5_000, 1_000_000])
def test_a_grid_is_small_distinct_and_of_its_backend(backend, size):
    grid = candidates_of(config.Index(), backend, size=size, dim=33)
    assert 1 <= len(grid) <= 80 and len(set(grid)) == len(grid)
    assert {settings.backend for settings in grid} == {backend}
    structures = [key for key, _ in itertools.groupby(grid, key=structure_of)]
    assert len(structures) == len(set(structures)) <= 12, "each structure in one place"


def test_the_runs_own_setting_is_tried_and_what_the_grid_leaves_alone_is_the_runs():
    own = config.Index(backend="faiss", faiss_factory="IVF7,Flat", faiss_nprobe=5, attributes=("genre",))
    grid = candidates_of(own, "faiss", size=5_000, dim=32)
    assert own in grid
    assert {settings.attributes for settings in grid} == {("genre",)}
    assert own.model_copy(update={"backend": "exact"}) in candidates_of(own, "exact", size=5_000, dim=32)


def test_search_fields_alone_do_not_make_another_structure():
    one = config.Index(backend="faiss", faiss_nprobe=5)
    assert structure_of(one) == structure_of(one.model_copy(update={"faiss_nprobe": 6}))
    assert structure_of(one) != structure_of(one.model_copy(update={"faiss_preset": "hnsw"}))
    assert set(config.Index.model_fields) >= config.Index.SEARCHED_BY


@pytest.mark.parametrize(
    ("wanted", "max_bytes", "expected"),
    [
        ("float32", None, ["float32"]),
        ("int8", None, ["int8"]),
        ("float32", 400, ["float32", "none"]),
        ("float32", 399, ["float16", "none"]),
        ("float32", 199, ["int8", "none"]),
        ("int8", 10**6, ["int8", "none"]),
        ("float32", 139, ["none"]),
        ("none", 10**6, ["none"]),
    ],
)
def test_vectors_are_kept_as_well_as_memory_allows(wanted, max_bytes, expected):
    assert stores_of(wanted, size=10, dim=10, max_bytes=max_bytes) == expected

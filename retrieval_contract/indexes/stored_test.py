import numpy as np
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.indexes import stored
from retrieval_contract.indexes.stored import StoredVectors

VALUES = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
VALUES[7] = 0
ERROR = {"float32": (0.0, 0.0), "float16": (2.0**-13, 2.0**-11), "int8": (0.25 / 127, 0.5001 / 127)}
"""Between what the largest error lies, in parts of the row's largest number: of rounding to the nearest."""


@pytest.mark.parametrize("kind", list(ERROR))
def test_vectors_come_back_within_the_precision_and_no_nearer(kind):
    found = StoredVectors.keep(VALUES, kind).all()
    error = np.abs(found - VALUES).max(axis=1) / np.maximum(np.abs(VALUES).max(axis=1), 1e-9)
    assert found.dtype == np.float32
    least, most = ERROR[kind]
    assert error.max() <= most
    assert error.max() >= least, "a precision that is not there would not show"


@pytest.mark.parametrize("kind", list(ERROR))
def test_every_way_of_reading_gives_the_same_numbers(kind, monkeypatch):
    monkeypatch.setattr(stored, "BLOCK", 7)
    kept = StoredVectors.keep(VALUES, kind)
    rows = np.array([49, 0, 7, 7])
    np.testing.assert_array_equal(kept.take(rows), kept.all()[rows])
    queries = np.eye(8, dtype=np.float32)[:3]
    np.testing.assert_array_equal(kept.products(queries), kept.all().T[:3])
    np.testing.assert_allclose(kept.largest_norm, np.linalg.norm(kept.all().astype(np.float64), axis=1).max())


@pytest.mark.parametrize(("kind", "num_bytes"), [("float32", 1_600), ("float16", 800), ("int8", 600), ("none", 0)])
def test_written_and_read(kind, num_bytes, tmp_path):
    kept = StoredVectors.keep(VALUES, kind)
    kept.write(tmp_path)
    read = StoredVectors.read(tmp_path, kind, VALUES.shape)
    assert (read.size, read.dim, read.num_bytes) == (50, 8, num_bytes)
    if kind != "none":
        np.testing.assert_array_equal(read.all(), kept.all())


@pytest.mark.parametrize("kind", [*ERROR, "none"])
def test_more_rows_stand_behind(kind):
    both = StoredVectors.keep(VALUES[:30], kind).extended(VALUES[30:])
    whole = StoredVectors.keep(VALUES, kind)
    assert (both.size, both.num_bytes) == (whole.size, whole.num_bytes)
    if kind != "none":
        np.testing.assert_array_equal(both.all(), whole.all())


def test_numbers_beyond_float16_are_refused():
    with pytest.raises(UserError, match=r"too large for float16 .index.store.: use float32 or int8"):
        StoredVectors.keep(VALUES * 1e5, "float16")


def test_vectors_given_are_not_written():
    values = VALUES.copy()
    with pytest.raises(ValueError, match="read-only"):
        StoredVectors.keep(values, "float32").all()[0] = 1
    np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize("num_queries", [1, 3])
@pytest.mark.parametrize("chunk_bytes", [1, 5 * 8 * 8, 10**6])
def test_pairs_are_scored_in_float64_however_few_at_a_time(num_queries, chunk_bytes, monkeypatch):
    monkeypatch.setattr(stored, "CHUNK_BYTES", chunk_bytes)
    draw = np.random.default_rng(1)
    queries = draw.standard_normal((num_queries, 8)).astype(np.float32)
    at, rows = draw.integers(num_queries, size=17), draw.integers(50, size=17)
    expected = (queries[at].astype(np.float64) * VALUES[rows]).sum(axis=1)
    np.testing.assert_array_equal(
        StoredVectors.keep(VALUES, "float32").scores(queries, at, rows), expected.astype("f4")
    )

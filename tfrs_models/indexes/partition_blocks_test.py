import numpy as np
import pytest

from tfrs_models.indexes import partition_blocks
from tfrs_models.indexes.partition_blocks import Blocks
from tfrs_models.indexes.partitions import partition


@pytest.fixture(scope="module")
def values():
    drawn = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    drawn[:, 1] *= 100
    drawn[:, 2] = 0
    return drawn


@pytest.fixture(scope="module")
def parts(values):
    return partition(values, 20)


def _decoded(blocks, parts, values):
    """Vectors in the order of rows."""
    at = parts.rows.ravel() >= 0
    places = blocks.codes.reshape(-1, values.shape[1]).astype(np.float32)[at] * blocks.scales
    decoded = np.empty_like(values)
    decoded[parts.rows.ravel()[at]] = places
    return decoded


def test_float32_is_the_vectors_themselves(values, parts):
    np.testing.assert_array_equal(_decoded(Blocks.of(values, parts, "float32"), parts, values), values)


def test_bfloat16_rounds_to_eight_bits(values, parts):
    decoded = _decoded(Blocks.of(values, parts, "bfloat16"), parts, values)
    assert (np.abs(decoded - values) <= 2**-8 * np.abs(values)).all() and (decoded != values).any()


def test_int8_rounds_each_dimension_by_its_largest(values, parts):
    blocks = Blocks.of(values, parts, "int8")
    assert blocks.codes.dtype == np.int8
    error = np.abs(_decoded(blocks, parts, values) - values)
    step = np.abs(values).max(axis=0) / 127
    assert (error <= step / 2 * (1 + 1e-5)).all(), "one scale for all dimensions would be 100 times as coarse"
    assert blocks.codes.min() >= -127 and blocks.scales[2] == 1


def test_small_chunks_give_the_same(values, parts, monkeypatch):
    whole = Blocks.of(values, parts, "int8")
    monkeypatch.setattr(partition_blocks, "CHUNK_BYTES", 1)
    np.testing.assert_array_equal(Blocks.of(values, parts, "int8").codes, whole.codes)

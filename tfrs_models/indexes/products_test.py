import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.indexes import products as products_module
from tfrs_models.indexes.products import products


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("vectors_a_row", [1, 4])
def test_any_type_in_chunks(dtype, vectors_a_row, monkeypatch):
    generator = np.random.default_rng(0)
    codes = generator.integers(-100, 100, (24 // vectors_a_row, 3 * vectors_a_row))
    query = np.array([1, -2, 4], np.float32)
    matrix = tf.Variable(tf.cast(codes, dtype))
    # Five chunks, the last of them smaller.
    monkeypatch.setattr(products_module, "CHUNK_BYTES", 4 * 3 * 5)
    found = tf.function(products)(matrix, tf.constant(query))
    np.testing.assert_array_equal(found, codes.reshape(-1, 3) @ query)

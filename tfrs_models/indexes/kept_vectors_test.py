import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.indexes.brute_force import inner_products
from retrieval_contract.indexes.stored import StoredVectors
from tfrs_models.indexes.kept_vectors import KeptVectors


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_scores_are_those_of_the_index(kind):
    generator = np.random.default_rng(0)
    values = generator.standard_normal((200, 24)).astype(np.float32)
    query = generator.standard_normal(24).astype(np.float32)
    rows = generator.permutation(200)[:50].astype(np.int32)
    stored = StoredVectors.keep(values, kind)
    kept = KeptVectors(stored)
    found = kept.scores(tf.constant(query), tf.constant(rows)).numpy()
    np.testing.assert_array_equal(found, inner_products(stored, query[None], rows[None])[0])
    np.testing.assert_allclose(kept.products(tf.constant(query)), stored.products(query[None])[0], rtol=1e-4, atol=1e-5)
    exact = (values[rows].astype(np.float64) @ query).astype(np.float32)
    assert (found == exact).all() == (kind == "float32"), "what is rounded scores as what it was rounded to"

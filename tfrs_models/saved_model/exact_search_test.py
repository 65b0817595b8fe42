import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.arrays import Vectors
from retrieval_contract.indexes.exact import ExactIndex
from tfrs_models.saved_model import blocks
from tfrs_models.saved_model.exact_search import ExactSearch

SIZE, DIM = 300, 8
DIGEST = "d" * 64


@pytest.fixture(scope="module")
def drawn():
    """Vectors of which some are equal, so that there are ties, and queries."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((SIZE, DIM)).astype(np.float32)
    values[7::50] = values[7]
    return values, generator.standard_normal((9, 3, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def index(drawn):
    vectors = Vectors(ids=tuple(map(str, range(SIZE))), values=drawn[0], weights_digest=DIGEST)
    return ExactIndex.build(vectors, config.Index())


def restrictions(num_queries, *, share):
    """Excluded rows, padded and repeated, and allowed candidates."""
    generator = np.random.default_rng(1)
    excluded = generator.integers(-1, SIZE, (num_queries, 40)).astype(np.int32)
    return excluded, generator.random((num_queries, SIZE)) < share


def expected(drawn, index, queries, k, excluded, allowed):
    """What the contract's index says where all that may not be returned is excluded."""
    barred = []
    for place in range(len(queries)):
        rows = [] if excluded is None else excluded[place][excluded[place] >= 0].tolist()
        rows += [] if allowed is None else np.flatnonzero(~allowed[place]).tolist()
        barred.append(np.unique(rows).astype(np.int32))
    return index.search(queries, k, weights_digest=DIGEST, excluded=barred)


@pytest.fixture(scope="module")
def search(drawn):
    return ExactSearch(drawn[0])


@pytest.mark.parametrize("num_queries", [0, 1, 9])
@pytest.mark.parametrize("num_interests", [1, 3])
@pytest.mark.parametrize(
    ("with_excluded", "share"), [(False, None), (True, None), (False, 0.5), (True, 0.04), (True, 0.0)]
)
def test_answers_are_those_of_the_exact_index(drawn, index, search, num_queries, num_interests, with_excluded, share):
    queries = drawn[1][:num_queries, :num_interests]
    excluded, allowed = restrictions(num_queries, share=share or 0)
    excluded, allowed = excluded if with_excluded else None, None if share is None else allowed
    for k in (1, 20, SIZE):
        rows, scores = search(tf.constant(queries), tf.constant(k), excluded, allowed)
        want = expected(drawn, index, queries[:, 0] if num_interests == 1 else queries, k, excluded, allowed)
        np.testing.assert_array_equal(rows, want.rows)
        np.testing.assert_array_max_ulp(np.nan_to_num(scores.numpy()), np.nan_to_num(want.scores), maxulp=1)


def test_more_queries_than_fit_are_answered_in_blocks(drawn, search, monkeypatch):
    queries, (excluded, allowed) = tf.constant(drawn[1]), restrictions(9, share=0.5)
    whole = search(queries, tf.constant(5), excluded, allowed)
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 2 * 4 * SIZE * 3)
    parts = tf.function(search, autograph=False)(queries, tf.constant(5), tf.constant(excluded), tf.constant(allowed))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_comparison_notices_an_exclusion_that_is_left_out(drawn, index, search):
    queries, (excluded, _) = drawn[1][:, :1], restrictions(9, share=0)
    rows, _ = search(tf.constant(queries), tf.constant(SIZE), excluded[:, 1:], None)
    assert (rows.numpy() != expected(drawn, index, queries[:, 0], SIZE, excluded, None).rows).any()

"""The search of an export against sorting everything, in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.indexes.planted import clustered, recall, vectors_of
from tfrs_models.indexes.partitioned_index import PartitionedIndex
from tfrs_models.indexes.partitioned_search import PartitionedSearch

SIZE, NUM_QUERIES = 3_000, 12
VALUES, QUERIES = clustered(SIZE, NUM_QUERIES)


def _settings(**more):
    return config.Index(backend="partitioned", **more)


def _truth(k, excluded=None, allowed=None, values=VALUES, queries=QUERIES):
    """Rows and scores by sorting: float64 products rounded to float32, ties by the smaller row."""
    scores = (queries.astype(np.float64) @ values.astype(np.float64).T).astype(np.float32)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    for place, rows in enumerate([] if excluded is None else excluded):
        scores[place, rows[rows >= 0]] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
    scores = np.take_along_axis(scores, rows, axis=1)
    missing = [(0, 0), (0, k - rows.shape[1])]
    scores = np.pad(scores, missing, constant_values=-np.inf)
    return np.where(np.isfinite(scores), np.pad(rows, missing, constant_values=-1), -1), scores


def _assert_same(found, true):
    np.testing.assert_array_equal(found[0], true[0])
    np.testing.assert_array_equal(found[1], true[1])


def _is_exact(found, true):
    return bool((found[0].numpy() == true[0]).all())


class Asked(tf.Module):
    """A search as an export holds it: every input of any size."""

    def __init__(self, search):
        super().__init__()
        self.search = search

    @tf.function(input_signature=[tf.TensorSpec([None, 32]), tf.TensorSpec([], tf.int32)])
    def plain(self, queries, k):
        return self.search(queries, k)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 32]),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, SIZE], tf.bool),
        ]
    )
    def barred(self, queries, k, excluded, allowed):
        return self.search(queries, k, excluded, allowed)


@pytest.fixture(scope="module")
def asked():
    """As configured by default: 219 partitions, of which 15 are searched."""
    return Asked(PartitionedSearch.from_vectors(VALUES, _settings()))


@pytest.fixture(scope="module")
def narrow():
    """One partition is searched, so that everything asks for more than it holds."""
    return Asked(PartitionedSearch.from_vectors(VALUES, _settings(partitioned_searched=1, partitioned_rescore=1)))


@pytest.fixture(scope="module")
def whole():
    """Every partition is searched."""
    return Asked(PartitionedSearch.from_vectors(VALUES, _settings(partitioned_searched=SIZE)))


def _restrictions(share, num_excluded=40):
    """The best are excluded, repeated and padded, a different number for each query; some are not allowed."""
    excluded = _truth(num_excluded)[0]
    excluded[:, 1] = excluded[:, 0]
    for place in range(NUM_QUERIES):
        excluded[place, 3 * place :] = -1
    return excluded, np.random.default_rng(1).random((NUM_QUERIES, SIZE)) < share


# ------------------------------------------------------------ answers


def test_what_it_finds(asked, narrow):
    found, true = asked.plain(QUERIES, 10), _truth(10)
    assert recall(found[0].numpy(), true[0]) >= 0.95
    scores = np.einsum("bd,bkd->bk", QUERIES, VALUES[found[0].numpy()], dtype=np.float64)
    np.testing.assert_array_equal(found[1], scores.astype(np.float32))
    assert not _is_exact(narrow.plain(QUERIES, 1), _truth(1)), "the best is not always in the best partition"


def test_all_partitions_find_what_sorting_finds(whole):
    for k in (1, 10, 500):
        _assert_same(whole.plain(QUERIES, k), _truth(k))


@pytest.mark.parametrize("k", [1, 7, 100, 1_000, SIZE])
def test_k_distinct_ones_whatever_the_searched_partitions_hold(narrow, k):
    rows, scores = narrow.plain(QUERIES, k)
    assert rows.shape == scores.shape == (NUM_QUERIES, k)
    assert all(len(set(each)) == k and min(each) >= 0 for each in rows.numpy().tolist())
    assert (np.diff(scores, axis=1) <= 0).all()


def test_more_than_there_are_is_padded(asked):
    _assert_same(asked.plain(QUERIES, SIZE + 5), _truth(SIZE + 5))


def test_no_query_and_no_result(asked):
    assert asked.plain(QUERIES[:0], 7)[0].shape == (0, 7)
    empty = np.zeros((0, 0), np.int32), np.zeros((0, SIZE), bool)
    assert asked.barred(QUERIES[:0], 7, *empty)[1].shape == (0, 7)
    assert asked.plain(QUERIES, 0)[0].shape == (NUM_QUERIES, 0)


def test_equal_candidates_come_in_order_of_rows():
    values = np.concatenate([VALUES[:900]] * 3)
    found = PartitionedSearch.from_vectors(values, _settings())(QUERIES, 30)
    np.testing.assert_array_equal(np.diff(found[0].numpy().reshape(NUM_QUERIES, 10, 3), axis=2), 900)


@pytest.mark.parametrize("size", [1, 2, 15, 70])
def test_small_catalogues(size):
    found = PartitionedSearch.from_vectors(VALUES[:size], _settings())(QUERIES, 20)
    _assert_same(found, _truth(20, values=VALUES[:size]))


# ------------------------------------------------------------ exclusions and masks


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.9])
def test_restricted_answers_are_those_of_sorting_what_is_left(whole, share):
    excluded, allowed = _restrictions(share)
    true = _truth(10, excluded, allowed)
    _assert_same(whole.barred(QUERIES, 10, excluded, allowed), true)
    if share > 0.5:
        assert not _is_exact(whole.barred(QUERIES, 10, np.full_like(excluded, -1), allowed), true)
        assert not _is_exact(whole.barred(QUERIES, 10, excluded, np.ones_like(allowed)), true)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.9])
def test_k_come_whenever_k_are_left(narrow, share):
    excluded, allowed = _restrictions(share)
    rows, true_rows = narrow.barred(QUERIES, 10, excluded, allowed)[0].numpy(), _truth(10, excluded, allowed)[0]
    np.testing.assert_array_equal((rows >= 0).sum(axis=1), (true_rows >= 0).sum(axis=1))
    for place in range(NUM_QUERIES):
        left = rows[place][rows[place] >= 0]
        assert len(set(left.tolist())) == len(left) and allowed[place, left].all()
        assert not set(left.tolist()) & set(excluded[place].tolist())


def test_a_mask_for_all_queries_is_as_one_for_each():
    search = PartitionedSearch.from_vectors(VALUES, _settings())
    allowed = np.arange(SIZE) % 3 == 0
    _assert_same(
        search(QUERIES, 10, None, tf.constant(allowed)),
        search(QUERIES, 10, None, tf.constant(np.tile(allowed, (NUM_QUERIES, 1)))),
    )


def test_everything_but_few_excluded(asked):
    allowed = np.ones((NUM_QUERIES, SIZE), bool)
    excluded = np.tile(np.random.default_rng(0).permutation(SIZE)[4:].astype(np.int32), (NUM_QUERIES, 1))
    _assert_same(asked.barred(QUERIES, 10, excluded, allowed), _truth(10, excluded))


# ------------------------------------------------------------ what is stored


@pytest.mark.parametrize(
    ("storage", "store"),
    [("float32", "none"), ("bfloat16", "float32"), ("int8", "float16"), ("int8", "int8"), ("int8", "none")],
)
def test_any_storage_finds_nearly_the_same(storage, store):
    settings = _settings(partitioned_storage=storage, store=store)
    search = Asked(PartitionedSearch.from_vectors(VALUES, settings))
    found, true = search.plain(QUERIES, 10), _truth(10)
    assert recall(found[0].numpy(), true[0]) >= 0.93
    np.testing.assert_allclose(found[1], true[1], rtol=0.1)
    every = search.plain(QUERIES, SIZE)
    assert all(sorted(rows) == list(range(SIZE)) for rows in every[0].numpy().tolist())


def test_from_an_index_without_what_it_has_forgotten():
    index = PartitionedIndex.build(vectors_of(VALUES), _settings())
    out = np.unique(_truth(5)[0])
    assert index.forget(out)
    search = Asked(PartitionedSearch.from_index(index))
    allowed = ~np.isin(np.arange(SIZE), out)
    for k in (10, 1_000):
        found = search.plain(QUERIES, k)
        assert not np.isin(found[0], out).any()
    _assert_same(search.plain(QUERIES, SIZE), _truth(SIZE, allowed=allowed))


# ------------------------------------------------------------ exported


def test_saved_and_moved_it_answers_the_same_by_stock_operations(asked, tmp_path):
    functions = {"plain": asked.plain, "barred": asked.barred}
    tf.saved_model.save(asked, str(tmp_path / "here"), signatures=functions)
    (tmp_path / "here").rename(tmp_path / "there")
    loaded = tf.saved_model.load(str(tmp_path / "there"))
    excluded, allowed = _restrictions(0.5)
    for k in (3, 100):
        _assert_same(loaded.plain(QUERIES, k), asked.plain(QUERIES, k))
        _assert_same(loaded.barred(QUERIES, k, excluded, allowed), asked.barred(QUERIES, k, excluded, allowed))
    assert not (tmp_path / "there" / "assets").is_dir() or not list((tmp_path / "there" / "assets").iterdir())
    graph = loaded.signatures["barred"].graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    ops = {node.op for node in nodes}
    assert {"MatMul", "TopKV2"} & ops and {op for op in ops if "PyFunc" in op or ">" in op} == set()

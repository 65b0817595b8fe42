import sys

import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.planted import clustered
from tfrs_models.indexes.scann_index import scann_available
from tfrs_models.saved_model import scann_search
from tfrs_models.saved_model.exact_search import ExactSearch
from tfrs_models.saved_model.scann_search import ScannSearch, scann_ops

SIZE = 2_000
LEAST_RECALL = 0.7
"""Far above chance, and below what any of ScaNN's random builds gives with so few partitions and candidates."""
needs_scann = pytest.mark.skipif(not scann_available(), reason="the package scann exists for Linux only")


def settings(**more):
    return config.Index(backend="scann", scann_brute_force_below=1, scann_leaves=40, **more)


@pytest.fixture(scope="module")
def vectors():
    values, queries = clustered(SIZE, 12)
    return values, tf.constant(queries[:, None, :])


@pytest.fixture(scope="module")
def exact(vectors):
    return ExactSearch(vectors[0])


@pytest.fixture(scope="module")
def tree(vectors):
    """Few leaves searched and little rescored, so that all that goes wrong in ScaNN happens."""
    return ScannSearch(vectors[0], settings(scann_leaves_to_search=1, scann_rescore=1))


@pytest.fixture(scope="module")
def barred():
    generator = np.random.default_rng(0)
    return generator.integers(-1, SIZE, (12, 60)).astype(np.int32), generator.random((12, SIZE)) < 0.5


def recall(found, expected):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.numpy(), expected.numpy(), strict=True)])


@needs_scann
@pytest.mark.parametrize("brute_force_below", [1, SIZE + 1])
@pytest.mark.parametrize("with_barred", [False, True])
def test_where_all_leaves_are_searched_answers_are_exact(vectors, exact, barred, brute_force_below, with_barred):
    more = {"scann_leaves_to_search": 40, "scann_rescore": SIZE, "scann_brute_force_below": brute_force_below}
    search = ScannSearch(vectors[0], config.Index(backend="scann", scann_leaves=40, **more))
    assert search.structure.kind == ("tree" if brute_force_below == 1 else "brute_force")
    excluded, allowed = barred if with_barred else (None, None)
    for k in (1, 100, SIZE):
        found, expected = (x(vectors[1], tf.constant(k), excluded, allowed) for x in (search, exact))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@needs_scann
@pytest.mark.parametrize("k", [1, 30, 300])
def test_k_distinct_results_come_and_none_that_is_excluded(vectors, exact, tree, barred, k):
    excluded, allowed = barred
    rows, scores = tree(vectors[1], tf.constant(k), excluded, allowed)
    for place, found in enumerate(rows.numpy()):
        assert found.min() >= 0 and len(set(found.tolist())) == k
        assert not set(found.tolist()) & set(excluded[place].tolist())
        assert allowed[place][found].all()
    assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()
    assert recall(rows, exact(vectors[1], tf.constant(k), excluded, allowed)[0]) > LEAST_RECALL


@needs_scann
def test_several_vectors_of_a_query_give_each_candidate_once(vectors, exact, tree):
    queries = tf.reshape(vectors[1], [4, 3, -1])
    rows, _ = tree(queries, tf.constant(20))
    assert all(len(set(found.tolist())) == 20 for found in rows.numpy())
    assert recall(rows, exact(queries, tf.constant(20))[0]) > LEAST_RECALL


@needs_scann
def test_a_batch_may_be_empty(vectors, tree):
    rows, scores = tree(vectors[1][:0], tf.constant(5))
    assert rows.shape == scores.shape == (0, 5)


@needs_scann
def test_without_soar_twice_as_many_leaves_are_searched(vectors):
    leaves = [
        int(ScannSearch(vectors[0], settings(scann_leaves_to_search=7, scann_soar=soar))._leaves(tf.constant(10)))
        for soar in (True, False)
    ]
    assert leaves == [14, 7]


@needs_scann
def test_too_few_proposals_are_completed(vectors, tree, monkeypatch):
    monkeypatch.setattr(tree, "_leaves", lambda depth: 1)  # what ScaNN does when it is asked for more than it holds
    rows, _ = tree(vectors[1], tf.constant(240))
    assert all(len(set(found.tolist())) == 240 and found.min() >= 0 for found in rows.numpy())
    monkeypatch.setattr(tree, "_completed", lambda found, *_: found)
    assert (tree(vectors[1], tf.constant(240))[0].numpy() == -1).any(), "without completion some are missing"


@needs_scann
def test_what_scann_refuses_is_said(vectors, monkeypatch):
    class Refusing:
        """Stands for ScaNN's builder."""

        def __getattr__(self, name):
            return lambda *_, **__: self

        def build(self):
            raise tf.errors.InvalidArgumentError(None, None, "no")

    monkeypatch.setattr(scann_search, "scann_ops", Refusing)
    with pytest.raises(UserError, match=r"ScaNN cannot build an index of 2,000 vectors \(no\)"):
        ScannSearch(vectors[0], settings())


def test_without_the_package_the_user_is_told(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scann"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(UserError, match="exist for Linux only: use --kind=exact"):
        scann_ops()

import sys

import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.conformance import IndexConformance
from retrieval_contract.indexes.planted import clustered, vectors_of
from tfrs_models.indexes.scann_index import ScannIndex, scann_available

needs_scann = pytest.mark.skipif(not scann_available(), reason="the package scann exists for Linux only")


def _tree(**more):
    return config.Index(backend="scann", scann_brute_force_below=1, **more)


@needs_scann
class TestBruteForce(IndexConformance):
    index_class = ScannIndex
    settings = config.Index(backend="scann")


@needs_scann
class TestTree(IndexConformance):
    index_class = ScannIndex
    settings = _tree(scann_leaves_to_search=16)
    least_recall = 0.95
    least_recall_sift = 0.9


@needs_scann
def test_sizes_decide_between_search_of_all_and_a_tree():
    vectors = vectors_of(clustered(1_000, 1)[0])
    default = ScannIndex.build(vectors, config.Index(backend="scann"))
    assert not default.is_tree
    tree = ScannIndex.build(vectors, config.Index(backend="scann", scann_brute_force_below=1_000))
    assert (tree.is_tree, tree.num_leaves, tree.leaves_to_search(1)) == (True, 32, 3)


@needs_scann
def test_a_deep_search_looks_through_more_leaves():
    vectors = vectors_of(clustered(1_000, 1)[0])
    tree = ScannIndex.build(vectors, _tree(scann_leaves=20, scann_leaves_to_search=2))
    assert [tree.leaves_to_search(depth) for depth in (1, 10, 500)] == [2, 4, 20]


@needs_scann
@pytest.mark.parametrize("num_candidates", [1, 15, 16, 17, 100])
def test_fewer_candidates_than_leaves(num_candidates):
    values_ND, queries_BD = clustered(1_000, 3)
    index = ScannIndex.build(vectors_of(values_ND[:num_candidates]), _tree(scann_leaves=500))
    found = index.search(queries_BD, num_candidates, weights_digest="d" * 64)
    np.testing.assert_array_equal(np.sort(found.rows), np.tile(np.arange(num_candidates), (3, 1)))


@needs_scann
@pytest.mark.parametrize("dim", [1, 2, 3, 17])
def test_any_width(dim):
    generator = np.random.default_rng(0)
    values_ND, queries_BD = (generator.standard_normal((n, dim)).astype(np.float32) for n in (500, 20))
    index = ScannIndex.build(vectors_of(values_ND), _tree(scann_leaves_to_search=22))
    found = index.search(queries_BD, 1, weights_digest="d" * 64)
    assert (found.rows[:, 0] == (queries_BD @ values_ND.T).argmax(axis=1)).mean() > 0.9


@needs_scann
def test_more_than_is_rescored_and_more_than_the_leaves_hold():
    values_ND, queries_BD = clustered(1_000, 5)
    index = ScannIndex.build(vectors_of(values_ND), _tree(scann_leaves_to_search=1, scann_rescore=5))
    index.leaves_to_search = lambda depth: 1  # what ScaNN does when it is asked for more than it holds
    rows_BM = index._propose(queries_BD, 400, None).rows
    assert (rows_BM == -1).any(), "ScaNN repeats rows here, and gives them no score"
    for rows in rows_BM:
        assert len(set(rows[rows >= 0].tolist())) == (rows >= 0).sum() >= 1


@needs_scann
def test_a_pickle_in_the_folder_is_refused_before_it_runs(tmp_path):
    ScannIndex.build(vectors_of(clustered(1_000, 1)[0]), _tree()).save(tmp_path / "saved")
    (tmp_path / "saved" / "scann_docids.pkl").write_bytes(b"cbuiltins\nexit\n(I3\ntR.")
    with pytest.raises(UserError, match="unknown pickle"):
        ScannIndex.load(tmp_path / "saved")


def test_without_the_package_the_user_is_told(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scann"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(UserError, match="exists for Linux only: use --backend=exact here"):
        ScannIndex.build(vectors_of(clustered(1_000, 1)[0]), config.Index(backend="scann"))

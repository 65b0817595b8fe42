import numpy as np
import pytest

from retrieval_contract.indexes import brute_force
from retrieval_contract.indexes.brute_force import exact_top_k, inner_products, rank
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.stored import StoredVectors


def _none(num_queries, size):
    return Excluded.from_rows(None, num_queries=num_queries, size=size)


def _near_ties():
    """2,000 candidates whose scores differ by less than a float32 matrix product errs."""
    generator = np.random.default_rng(0)
    values_ND = generator.standard_normal((1, 64)) + 1e-7 * generator.standard_normal((2_000, 64))
    return values_ND.astype(np.float32), generator.standard_normal((20, 64)).astype(np.float32)


def _sorted_truth(values_ND, queries_BD, k):
    scores_BN = np.einsum("bd,nd->bn", queries_BD.astype(np.float64), values_ND.astype(np.float64)).astype(np.float32)
    return np.argsort(-scores_BN, axis=1, kind="stable")[:, :k]


def _search(values_ND, queries_BD, k):
    excluded = _none(len(queries_BD), len(values_ND))
    return exact_top_k(StoredVectors.keep(values_ND, "float32"), queries_BD, k, excluded)


def test_near_ties_are_ranked_by_their_exact_scores():
    values_ND, queries_BD = _near_ties()
    np.testing.assert_array_equal(_search(values_ND, queries_BD, 50).rows, _sorted_truth(values_ND, queries_BD, 50))


def test_near_ties_notices_a_search_without_margin(monkeypatch):
    monkeypatch.setattr(brute_force, "_margin", lambda queries_BD, largest_norm: np.zeros(len(queries_BD), np.float32))
    values_ND, queries_BD = _near_ties()
    assert (_search(values_ND, queries_BD, 50).rows != _sorted_truth(values_ND, queries_BD, 50)).any()


def test_chunks_do_not_show(monkeypatch):
    values_ND, queries_BD = _near_ties()
    whole = _search(values_ND, queries_BD, 7)
    monkeypatch.setattr(brute_force, "CHUNK_BYTES", 3 * 4 * len(values_ND))
    parts = _search(values_ND, queries_BD, 7)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.scores, parts.scores)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-20, 1e18])
def test_very_small_and_very_large_vectors(scale):
    generator = np.random.default_rng(1)
    values_ND = (generator.standard_normal((300, 8)) * scale).astype(np.float32)
    queries_BD = (generator.standard_normal((5, 8)) * scale).astype(np.float32)
    np.testing.assert_array_equal(_search(values_ND, queries_BD, 20).rows, _sorted_truth(values_ND, queries_BD, 20))


def test_inner_products_of_given_rows():
    values_ND = np.array([[1, 0], [0, 2], [3, 3]], np.float32)
    queries_BD = np.array([[1, 10], [-1, 0]], np.float32)
    stored = StoredVectors.keep(values_ND, "float32")
    scores_BM = inner_products(stored, queries_BD, np.array([[2, -1, 0], [1, 0, -1]], np.int32))
    np.testing.assert_array_equal(scores_BM, np.array([[33, -np.inf, 1], [0, -1, -np.inf]], np.float32))


@pytest.mark.parametrize("dim", [1, 3, 17, 64])
def test_a_query_alone_is_scored_as_among_others_to_the_bit(dim):
    generator = np.random.default_rng(2)
    values_ND, queries_BD = (generator.standard_normal((n, dim)).astype(np.float32) for n in (400, 9))
    stored, rows_BM = StoredVectors.keep(values_ND, "float32"), generator.integers(400, size=(9, 300)).astype(np.int32)
    alone = [inner_products(stored, queries_BD[b : b + 1], rows_BM[b : b + 1])[0] for b in range(9)]
    np.testing.assert_array_equal(alone, inner_products(stored, queries_BD, rows_BM))


def _ranked(rows, k, excluded_rows=()):
    """Rank proposals for one query over five candidates with scores 5, 4, 4, 4, 1."""
    stored = StoredVectors.keep(np.array([[5], [4], [4], [4], [1]], np.float32), "float32")
    excluded = Excluded.from_rows([np.array(excluded_rows, np.int32)], num_queries=1, size=5)
    top, settled_B = rank(stored, np.ones((1, 1), np.float32), np.array([rows], np.int32), k, excluded)
    return top.rows[0].tolist(), bool(settled_B[0])


def test_rank_sorts_proposals_and_counts_repeated_ones_once():
    assert _ranked([4, 3, 0, 3, -1, 0], 3) == ([0, 3, 4], False)
    assert _ranked([4, 3, 0, 3, -1, 1], 3) == ([0, 1, 3], True)


def test_rank_is_unsettled_where_too_few_were_proposed_or_the_last_place_is_tied():
    assert _ranked([0, 2], 3) == ([0, 2, -1], False)
    assert _ranked([0, 3, 2], 2) == ([0, 2], False), "row 1 was not proposed and ties"
    assert _ranked([0, 3, 2, 4], 2) == ([0, 2], True), "by what was proposed, nothing else can tie"
    assert _ranked([0, 1, 2, 3, 4], 2) == ([0, 1], True)


def test_rank_is_settled_where_all_that_is_left_was_proposed():
    assert _ranked([0, 1, 2], 3, excluded_rows=[0, 3, 4]) == ([1, 2, -1], True)
    assert _ranked([0], 2, excluded_rows=[0, 1, 2, 3, 4]) == ([-1, -1], True)


@pytest.mark.parametrize("store", ["float32", "int8"])
def test_many_queries_over_a_large_catalogue_get_what_each_alone_gets(store):
    generator = np.random.default_rng(3)
    values_ND, queries_BD = (generator.integers(-2, 3, (n, 3)).astype(np.float32) / 3 for n in (16_500, 70))
    stored, allowed_N = StoredVectors.keep(values_ND, store), generator.random(16_500) < 0.9
    rows = [generator.integers(16_500, size=200).astype(np.int32) for _ in queries_BD]
    excluded = Excluded.from_rows(rows, num_queries=70, size=16_500)
    together = exact_top_k(stored, queries_BD, 30, excluded, allowed_N)
    for place in range(70):
        at = np.array([place])
        alone = exact_top_k(stored, queries_BD[at], 30, excluded.at(at), allowed_N)
        np.testing.assert_array_equal(together.rows[at], alone.rows)
        np.testing.assert_array_equal(together.scores[at], alone.scores)
    everything = exact_top_k(stored, queries_BD, 30, excluded)
    assert (everything.rows != together.rows).any(), "what is not allowed must be missed"

"""Tiles rank as whole rows do: ties, exclusions, several relevant candidates, models that score alike."""

import numpy as np
import pytest
import scipy.sparse

from retrieval_contract.evaluation import best_of_tiles, ranking, tiled_ranking
from retrieval_contract.evaluation.few_ahead import FewAhead, few_are_ahead
from retrieval_contract.evaluation.planted import draw_pairs, exact_scores, nothing
from retrieval_contract.evaluation.ranking import rank_relevant
from retrieval_contract.evaluation.scorers import FunctionScorer, VectorScorer
from retrieval_contract.evaluation.tiled_ranking import TiledRanking
from retrieval_contract.evaluation.tiles import CANDIDATES

SIZE, QUERIES = 16_500, 12
"""Candidates: enough for tiles, and not a whole number of them."""


def _vectors(levels, shape=(QUERIES, 4), seed=0):
    generator = np.random.default_rng(seed)
    if levels is None:
        return tuple(generator.standard_normal(size).astype(np.float32) for size in (shape, (SIZE, 4)))
    drawn = (generator.integers(-levels, levels + 1, size) for size in (shape, (SIZE, 4)))
    return tuple(values.astype(np.float32) / 7 for values in drawn)


def _asked(share, seed=1):
    generator = np.random.default_rng(seed)
    excluded = draw_pairs(generator, QUERIES, SIZE, share, without=nothing(QUERIES, SIZE))
    return draw_pairs(generator, QUERIES, SIZE, 0.0002, without=excluded), excluded


def _ranked(scorer, relevant, excluded, k):
    found = np.full((QUERIES, k), -2, np.int32)

    def visit(positions, best_BK):
        found[positions] = best_BK

    return rank_relevant(scorer, relevant, excluded=excluded, num_best=k, visit=visit), found


def _by_rows(query_vectors, candidate_vectors):
    scores = exact_scores(query_vectors, candidate_vectors)
    return FunctionScorer(lambda positions: scores[positions], SIZE, name="exact scores")


def _compare(query_vectors, candidate_vectors, share, k):
    relevant, excluded = _asked(share)
    ours = _ranked(VectorScorer(query_vectors, candidate_vectors), relevant, excluded, k)
    by_rows = _ranked(_by_rows(query_vectors, candidate_vectors), relevant, excluded, k)
    return [np.array_equal(*pair) for pair in zip(ours, by_rows, strict=True)]


@pytest.fixture(autouse=True, params=[None, False, True], ids=["as judged", "counted", "listed"])
def in_tiles(request, monkeypatch):
    """Rank by tiles, each way, with bounds that rise many times; fail where nothing went so."""
    monkeypatch.setattr(best_of_tiles, "LEAST_NEW", 100)
    if request.param is not None:
        judged = lambda scorer, relevant, own: np.full(relevant.shape[0], request.param)  # noqa: E731
        monkeypatch.setattr(ranking, "few_are_ahead", judged)
    seen = set()

    def noted(kind, rank):
        return lambda *arguments: seen.add(kind) or rank(*arguments)

    for kind in (TiledRanking, FewAhead):
        monkeypatch.setattr(kind, "rank", noted(kind, kind.rank))
    yield
    assert seen, "the catalogue was taken in whole rows"
    assert request.param is None or seen == {FewAhead if request.param else TiledRanking}


@pytest.mark.parametrize("shape", [(QUERIES, 4), (QUERIES, 3, 4)])
@pytest.mark.parametrize(("levels", "share", "k"), [(None, 0.0, 10), (2, 0.1, 100), (1, 0.5, 250), (None, 0.99, 256)])
def test_ranks_and_best_are_those_of_whole_rows(shape, levels, share, k):
    assert _compare(*_vectors(levels, shape), share, k) == [True, True]


@pytest.mark.parametrize("descending", [True, False])
def test_catalogue_in_the_order_of_its_scores(descending):
    queries, candidates = _vectors(None)
    queries[:] = queries[0] * np.linspace(0.5, 2, QUERIES, dtype=np.float32)[:, None]
    order = np.argsort(candidates @ queries[0])
    assert _compare(queries, candidates[order[::-1] if descending else order], 0.01, 50) == [True, True]


def test_model_that_scores_alike_is_ranked_by_row_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(best_of_tiles, "MOST_HELD", 100)
    monkeypatch.setattr(tiled_ranking, "MOST_NEAR", 100)
    zeros = np.zeros((QUERIES, 4), np.float32), np.zeros((SIZE, 4), np.float32)
    assert _compare(*zeros, 0.01, 20) == [True, True]


def test_ranks_notice_a_comparison_without_margin(monkeypatch):
    generator = np.random.default_rng(0)
    base = generator.standard_normal((1, 64))
    candidates = (base + 1e-7 * generator.standard_normal((SIZE, 64))).astype(np.float32)
    queries = generator.standard_normal((QUERIES, 64)).astype(np.float32)
    assert _compare(queries, candidates, 0.0, 50) == [True, True]
    monkeypatch.setattr(VectorScorer, "margins", lambda self, at: np.zeros(len(at), np.float32))
    assert _compare(queries, candidates, 0.0, 50) == [False, False]


def test_bytes_that_are_added_do_not_overflow():
    """Everyone is ahead of the last, in more tiles than a byte can count."""
    size = 270 * CANDIDATES
    candidates = np.arange(size, dtype=np.float32)[:, None]
    relevant = scipy.sparse.csr_matrix((np.ones(1, np.bool_), np.zeros(1, np.int32), [0, 1]), shape=(1, size))
    assert rank_relevant(VectorScorer(np.ones((1, 1), np.float32), candidates), relevant).tolist() == [size]


def test_few_ahead_is_judged_by_a_sample():
    """Of a catalogue in the order of its scores: the last percents are ahead of few, the first of nearly all."""
    candidates = np.arange(SIZE, 0, -1, dtype=np.float32)[:, None]
    rows = np.array([0, SIZE // 200, SIZE // 10, SIZE // 2, 3, SIZE - 1], np.int32)
    relevant = scipy.sparse.csr_matrix((np.ones(6, np.bool_), rows, [0, 1, 2, 3, 4, 4, 6]), shape=(6, SIZE))
    scorer = VectorScorer(np.ones((6, 1), np.float32), candidates)
    judged = few_are_ahead(scorer, relevant, candidates[rows, 0])
    assert judged.tolist() == [True, True, False, False, True, False]
    rank_relevant(scorer, relevant)

import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.live_recall import FEWEST, NUM_QUERIES, RecentQueries, recall
from retrieval_contract.indexes.planted import clustered, vectors_of


@pytest.fixture
def asked():
    values_ND, queries_BD = clustered(4_000, 70)
    return ExactIndex.build(vectors_of(values_ND), config.Index()), queries_BD


def test_exact_search_finds_all_and_one_that_finds_the_half_is_given_the_half(asked, monkeypatch):
    index, queries_BD = asked
    assert recall(index, queries_BD) == 1.0
    search = ExactIndex.search

    def half(self, *arguments, **more):
        top = search(self, *arguments, **more)
        top.rows[:, ::2] = -1
        return top

    monkeypatch.setattr(ExactIndex, "search", half)
    assert recall(index, queries_BD) == 0.5


def test_forgotten_rows_are_not_asked_for(asked):
    index, queries_BD = asked
    index.forget(np.arange(0, 4_000, 3, dtype=np.int32))
    assert recall(index, queries_BD) == 1.0
    assert not (RecentQueries().taken(index)[:, None] == index.vectors(np.arange(0, 4_000, 3))[None]).all(2).any()


def test_the_last_queries_are_taken_or_candidates_where_there_are_few(asked):
    index, queries_BD = asked
    recent = RecentQueries()
    recent.note(queries_BD[: FEWEST - 1])
    assert recent.taken(index).shape == (NUM_QUERIES, 32)
    recent.note(queries_BD[:1, None])
    np.testing.assert_array_equal(recent.taken(index), queries_BD[[*range(FEWEST - 1), 0]])
    recent.note(np.zeros((1_000, 32), np.float32))
    assert recent.taken(index).shape == (NUM_QUERIES, 32) and not recent.taken(index).any()

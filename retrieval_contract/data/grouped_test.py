import numpy as np
import pytest

from retrieval_contract.data.grouped import GroupedCandidates
from retrieval_contract.sampling.streams import stream, uniforms

LISTS = {0: [], 1: [7, 3, 7], 2: [], 3: [5], 4: []}
"""Empty lists at both ends, and a candidate that stands twice in one."""


@pytest.fixture
def grouped():
    # Not sorted by query: rows of a query keep the order given.
    return GroupedCandidates(np.array([1, 3, 1, 1]), np.array([7, 5, 3, 7], np.int32), num_queries=5)


def test_pairs_are_the_lists_in_the_order_asked(grouped):
    asked = np.array([3, 0, 1, 1, 4], np.int32)
    places, rows = grouped.pairs(asked)
    assert places.tolist() == [0, 2, 2, 2, 3, 3, 3]
    assert rows.tolist() == [5, 7, 3, 7, 7, 3, 7]
    assert (places.dtype, rows.dtype) == (np.int32, np.int32)
    assert [part.tolist() for part in grouped.pairs(np.array([0, 4], np.int32))] == [[], []]


def test_draws_are_even_over_a_list_and_nobody_from_an_empty_one(grouped):
    queries = np.tile(np.arange(5, dtype=np.int32), 6_000)
    rows = grouped.drawn(queries, uniforms(stream(0), len(queries)))
    assert rows.dtype == np.int32
    for query, wanted in LISTS.items():
        got = rows[queries == query]
        assert set(got.tolist()) == (set(wanted) or {-1})
    # 7 stands twice in three places.
    assert (rows[queries == 1] == 7).mean() == pytest.approx(2 / 3, abs=0.03)


def test_the_largest_draw_stays_inside_its_list(grouped):
    largest = np.full(5, 1 - 2.0**-53)
    assert grouped.drawn(np.arange(5, dtype=np.int32), largest).tolist() == [-1, 7, -1, 5, -1]


def test_probability_is_that_of_a_draw_for_an_example(grouped):
    num_examples = np.array([2, 5, 0, 3, 0])
    probability = grouped.probability(num_examples, num_candidates=9)
    wanted = np.zeros(9)
    wanted[[7, 3, 5]] = [0.5 * 2 / 3, 0.5 / 3, 0.3]
    np.testing.assert_allclose(probability, wanted, rtol=1e-12)
    queries = np.repeat(np.arange(5, dtype=np.int32), num_examples * 4_000)
    rows = grouped.drawn(queries, uniforms(stream(1), len(queries)))
    np.testing.assert_allclose(np.bincount(rows[rows >= 0], minlength=9) / len(rows), wanted, atol=0.01)


def test_no_list_at_all():
    nothing = GroupedCandidates(np.empty(0, np.int64), np.empty(0, np.int32), num_queries=3)
    assert nothing.num_pairs == 0 and nothing.empty.all()
    assert nothing.drawn(np.array([0, 2], np.int32), np.zeros(2)).tolist() == [-1, -1]
    assert not nothing.probability(np.array([1, 1, 1]), num_candidates=4).any()
    assert nothing.pairs(np.array([1], np.int32))[1].tolist() == []

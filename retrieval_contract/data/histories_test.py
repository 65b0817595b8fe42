import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_contract.data.histories import NOBODY, Histories


def histories(query_rows, candidate_rows, times, num_queries=6):
    arrays = np.array(query_rows, np.int32), np.array(candidate_rows, np.int32), np.array(times, np.int64)
    return Histories(*arrays, num_queries=num_queries)


def brute_force(query_rows, candidate_rows, times, query, time, max_length):
    """The definition, row by row."""
    rows = list(zip(query_rows, times, candidate_rows, strict=True))
    earlier = [(at, place, row) for place, (who, at, row) in enumerate(rows) if who == query and at < time]
    kept = [row for _, _, row in sorted(earlier)][-max_length:]
    return kept + [NOBODY] * (max_length - len(kept))


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(-3, 6)), max_size=40),
    targets=st.lists(st.tuples(st.integers(0, 5), st.integers(-5, 9)), min_size=1, max_size=10),
    max_length=st.integers(1, 7),
)
def test_equals_the_definition(rows, targets, max_length):
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    queries, times = (np.array(column) for column in zip(*targets, strict=True))
    got = histories(*columns).before(queries.astype(np.int32), times.astype(np.int64), max_length)
    assert got.dtype == np.int32
    assert got.tolist() == [brute_force(*columns, query, time, max_length) for query, time in targets]


def test_own_ends_are_those_before_each_rows_own_time():
    draw = np.random.default_rng(1)
    query_rows, times = draw.integers(5, size=200).astype(np.int32), draw.integers(30, size=200)
    mine = histories(query_rows, range(200), times)
    assert mine.own_ends.tolist() == mine.ends_before(query_rows, times).tolist()


def assert_no_leak(before):
    """Plant a candidate that appears at and after each target's moment only, and look for it in the history.

    Candidates 0 to 9 are met at times 0 to 9, then 100 + t at time t + 10, with a twin of every row in the same moment.
    """
    times = np.repeat(np.arange(10), 2)
    for query in range(3):
        for target in range(1, 11):
            row = before(np.array([query], np.int32), np.array([target], np.int64), 20)[0]
            met = row[row != NOBODY]
            assert met.size == 2 * target, f"{met.size} rows before time {target}, expected {2 * target}"
            assert times[met % 20].max() < target, f"a row at or after time {target} is in its history"
            assert (met // 20 == query).all(), "another query's row is in the history"


def planted():
    """Three queries with two rows at each of ten moments, given in no order; candidate 20 q + 2 t (+ 1) at time t."""
    candidates = np.random.default_rng(0).permutation(60)
    return histories(candidates // 20, candidates, candidates % 20 // 2)


def test_no_row_at_or_after_the_targets_time_is_in_its_history():
    assert_no_leak(planted().before)


def test_leak_detector_notices_a_comparison_that_is_off_by_one():
    def at_or_before(query_rows, times, max_length):
        return planted().before(query_rows, times + 1, max_length)

    with pytest.raises(AssertionError, match="before time 1, expected 2"):
        assert_no_leak(at_or_before)


def test_leak_detector_notices_histories_of_everything():
    everything = planted()

    def after_all(query_rows, times, max_length):
        return everything.window(query_rows, everything.ends(query_rows), max_length)

    with pytest.raises(AssertionError, match="expected"):
        assert_no_leak(after_all)


def test_leak_detector_notices_a_neighbours_rows():
    mine = planted()

    def neighbours(query_rows, times, max_length):
        return mine.before((query_rows + 1) % 3, times, max_length)

    with pytest.raises(AssertionError, match="another query"):
        assert_no_leak(neighbours)


def test_the_latest_are_kept_oldest_first_and_padded_behind():
    mine = histories([0, 0, 0, 1], [5, 6, 7, 8], [3, 1, 2, 0])
    assert mine.before(np.array([0, 0, 1, 2], np.int32), np.array([9, 3, 0, 9]), 2).tolist() == [
        [7, 5], [6, 7], [NOBODY] * 2, [NOBODY] * 2
    ]  # fmt: skip


def test_ends_give_everything_a_query_met():
    mine = histories([1, 0, 1], [5, 6, 7], [3, 1, 2])
    rows = np.array([0, 1, 5], np.int32)
    assert mine.window(rows, mine.ends(rows), 3).tolist() == [[6, -1, -1], [7, 5, -1], [-1, -1, -1]]


def test_times_far_outside_do_not_overflow():
    mine = histories([0, 1], [5, 6], [-(2**62), 2**62])
    rows, times = np.array([0, 1, 1], np.int32), np.array([2**63 - 1, 2**62, 2**63 - 1])
    assert mine.before(rows, times, 1).tolist() == [[5], [-1], [6]]

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_contract.arrays import Interactions
from retrieval_contract.config import SplitRule
from retrieval_contract.data.split import split_interactions
from retrieval_contract.errors import UserError


def rows(times, query_rows=None, positive=None, *, has_timestamps=True, **columns):
    num = len(times)
    return Interactions(
        query_rows=np.array(query_rows if query_rows is not None else [0] * num, np.int32),
        candidate_rows=np.arange(num, dtype=np.int32),
        times=np.array(times, np.int64),
        positive=np.array(positive if positive is not None else [True] * num, np.bool_),
        weights=np.ones(num, np.float32),
        table=pa.table({"row": range(num), **columns}),
        has_timestamps=has_timestamps,
    )


def places(split):
    return split.train.tolist(), split.validation.tolist(), split.test.tolist()


def assert_disjoint_and_whole(split, num):
    parts = (split.train, split.validation, split.test)
    assert all((np.diff(part) > 0).all() for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(num))


TENTHS = SplitRule(validation_fraction=0.1, test_fraction=0.1)


def test_temporal_shares_and_order():
    assert places(split_interactions(rows([9, 1, 2, 3, 4, 5, 6, 7, 8, 0]), TENTHS)) == (
        [1, 2, 3, 4, 5, 6, 7, 9],
        [8],
        [0],
    )


@settings(max_examples=200, deadline=None)
@given(
    times=st.lists(st.integers(0, 12), min_size=4, max_size=60),
    validation=st.floats(0, 0.4),
    test=st.floats(0.05, 0.4),
)
def test_temporal_keeps_moments_together_and_parts_in_order(times, validation, test):
    interactions = rows(times)
    rule = SplitRule(validation_fraction=validation, test_fraction=test)
    if len(set(times)) == 1:
        with pytest.raises(UserError, match="leaves no row for test"):
            split_interactions(interactions, rule)
        return
    split = split_interactions(interactions, rule)
    assert_disjoint_and_whole(split, len(times))
    moments = [set(interactions.times[part].tolist()) for part in (split.train, split.validation, split.test)]
    assert max(moments[0]) < min(moments[1] | moments[2])
    if moments[1]:
        assert max(moments[1]) < min(moments[2])


def test_temporal_cut_is_the_nearest_change_of_time():
    times = [0] * 50 + [1] * 37 + [2] * 13
    rule = SplitRule(validation_fraction=0.0, test_fraction=0.1)
    split = split_interactions(rows(times), rule)
    assert (len(split.train), len(split.validation), len(split.test)) == (87, 0, 13)


def test_temporal_needs_timestamps():
    with pytest.raises(UserError, match="leave_one_out or random"):
        split_interactions(rows(range(10), has_timestamps=False), TENTHS)


LEAVE_ONE_OUT = SplitRule(kind="leave_one_out")


def test_leave_one_out_takes_the_last_two_positives_of_each_query():
    interactions = rows([5, 1, 3, 2, 9, 8, 7], query_rows=[0, 0, 0, 0, 1, 1, 1], has_timestamps=False)
    assert places(split_interactions(interactions, LEAVE_ONE_OUT)) == ([1, 3, 6], [2, 5], [0, 4])


def test_leave_one_out_without_validation_trains_on_the_last_but_one():
    rule = SplitRule(kind="leave_one_out", validation_fraction=0.0)
    interactions = rows([5, 1, 3, 2, 9, 8, 7], query_rows=[0, 0, 0, 0, 1, 1, 1], has_timestamps=False)
    assert places(split_interactions(interactions, rule)) == ([1, 2, 3, 5, 6], [], [0, 4])


def test_leave_one_out_lets_short_queries_train():
    interactions = rows([1, 2, 3, 1, 2, 1], query_rows=[0, 0, 0, 2, 2, 3])
    assert places(split_interactions(interactions, LEAVE_ONE_OUT)) == ([0, 3, 4, 5], [1], [2])


def test_leave_one_out_breaks_ties_by_the_source_order():
    assert places(split_interactions(rows([1, 1, 1, 1]), LEAVE_ONE_OUT)) == ([0, 1], [2], [3])


def test_leave_one_out_counts_positives_and_carries_the_others_along():
    positive = [False, True, False, True, True, False, True, False]
    split = split_interactions(rows(range(8), positive=positive), LEAVE_ONE_OUT)
    assert places(split) == ([0, 1, 2, 3], [4, 5], [6, 7])
    two_positives = rows(range(4), positive=[True, False, True, False])
    with pytest.raises(UserError, match="leaves no row for test"):
        split_interactions(two_positives, LEAVE_ONE_OUT)


def test_random_is_seeded_and_exact_in_number():
    interactions = rows(range(1000))
    first, again, other = (
        split_interactions(
            interactions, SplitRule(kind="random", validation_fraction=0.2, test_fraction=0.1, seed=seed)
        )
        for seed in (1, 1, 2)
    )
    assert [len(part) for part in (first.train, first.validation, first.test)] == [700, 200, 100]
    assert_disjoint_and_whole(first, 1000)
    assert places(first) == places(again)
    assert places(first) != places(other)
    assert 350 < first.test.mean() < 650


def test_random_draws_stay_what_they_were():
    split = split_interactions(
        rows(range(10)), SplitRule(kind="random", validation_fraction=0.2, test_fraction=0.2, seed=42)
    )
    assert places(split) == ([0, 1, 2, 4, 6, 8], [5, 9], [3, 7])


def test_column_decides():
    interactions = rows(range(5), split=["test", "train", "validation", "train", "test"])
    assert places(split_interactions(interactions, SplitRule(kind="column"))) == ([1, 3], [2], [0, 4])


@pytest.mark.parametrize("word", ["dev", None, "Train"])
def test_column_with_other_words_is_refused(word):
    interactions = rows(range(4), split=["train", "test", word, word])
    with pytest.raises(UserError, match=r"split .*column split, rows 2, 3\].*train, validation, test"):
        split_interactions(interactions, SplitRule(kind="column"))


def test_column_that_is_absent_is_named():
    with pytest.raises(UserError, match="no column 'fold'"):
        split_interactions(rows(range(4)), SplitRule(kind="column", column="fold"))


@pytest.mark.parametrize(("words", "part"), [(["train"] * 3, "test"), (["test"] * 3, "train")])
def test_an_empty_part_is_refused(words, part):
    with pytest.raises(UserError, match=f"leaves no row for {part}"):
        split_interactions(rows(range(3), split=words), SplitRule(kind="column"))


def test_random_split_of_too_few_rows_is_refused():
    with pytest.raises(UserError, match="leaves no row for train"):
        split_interactions(rows([1]), SplitRule(kind="random"))

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from retrieval_contract.data.crosses import cross_rows
from retrieval_contract.data.hashing import buckets_of


def test_a_cross_hashes_the_rows_in_decimal_with_an_x_between():
    rows = cross_rows([np.array([2, 1, 2]), np.array([30, 30, 4]), np.array([1, 1, 1])], 1_000)
    assert rows.dtype == np.int32
    assert rows.tolist() == (2 + buckets_of(["2x30x1", "1x30x1", "2x4x1"], 1_000)).tolist()


def test_digits_do_not_run_into_each_other():
    first, second = cross_rows([np.array([11, 1]), np.array([1, 11])], 10**6)
    assert first != second


PARTS = st.integers(2, 4).flatmap(
    lambda num: st.lists(st.tuples(*[st.sampled_from([1, 2, 3, 2**31 - 1])] * num), max_size=30)
)


@given(PARTS, st.integers(1, 50))
def test_any_rows_cross_as_one_by_one(combinations, num_buckets):
    num = len(combinations[0]) if combinations else 2
    parts = [np.array([line[place] for line in combinations], np.int64) for place in range(num)]
    texts = ["x".join(map(str, line)) for line in combinations]
    wanted = [2 + int(buckets_of([text], num_buckets)[0]) for text in texts]
    assert cross_rows(parts, num_buckets).tolist() == wanted
    assert cross_rows([np.tile(part, 40) for part in parts], num_buckets).tolist() == wanted * 40


@pytest.mark.parametrize("turn", [1, 7])
def test_a_row_crosses_alike_whatever_stands_beside_it(turn):
    draw = np.random.default_rng(0)
    parts = [draw.integers(1, 40, 200) for _ in range(3)]
    turned = [np.roll(part, turn) for part in parts]
    np.testing.assert_array_equal(cross_rows(turned, 100), np.roll(cross_rows(parts, 100), turn))

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.data.vocabulary import Vocabulary


def fit(values, counts, min_count=1, top=None):
    return Vocabulary.fit(pa.array(values, pa.string()), np.array(counts, np.int64), min_count=min_count, top=top)


def test_rows_go_by_falling_count_then_by_value():
    vocabulary = fit(["b", "a", "c", "b", "d"], [1, 2, 2, 3, 9])
    assert vocabulary.values == ("d", "b", "a", "c")
    assert vocabulary.size == 6


def test_order_is_by_code_point_and_not_by_the_order_of_rows():
    values = ["é", "z", "日本", "Z", "🎬", ""]
    shuffled = [values[i] for i in (3, 5, 0, 2, 4, 1)]
    assert fit(values, [1] * 6).values == fit(shuffled, [1] * 6).values == tuple(sorted(values))


def test_values_without_train_rows_are_left_out_and_unknown():
    vocabulary = fit(["seen", "never"], [3, 0])
    assert vocabulary.values == ("seen",)
    assert vocabulary.encode(pa.array(["never", "seen", None, "other"])).tolist() == [1, 2, 1, 1]


@pytest.mark.parametrize(("min_count", "values"), [(1, ("a", "b", "c")), (2, ("a", "b")), (3, ("a",)), (9, ())])
def test_min_count_keeps_values_that_reach_it(min_count, values):
    assert fit(["a", "b", "c", "a"], [3, 2, 1, 1], min_count).values == values


def test_missing_values_are_not_counted():
    assert fit(["a", None, "b"], [1, 5, 1]).values == ("a", "b")


def test_encoding_never_gives_the_padding_row_and_is_int32():
    rows = Vocabulary(("a",)).encode(pa.chunked_array([["a", "b"], [None]], pa.string()))
    assert rows.dtype == np.int32
    assert rows.tolist() == [2, 1, 1]
    assert Vocabulary(()).encode(pa.array(["a"])).tolist() == [1]


@pytest.mark.parametrize("num_values", [1, 3, 100, 5_000])
@pytest.mark.parametrize("num_asked", [0, 2, 64, 65, 1_000])
def test_few_values_are_looked_up_as_many_are(num_values, num_asked):
    vocabulary = Vocabulary(tuple(f"v{number}" for number in range(num_values)))
    asked = [None if number % 7 == 6 else f"v{number * 13 % (2 * num_values)}" for number in range(num_asked)]
    rows = vocabulary.encode(pa.array(asked, pa.string()))
    known = {value: row for row, value in enumerate(vocabulary.values, 2)}
    assert rows.dtype == np.int32
    assert rows.tolist() == [known.get(value, 1) for value in asked]


@pytest.mark.parametrize(("top", "values"), [(1, ("b",)), (2, ("b", "a")), (3, ("b", "a", "c")), (9, ("b", "a", "c"))])
def test_top_keeps_the_first_and_ties_go_by_value(top, values):
    assert fit(["c", "a", "b"], [1, 1, 2], top=top).values == values
    assert fit(["b", "c", "a"], [2, 1, 1], top=top).values == values


def test_min_count_and_top_act_together():
    assert fit(["a", "b", "c"], [3, 2, 1], min_count=2, top=3).values == ("a", "b")

import numpy as np
import pytest

from benchmarks.index_neighbours import interval, packed, packed_truth, recalls, unpacked, unpacked_truth


@pytest.fixture
def truth():
    generator = np.random.default_rng(0)
    return np.stack([generator.permutation(1_000_000)[:200] for _ in range(20)]).astype(np.int32)


def test_what_was_packed_comes_back(truth):
    found = truth[:, :100].copy()
    found[:, 50:] = truth[:, 60:110]
    found[3, 7], found[4, 9], found[5, 98:] = 999_999, 0, -1
    found[6] = np.arange(100)
    text = packed(found, truth)
    np.testing.assert_array_equal(unpacked(text, truth), found)
    assert (unpacked(text, truth[::-1].copy()) != found).any(), "the truth of other queries reads other rows"
    np.testing.assert_array_equal(unpacked_truth(packed_truth(truth), 20), truth)


def test_a_good_answer_is_short(truth):
    assert len(packed(truth[:, :100], truth)) < len(packed_truth(truth[:, :100])) / 20


def test_recall_looks_no_deeper_than_asked_on_either_side(truth):
    found = truth[:, :100].copy()
    found[:, [0, 99]] = found[:, [99, 0]]
    assert recalls(found, truth, 100).tolist() == [1.0] * 20
    assert recalls(found, truth, 10) == pytest.approx([0.9] * 20)
    found[:, 1:10] = found[:, :1]
    assert recalls(found, truth, 10) == pytest.approx([0.0] * 20), "one that is not true, ten times"
    found[:, :10] = truth[:, :1]
    assert recalls(found, truth, 10) == pytest.approx([0.1] * 20), "one that is true, ten times"


def test_the_interval_narrows_with_queries_and_is_repeated():
    generator = np.random.default_rng(0)
    few, many = (generator.normal(0.9, 0.1, size) for size in (50, 5_000))
    assert interval(few) == interval(few)
    low, high = interval(many)
    assert low < many.mean() < high and high - low == pytest.approx(2 * 1.96 * 0.1 / 5_000**0.5, rel=0.15)
    assert interval(few)[1] - interval(few)[0] > 5 * (high - low)

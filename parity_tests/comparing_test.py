import numpy as np
import pytest

from parity_tests.comparing import assert_same, worst_ratio
from parity_tests.tolerances import Rule

LOOSE = Rule(rtol=0.1, atol=0.5, reason="a test of the comparison itself")
EXACT = Rule(rtol=0, atol=0, exact=True, reason="a test of the comparison itself")


def test_the_edge_of_the_tolerance_passes_and_a_step_beyond_fails():
    assert_same([10.0, 0.0], [10.0, 0.0], [10.0, 0.0], LOOSE)
    assert_same([11.4, 0.4], [10.0, 0.0], [10.0, 0.0], LOOSE)
    with pytest.raises(AssertionError):
        assert_same([11.6, 0.0], [10.0, 0.0], [10.0, 0.0], LOOSE)


def test_each_pair_of_corners_is_compared():
    for corners in ([2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [-0.4, 0.4, 0.0]):
        with pytest.raises(AssertionError):
            assert_same(*corners, LOOSE)


def test_the_message_gives_the_worst_place_and_the_three_values():
    tf = {"a": np.zeros(3), "b": np.array([[0.0, 0.0], [0.75, 7.0]])}
    zeros = {"a": np.zeros(3), "b": np.zeros((2, 2))}
    with pytest.raises(AssertionError, match=r"b\[1, 1\].*tf np.float64\(7.0\).*tf against torch is 14 times"):
        assert_same(tf, zeros, zeros, LOOSE)


@pytest.mark.parametrize("corner", range(3))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_noticed(corner, bad):
    corners = [np.ones(3), np.ones(3), np.ones(3)]
    corners[corner][1] = bad
    with pytest.raises(AssertionError, match=r"value\[1\]"):
        assert_same(*corners, LOOSE)


def test_nan_is_not_the_same_as_nan_but_infinity_is_the_same_as_itself():
    with pytest.raises(AssertionError):
        assert_same([np.nan], [np.nan], [np.nan], LOOSE)
    assert_same([-np.inf], [-np.inf], [-np.inf], LOOSE)
    with pytest.raises(AssertionError):
        assert_same([-np.inf], [np.inf], [-np.inf], LOOSE)


def test_names_and_shapes_must_agree():
    with pytest.raises(AssertionError, match=r"torch lacks \['b'\]"):
        assert_same({"a": 1.0, "b": 1.0}, {"a": 1.0}, {"a": 1.0, "b": 1.0}, LOOSE)
    with pytest.raises(AssertionError, match=r"tf lacks \[\] and has \['b'\]"):
        assert_same({"a": 1.0, "b": 1.0}, {"a": 1.0}, {"a": 1.0}, LOOSE)
    with pytest.raises(AssertionError, match="shapes differ"):
        assert_same(np.ones((2, 1)), np.ones(2), np.ones(2), LOOSE)


def test_exact_looks_at_bytes_and_dtype():
    one = np.array([1.0, 0.0], np.float32)
    assert_same(one, one.copy(), one.copy(), EXACT)
    with pytest.raises(AssertionError, match=r"value\[1\].*bytes differ"):
        assert_same(one, one, np.array([1.0, -0.0], np.float32), EXACT)
    with pytest.raises(AssertionError, match="dtypes differ"):
        assert_same(one, one, one.astype(np.float64), EXACT)


def test_arrays_without_elements_agree():
    assert_same(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)), LOOSE)


def test_worst_ratio_is_one_at_the_edge():
    assert worst_ratio({"a": [1.0, 10.75]}, {"a": [1.0, 10.0]}, LOOSE) == 0.5

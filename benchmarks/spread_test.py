"""Intervals hold what they should as often as they say, and the words follow them."""

import numpy as np
import pytest

from benchmarks.spread import Ratio, paired_ratio, ratio, spread


def test_ratio_of_known_medians():
    assert paired_ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0]) == Ratio(2.0, 1.0, 3.0)
    assert ratio([3.0, 3.0], [2.0]) == Ratio(1.5, 1.5, 1.5)


def test_few_times_promise_nothing_but_what_was_seen():
    assert ratio([3.0, 4.0, 6.0], [1.0, 2.0]) == Ratio(4 / 1.5, 1.5, 6.0)
    assert not ratio([1.5, 1.4, 1.6, 1.5, 2.0], [1.0, 1.5, 1.0, 1.1, 1.0]).differs


def test_what_slows_both_of_a_pair_leaves_the_paired_ratio_alone():
    slowness = np.array([1.0, 7.0, 1.3, 2.0, 5.0, 1.1, 3.0])
    found = paired_ratio((2 * slowness).tolist(), slowness.tolist())
    assert found.value == found.low == found.high == 2.0
    unpaired = ratio((2 * slowness).tolist(), slowness.tolist())
    assert unpaired.low < 1 < unpaired.high


@pytest.mark.parametrize("num_turns", [6, 11, 25])
def test_interval_of_order_statistics_holds_the_median_in_95_of_100(num_turns):
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(1_000):
        found = paired_ratio(np.exp(generator.normal(size=num_turns)).tolist(), [1.0] * num_turns)
        held += found.low <= 1 <= found.high
    assert 940 <= held <= 995


def test_bootstrap_holds_the_ratio_of_medians_and_notices_a_difference():
    generator = np.random.default_rng(2)
    held = differs = 0
    for _ in range(40):
        slow, fast = (generator.normal(middle, 0.1, 20).tolist() for middle in (1.3, 1.0))
        found = ratio(slow, fast)
        held += found.low <= 1.3 <= found.high
        differs += found.differs
    assert held >= 35 and differs == 40


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Ratio(1.32, 1.28, 1.374), "1.32 [1.28, 1.37]"),
        (Ratio(0.99, 0.97, 1.02), "no difference (0.99 [0.97, 1.02])"),
        (Ratio(1.004, 1.001, 1.01), "no difference (1.00 [1.00, 1.01])"),
        (Ratio(57.34, 51.0, 160.2), "57.3 [51.0, 160]"),
        (Ratio(0.5, 0.4, 0.6), "0.50 [0.40, 0.60]"),
    ],
)
def test_words(found, said):
    assert found.says() == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([0.03, 0.04, 0.05], "40.0 ms (35.0 to 45.0)"),
        ([2.0], "2.00 s (2.00 to 2.00)"),
        ([150.0], "150 s (150 to 150)"),
        ([2e-6], "2.00 µs (2.00 to 2.00)"),
        ([0.0], "0 µs (0 to 0)"),
    ],
)
def test_spread(seconds, said):
    assert spread(seconds) == said


def test_turns_that_do_not_pair_are_our_mistake():
    with pytest.raises(AssertionError, match="2 turns beside 1"):
        paired_ratio([1.0, 2.0], [1.0])

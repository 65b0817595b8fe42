import math

import numpy as np
import pytest

from benchmarks.scale_estimate import fit, num_shards


def test_a_power_law_is_found():
    found = fit([10, 1_000, 100_000], [3 * size**0.7 for size in (10, 1_000, 100_000)])
    assert (found.factor, found.exponent) == pytest.approx((3, 0.7)) and found.at(1e6) == pytest.approx(3 * 1e6**0.7)
    low, high = found.interval(1e6)
    assert low == pytest.approx(high, rel=1e-6), "nothing is left over"


def test_the_interval_holds_a_new_measurement_19_times_in_20_and_widens_with_distance():
    generator = np.random.default_rng(0)
    sizes = [10_000, 30_000, 100_000, 300_000]
    held = 0
    for _ in range(400):
        noise = np.exp(generator.normal(0, 0.1, 5))
        found = fit(sizes, [size * each for size, each in zip(sizes, noise[:4], strict=True)])
        low, high = found.interval(1_000_000)
        held += low <= 1_000_000 * noise[4] <= high
    assert 0.92 <= held / 400 <= 0.98
    nearer, farther = (found.interval(size) for size in (1e6, 1e9))
    assert farther[1] / farther[0] > nearer[1] / nearer[0]


def test_two_sizes_give_no_interval():
    found = fit([10, 100], [1, 5])
    assert found.interval(1_000) is None and math.isnan(found.spread)
    with pytest.raises(AssertionError, match="two points"):
        fit([10, 10], [1, 2])


def test_shards():
    assert [num_shards(size, 20, 0.5) for size in (1, 10, 10.1, 95)] == [1, 1, 2, 10]

import math

import numpy as np
import pytest

from benchmarks.scale_estimate import fit, fit_terms, num_shards


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


def test_known_powers_see_a_steep_term_that_a_power_law_misses():
    sizes = [10_000, 31_623, 100_000, 316_228, 1_000_000]

    def cost(size):
        return 0.3 + 2e-5 * size + 1e-8 * size**1.5

    found = fit_terms(sizes, [cost(size) for size in sizes], (0, 1, 1.5))
    assert found.factors == pytest.approx((0.3, 2e-5, 1e-8), rel=1e-3)
    assert found.at(1e8) == pytest.approx(cost(1e8), rel=1e-3)
    assert fit(sizes, [cost(size) for size in sizes]).at(1e8) < 0.5 * cost(1e8)
    none, all_of_it = fit_terms([100, 1_000, 10_000], [1, 10, 100], (0, 1)).factors
    assert none == pytest.approx(0, abs=1e-9) and all_of_it == pytest.approx(0.01)

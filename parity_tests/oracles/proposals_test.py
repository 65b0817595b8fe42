import numpy as np

from parity_tests.comparing import assert_same
from parity_tests.oracles.proposals import mixture_log_q
from parity_tests.tolerances import rule

COUNTS = np.array([3.0, 1.0, 0.0]) / 4
UNIFORM = np.full(3, 1 / 3)


def test_positives_and_uniform_columns_to_digits():
    """Eight positives and six random columns: (8 x 3/4 + 6/3) / 14 and so on."""
    got = mixture_log_q([(8, COUNTS), (6, UNIFORM)])
    assert_same(got, got, np.log([8 / 14, 4 / 14, 2 / 14]), rule("loss", "float64"))


def test_four_sources_sum_to_one():
    sources = [(8, COUNTS), (6, UNIFORM), (2, np.array([0.5, 0.25, 0.25])), (1, np.array([0.0, 0.0, 1.0]))]
    total = np.exp(mixture_log_q(sources)).sum()
    assert_same(total, total, 1.0, rule("loss", "float64"))


def test_what_no_source_draws_is_minus_infinity():
    assert np.isneginf(mixture_log_q([(8, COUNTS)])).tolist() == [False, False, True]

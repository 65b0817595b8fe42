"""The learning rate at its corners."""

import pytest

from retrieval_contract.config import Optimizer
from retrieval_contract.runs.schedule import learning_rate


def rates(num_steps, **settings):
    rule = Optimizer(learning_rate=2.0, **settings)
    return [learning_rate(rule, step=step, num_steps=num_steps) for step in range(num_steps)]


def test_constant_stays():
    assert rates(3) == [2.0, 2.0, 2.0]


def test_warm_up_rises_in_a_line_and_reaches_the_peak():
    assert rates(6, warmup_steps=4) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_cosine_falls_to_zero_at_the_last_step():
    assert rates(4, schedule="cosine") == pytest.approx([2 * 0.853553390593, 1.0, 2 * 0.146446609407, 0.0])


def test_warm_up_then_cosine():
    assert rates(4, warmup_steps=2, schedule="cosine") == pytest.approx([1.0, 2.0, 1.0, 0.0])


def test_warm_up_longer_than_the_run_never_reaches_the_peak():
    assert rates(2, warmup_steps=4) == [0.5, 1.0]

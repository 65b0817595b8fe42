import math

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import logits
from parity_tests.oracles.differentiation import Node
from parity_tests.problems import problem, with_settings, with_weight
from parity_tests.tolerances import rule
from retrieval_contract.weights.names import LOG_TEMPERATURE

LOSS = rule("loss", "float64")
LOW, HIGH = 0.25, 2.0


def same(got, wanted):
    assert_same(got, got, wanted, LOSS)


def test_logits_in_order():
    products = logits.products(Node([[2.0, 0.0]]), Node([[[3.0, 1.0], [1.0, 9.0]]]))
    bias, log_q = Node([[1.0, -1.0]]), np.array([[-2.0, 0.25]])
    same(logits.logits(products, temperature=0.5, bias_BN=bias, log_q_BN=log_q).value, [[15.0, 2.75]])


@pytest.mark.parametrize(("kind", "wanted"), [("none", 0), ("exact", -3), ("streaming", -3), ("refined", 0)])
def test_what_is_subtracted(kind, wanted):
    config = with_settings(problem("plain"), "loss", log_q=kind).config
    assert logits.subtracted_log_q(config, np.array([[-3.0]])) == [[wanted]]


@pytest.mark.parametrize(
    ("theta", "tau", "slope"),
    [(-9.0, LOW, 0), (math.log(LOW), LOW, 1), (0.0, 1.0, 1), (math.log(HIGH), HIGH, 1), (9.0, HIGH, 0)],
)
def test_a_learned_temperature_is_clipped_and_moves_on_its_bounds(theta, tau, slope):
    small = with_settings(problem("learned_temperature"), "loss", temperature_range=(LOW, HIGH))
    small = with_weight(small, LOG_TEMPERATURE, theta)
    low, high = small.config.loss.log_temperature_range
    assert logits.temperature(small.config, small.weights) == math.exp(np.clip(np.float32(theta), low, high))
    assert_same(*[logits.temperature(small.config, small.weights)] * 2, tau, rule("forward", "float32"))
    assert logits.clip_slope(small.config, small.weights) == slope


def test_a_fixed_temperature_is_the_configured_one():
    assert logits.temperature(problem("temperature").config, {}) == 0.2

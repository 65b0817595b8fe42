"""The gradient of every tower's oracle is the central difference of its own loss."""

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import interests, model
from parity_tests.problems import problem
from parity_tests.tolerances import rule
from parity_tests.tower_cases import DRAWN, SINGLE

STEP = 1e-5
NUM_DIRECTIONS = 2
WITHOUT = (".key.bias",)
"""What no loss depends on: a bias of the keys adds the same to all products of a query."""


def ask(small, weights):
    return model.loss_and_gradients(small.config, weights, small.batch, catalogue=small.catalogue, bank=small.bank)


def hold(monkeypatch, small, start):
    """What stands under a stop-gradient, routing products, is held at its values of now."""
    seen, held = [], interests.held
    with monkeypatch.context() as patch:
        patch.setattr(interests, "held", lambda x: seen.append(held(x)) or seen[-1])
        ask(small, start)
    turn = iter(seen * 10_000)
    if seen:
        monkeypatch.setattr(interests, "held", lambda _: next(turn))


@pytest.mark.parametrize("case", [*SINGLE, *DRAWN])
def test_gradient_is_the_central_difference(monkeypatch, case):
    """Along random directions of all parameters at once: a wrong coordinate of any shows."""
    small = problem(case)
    start = {name: array.astype(np.float64) for name, array in small.weights.items()}
    loss, gradients = ask(small, start)
    assert np.isfinite(loss)
    assert set(gradients) == {name for name, parameter in small.table.items() if parameter.trained}
    hold(monkeypatch, small, start)
    generator = np.random.default_rng(0)
    for _ in range(NUM_DIRECTIONS):
        direction = {name: generator.normal(0, 1 / 4, gradient.shape) for name, gradient in gradients.items()}
        got = sum((gradient * direction[name]).sum() for name, gradient in gradients.items())
        ends = [ask(small, start | moved(start, direction, sign * STEP))[0] for sign in (1, -1)]
        assert_same(got, got, (ends[0] - ends[1]) / (2 * STEP), rule("central_difference", "float64"))


def moved(start, direction, step):
    return {name: start[name] + step * direction[name] for name in direction}


@pytest.mark.parametrize("case", SINGLE)
def test_padding_has_no_gradient_and_everything_else_has_one(case):
    """Of each parameter something moves: otherwise no rung would tell whether it is used at all."""
    small = problem(case)
    for name, gradient in ask(small, small.weights)[1].items():
        assert ".embedding." not in name or not gradient[0].any(), name
        assert gradient.any() or name.endswith(WITHOUT), name

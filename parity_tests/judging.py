"""Rung 4's verdict: loss and gradients of three corners, and whether a wrong one is noticed in either place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.corners import Dtype, Loss, oracle_loss, tf_loss, torch_loss
from parity_tests.problems import Problem
from parity_tests.tolerances import rule

DTYPES: tuple[Dtype, ...] = ("float64", "float32")


def assert_same_losses(tf: Loss, torch: Loss, truth: Loss, dtype: Dtype, *, gradient: str = "gradient") -> None:
    """Raise unless losses and all gradients agree, by the rules of rung 4; `gradient` names the gradients' rule."""
    assert_same(tf[0], torch[0], truth[0], rule("loss", dtype))
    assert_same(tf[1], torch[1], truth[1], rule(gradient, dtype))


def assert_agree(small: Problem, dtype: Dtype) -> Loss:
    """Raise unless the three corners agree on a problem; return the oracle's loss and gradients."""
    truth = oracle_loss(small)
    assert set(truth[1]) == {name for name, parameter in small.table.items() if parameter.trained}
    assert_same_losses(tf_loss(small, dtype), torch_loss(small, dtype), truth, dtype)
    return truth


def assert_noticed(small: Problem, *wrongs: Loss) -> None:
    """Raise unless each wrong loss or gradient is noticed in the place of either stack, in both dtypes."""
    truth = oracle_loss(small)
    for dtype in DTYPES:
        tf, torch = tf_loss(small, dtype), torch_loss(small, dtype)
        assert_same_losses(tf, torch, truth, dtype)
        for wrong in wrongs:
            for corners in ((wrong, torch, truth), (tf, wrong, truth)):
                with pytest.raises(AssertionError):
                    assert_same_losses(*corners, dtype)


def assert_fault_noticed(small: Problem, module: Any, name: str, fault: Callable[..., Any]) -> None:
    """Raise unless a problem notices that a function of the oracle is replaced by a wrong one."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(module, name, fault)
        wrong = oracle_loss(small)
    assert_noticed(small, wrong)

"""Towers in three corners, each computed once a process: what rungs compare, and what their controls put a fault into.

`served` gives, by name, `query` and `candidate` vectors as an index would hold them, `query` [B, I, D] of several
interests, and with training.positions=all `places`, the vectors at the predicted places [P, D].
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tfrs_models.callables
import tfrs_models.inputs
import tfrs_models.towers.two_tower
import tfrs_models.weights
import torch_reference.callables
import torch_reference.inputs
import torch_reference.towers.two_tower
import torch_reference.weights
from parity_tests.comparing import assert_same
from parity_tests.corners import Arrays, Dtype, Loss, oracle_loss, tf_loss, torch_loss
from parity_tests.judging import DTYPES, assert_same_losses
from parity_tests.oracles import model, towers
from parity_tests.problems import Problem, problem
from parity_tests.tolerances import rule

ENCODERS = {"tf": tfrs_models.callables.TwoTowerEncoders, "torch": torch_reference.callables.TwoTowerEncoders}
LOSSES: dict[str, Callable[[Problem, Dtype], Loss]] = {"tf": tf_loss, "torch": torch_loss}

small_problem = functools.cache(problem)
"""Problem of a case; nobody writes to it."""

assert_same_deep_losses = functools.partial(assert_same_losses, gradient="deep_gradient")
"""Rung 4's verdict, with the rule for gradients behind norms."""


@functools.cache
def stack_loss(stack: str, case: str, dtype: Dtype) -> Loss:
    """Loss and gradients of a stack."""
    return LOSSES[stack](small_problem(case), dtype)


@functools.cache
def true_loss(case: str) -> Loss:
    """Loss and gradients of the oracle."""
    return oracle_loss(small_problem(case))


@functools.cache
def stack_served(stack: str, case: str, dtype: Dtype) -> Arrays:
    """Vectors of a stack."""
    return served_by(stack, small_problem(case), dtype)


def served_by(stack: str, small: Problem, dtype: Dtype) -> Arrays:
    """Vectors of a stack for a problem of any make."""
    tensors, both, argument = _tf_towers(small, dtype) if stack == "tf" else _torch_towers(small, dtype)
    with torch.no_grad():
        query, candidate = tensors["query_features"], tensors["candidate_features"]
        found = {"query": both.query_vectors(query), "candidate": both.candidate_vectors(candidate)}
        if small.batch.places is not None:
            found["places"] = both.encode_query(query, **{argument: tensors["places"]})
    return {name: np.asarray(vectors) for name, vectors in found.items()}


def _tf_towers(small: Problem, dtype: Dtype) -> tuple[Any, Any, str]:
    """Tensors of the batch, the towers, and what they call the argument of places."""
    both = tfrs_models.towers.two_tower.TwoTower(small.config, small.sizes, dtype)
    tfrs_models.weights.assign(both, small.weights)
    return tfrs_models.inputs.batch_tensors(small.batch, dtype), both, "places_P"


def _torch_towers(small: Problem, dtype: Dtype) -> tuple[Any, Any, str]:
    both = torch_reference.towers.two_tower.TwoTower(small.config, small.sizes, dtype)
    both = both.to(getattr(torch, dtype)).eval()
    torch_reference.weights.assign(both, small.weights)
    return torch_reference.inputs.batch_tensors(small.batch, dtype), both, "places"


def true_served(small: Problem) -> Arrays:
    """Vectors of the oracle."""
    arguments = (small.config, small.weights)
    found = {
        "query": model.served_vectors("query", *arguments, small.batch.query_features),
        "candidate": model.served_vectors("candidate", *arguments, small.batch.candidate_features),
    }
    if small.batch.places is not None:
        encoded = towers.encode_query(*arguments, small.batch.query_features, training=False, places=True)
        found["places"] = encoded.vectors.value[model.predicted_places(small.batch)]
    return found


def assert_loss_agrees(case: str, dtype: Dtype) -> Loss:
    """Raise unless the three corners agree on loss and gradients; return the oracle's."""
    truth = true_loss(case)
    assert_same_deep_losses(stack_loss("tf", case, dtype), stack_loss("torch", case, dtype), truth, dtype)
    return truth


def assert_served_agrees(case: str, dtype: Dtype) -> None:
    """Raise unless the three corners agree on the vectors."""
    tf, torch_found = (stack_served(stack, case, dtype) for stack in ("tf", "torch"))
    assert_same(tf, torch_found, true_served(small_problem(case)), rule("forward", dtype))


def assert_loss_noticed(case: str, wrong: Loss) -> None:
    """Raise unless a wrong loss or gradient is noticed in the place of either stack, in both dtypes."""
    for dtype in DTYPES:
        truth = assert_loss_agrees(case, dtype)
        tf, torch_found = stack_loss("tf", case, dtype), stack_loss("torch", case, dtype)
        for corners in ((wrong, torch_found, truth), (tf, wrong, truth)):
            with pytest.raises(AssertionError):
                assert_same_deep_losses(*corners, dtype)


def assert_served_noticed(case: str, wrong: Arrays) -> None:
    """Raise unless wrong vectors are noticed in the place of either stack, in both dtypes."""
    truth = true_served(small_problem(case))
    for dtype in DTYPES:
        tf, torch_found = (stack_served(stack, case, dtype) for stack in ("tf", "torch"))
        assert_same(tf, torch_found, truth, rule("forward", dtype))
        for corners in ((wrong, torch_found, truth), (tf, wrong, truth)):
            with pytest.raises(AssertionError):
                assert_same(*corners, rule("forward", dtype))


def faulty(compute: Callable[[Problem], Any], case: str, module: Any, name: str, fault: Callable[..., Any]) -> Any:
    """What the oracle computes with one of its functions replaced by a wrong one."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(module, name, fault)
        return compute(small_problem(case))

"""Rung 4 with each distinct row encoded once: loss and gradients are those of the oracle, which encodes every copy.

Letters: B entity rows, U distinct ones.
"""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import torch

import tfrs_models.training.distinct
import tfrs_models.training.model
import torch_reference.training.distinct
import torch_reference.training.model
from parity_tests.comparing import assert_same
from parity_tests.corners import oracle_loss, tf_loss, torch_loss
from parity_tests.judging import DTYPES, assert_agree, assert_same_losses
from parity_tests.problems import Problem, problem, with_settings
from parity_tests.tolerances import rule

BOTH, CANDIDATES = ("query", "candidate"), ("candidate",)
SIDES = {
    "plain": BOTH,
    "hidden_relu": BOTH,
    "refined_all": BOTH,
    "bank_all": BOTH,
    "sigmoid_all": BOTH,
    "full_softmax": ("query",),
    "everything": CANDIDATES,
    "columns_all": CANDIDATES,
}
"""Of the last two the query's history and age are of the moment."""
STACKS = {"tf": tf_loss, "torch": torch_loss}


def once(case: str) -> Problem:
    return with_settings(problem(case), "training", encode_once=SIDES[case])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SIDES)
def test_loss_and_gradients_are_those_of_every_copy_encoded(case, dtype):
    small = once(case)
    assert len(np.unique(small.batch.candidate_rows)) < len(small.batch.candidate_rows)
    assert len(np.unique(small.batch.query_rows)) < len(small.batch.query_rows)
    truth = assert_agree(small, dtype)
    for loss in STACKS.values():
        on, off = loss(small, dtype), loss(problem(case), dtype)
        assert_same(on[0], off[0], truth[0], rule("loss", dtype))
        assert_same(on[1], off[1], truth[1], rule("gradient", dtype))


def assert_fault_noticed(stack: str, small: Problem) -> None:
    """Raise unless rung 4 fails with this stack as it is now, its truth being the oracle's."""
    wrong, truth = STACKS[stack](small, "float64"), oracle_loss(small)
    right = next(loss for name, loss in STACKS.items() if name != stack)(small, "float64")
    with pytest.raises(AssertionError):
        assert_same_losses(*((wrong, right) if stack == "tf" else (right, wrong)), truth, "float64")


@pytest.mark.parametrize("stack", STACKS)
def test_rung4_notices_copies_that_are_given_a_neighbours_vector(stack, monkeypatch):
    module, roll = {
        "tf": (tfrs_models.training.distinct, lambda places: tf.roll(places, 1, 0)),
        "torch": (torch_reference.training.distinct, lambda places: torch.roll(places, 1)),
    }[stack]
    right = module.distinct

    def rolled(rows):
        first_U, places_B = right(rows)
        return first_U, roll(places_B)

    monkeypatch.setattr(module, "distinct", rolled)
    assert_fault_noticed(stack, once("plain"))


@pytest.mark.parametrize("stack", STACKS)
def test_rung4_notices_copies_whose_gradients_do_not_add_up(stack, monkeypatch):
    """The same loss, but only the first copy of a row learns."""
    module, distinct, keep = {
        "tf": (
            tfrs_models.training.model,
            tfrs_models.training.distinct.distinct,
            lambda kept, part: tf.where(kept[:, None], part, tf.stop_gradient(part)),
        ),
        "torch": (
            torch_reference.training.model,
            torch_reference.training.distinct.distinct,
            lambda kept, part: torch.where(torch.from_numpy(kept)[:, None], part, part.detach()),
        ),
    }[stack]
    right = module.encode_once

    def first_alone(encode, features, rows):
        first_U, _ = distinct(rows)
        kept = np.isin(np.arange(len(rows)), np.asarray(first_U))
        return [keep(kept, part) for part in right(encode, features, rows)]

    monkeypatch.setattr(module, "encode_once", first_alone)
    small = once("plain")
    assert_same(
        STACKS[stack](small, "float64")[0], oracle_loss(small)[0], oracle_loss(small)[0], rule("loss", "float64")
    )
    assert_fault_noticed(stack, small)


@pytest.mark.parametrize("stack", STACKS)
def test_rung4_notices_rows_that_do_not_decide_their_features(stack):
    """What `combinations` refuses: the second copy of a query has other features than the first."""
    small = once("hidden_relu")
    ids = small.batch.query_features["query_id"].copy()
    ids[2] = ids[1]
    assert small.batch.query_rows[2] == small.batch.query_rows[0] != small.batch.query_rows[1]
    batch = replace(small.batch, query_features={"query_id": ids})
    wrong, truth = STACKS[stack](replace(small, batch=batch), "float64"), oracle_loss(replace(small, batch=batch))
    with pytest.raises(AssertionError):
        assert_same_losses(wrong, wrong, truth, "float64")

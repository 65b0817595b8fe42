"""Rung 3 over features, histories and towers: the vectors of both stacks and of the oracle, several interests too."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.judging import DTYPES
from parity_tests.oracles import model
from parity_tests.planted_features import with_junk_in_padding
from parity_tests.problems import problem
from parity_tests.tolerances import rule
from parity_tests.tower_cases import DRAWN, HISTORIES, SINGLE
from parity_tests.tower_corners import (
    ENCODERS,
    LOSSES,
    assert_served_agrees,
    served_by,
    small_problem,
    stack_loss,
    stack_served,
    true_loss,
    true_served,
)

ENCODED = (
    "lists",
    "numbers",
    "dense",
    "history_fields",
    "history_shares",
    "gru",
    "transformer",
    "mind_tower",
    "comirec_tower",
    "batch_norm",
    "context_mind",
    "everything_new",
    "places_tower",
)
"""What is asked of the encoders too, which TensorFlow compiles."""
WITH_FIELDS = (
    "history_fields",
    "history_ages",
    "history_without_ids",
    "history_shares",
    "weighted_mean",
    "places_tower",
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SINGLE)
def test_vectors(case, dtype):
    assert_served_agrees(case, dtype)


@pytest.mark.parametrize("case", DRAWN)
def test_drawn_configurations(case):
    assert_served_agrees(case, "float64")


@pytest.mark.parametrize("case", ENCODED)
def test_what_leaves_the_stacks_is_float64_rounded_once(case):
    small = problem(case)
    encoders = [make(small.config, small.sizes, small.weights, device="cpu") for make in ENCODERS.values()]
    for side, features in (("query", small.batch.query_features), ("candidate", small.batch.candidate_features)):
        arrays = [
            each.encode_queries(features) if side == "query" else each.encode_candidates(features) for each in encoders
        ]
        assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
        truth = model.served_vectors(side, small.config, small.weights, features)
        assert_same(*arrays, truth, rule("encoders", "float32"))
        several = small.config.num_interests if side == "query" else 1
        assert truth.shape[1:] == ((several,) if several > 1 else ()) + (small.config.vector_dim,)


@pytest.mark.parametrize("stack", ENCODERS)
@pytest.mark.parametrize("case", WITH_FIELDS)
def test_what_stands_at_a_padded_place_changes_nothing(case, stack):
    """Fields, ages and weights behind the row 0: vectors and loss to the last bit, gradients but for rounding.

    A sparse gradient has a zero for each padded place, and adds duplicates up in an order that rows decide.
    """
    small = small_problem(case)
    junk = with_junk_in_padding(small.config, dict(small.batch.query_features), np.random.default_rng(0))
    assert any((junk[name] != array).any() for name, array in small.batch.query_features.items())
    changed = replace(small, batch=replace(small.batch, query_features=junk))
    before, after = stack_served(stack, case, "float64"), served_by(stack, changed, "float64")
    assert all(np.array_equal(before[name], after[name]) for name in before)
    loss, gradients = LOSSES[stack](changed, "float64")
    assert loss == stack_loss(stack, case, "float64")[0]
    assert_same(gradients, gradients, true_loss(case)[1], rule("gradient", "float64"))


@pytest.mark.parametrize("stack", ENCODERS)
@pytest.mark.parametrize("case", ["lists", "texts", "history_fields", "transformer", "gru", "mind", "comirec"])
def test_one_more_padded_place_changes_nothing_but_rounding(case, stack):
    """Every list and history wider by one place; positions count from the newest item and stay what they are."""
    small = small_problem(case)
    wider = {
        name: np.pad(array, [(0, 0), (0, 1), *[(0, 0)] * (array.ndim - 2)]) if is_padded(small, name) else array
        for name, array in small.batch.query_features.items()
    }
    assert any(wider[name].shape != array.shape for name, array in small.batch.query_features.items())
    changed = replace(small, batch=replace(small.batch, query_features=wider))
    got = served_by(stack, changed, "float64")
    assert_same(got, got, true_served(small), rule("forward", "float64"))


def is_padded(small, name):
    """True of lists and of everything in a history."""
    own = {feature.name: feature for feature in small.config.query.features}
    return own[name.split(".")[0]].kind in ("history", "multivalent", "text")


@pytest.mark.parametrize("case", HISTORIES)
def test_an_empty_history_is_finite_and_moves_nothing_of_its_items(case):
    """All rows empty: gradients are finite, and none reaches a table, a kernel of items or a position."""
    small = small_problem(case)
    empty = {
        name: np.zeros_like(array) for name, array in small.batch.query_features.items() if name.startswith("hist")
    }
    empty = small.batch.query_features | empty
    changed = replace(small, batch=replace(small.batch, query_features=empty))
    for ask in LOSSES.values():
        loss, gradients = ask(changed, "float64")
        assert np.isfinite(loss)
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
        of_items = [name for name in gradients if name.startswith(("query.embedding.history", "query.history.history"))]
        assert not any(gradients[name].any() for name in of_items)

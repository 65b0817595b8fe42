"""Rung 5: one optimiser step, then twenty, from the same state: weights, slots and step, in three corners.

Every optimiser with and without clipping, accumulation and weight decay, on the model that has every kind of parameter.
The batches leave rows out and take them up again, and the learning rate changes from step to step.
"""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import optimizers
from parity_tests.tolerances import rule
from parity_tests.training_runs import (
    NUM_STEPS,
    TRAINERS,
    Plan,
    assert_not_finite_moves_nothing,
    assert_run_noticed,
    batches,
    by_hand,
    compare,
    start,
    trained,
    trainer,
)

CLIP_NORM = 0.1
CASE = "every_parameter"
EPSILON = {"epsilon": 1e-3}
"""Large enough for its place in the formula to show."""
KINDS = {
    "sgd": {"kind": "sgd"},
    "momentum": {"kind": "sgd", "momentum": 0.8},
    "adagrad": {"kind": "adagrad"},
    "adagrad_epsilon": {"kind": "adagrad", "initial_accumulator": 0.0, **EPSILON},
    "adam": {"kind": "adam", "beta_2": 0.99},
    "adam_epsilon": {"kind": "adam", **EPSILON},
    "adamw": {"kind": "adamw", "weight_decay": 0.3},
    "adamw_bias": {"kind": "adamw", "weight_decay": 0.3, "decay_candidate_bias": True, **EPSILON},
}
VARIANTS = {
    "": {},
    "clipped": {"clip_norm": CLIP_NORM},
    "accumulated": {"accumulation_steps": 2},
    "clipped_accumulated": {"clip_norm": CLIP_NORM, "accumulation_steps": 2},
}
MATRIX = [(kind, variant) for kind in ("momentum", "adagrad", "adam_epsilon", "adamw") for variant in VARIANTS]
MATRIX += [(kind, "") for kind in KINDS if (kind, "") not in MATRIX] + [("sgd", "clipped"), ("sgd", "accumulated")]
PLANS = {pair: Plan(case=CASE, optimizer=KINDS[pair[0]] | VARIANTS[pair[1]]) for pair in MATRIX}


@pytest.mark.parametrize(("kind", "variant"), MATRIX)
def test_one_step_then_twenty(kind, variant):
    plan = PLANS[kind, variant]
    tf, torch, truth = trained("tf", plan), trained("torch", plan), by_hand(plan)
    compare(tf.states[1], torch.states[1], truth.states[1], "step")
    compare(tf.states[NUM_STEPS], torch.states[NUM_STEPS], truth.states[NUM_STEPS], "drift")
    assert_same(tf.losses[0], torch.losses[0], truth.losses[0], rule("loss", "float32"))
    assert_same(tf.norms[0], torch.norms[0], truth.norms[0], rule("gradient_norm", "float32"))
    assert_same(tf.losses, torch.losses, truth.losses, rule("drift_losses", "float32"))
    assert_same(tf.norms, torch.norms, truth.norms, rule("drift_losses", "float32"))
    assert min(truth.norms[:5]) > CLIP_NORM, "the clipping norm must bite"


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_has_the_canonical_names_and_dtypes(kind):
    plan = PLANS[kind, ""]
    wanted = {name: (array.shape, array.dtype) for name, array in start(plan.problem).items()}
    for corner in TRAINERS:
        state = trained(corner, PLANS[kind, ""]).states[NUM_STEPS]
        assert {name: (array.shape, array.dtype) for name, array in state.items()} == wanted, corner


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_never_moves(kind, corner):
    """Row 0 of every embedding is exactly zero after twenty steps; the candidate bias has no such row in a batch."""
    state = trained(corner, PLANS[kind, ""]).states[NUM_STEPS]
    assert not any(
        array[0].any() for name, array in state.items() if name.startswith("weights/") and ".embedding." in name
    )


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("kind", ["momentum", "adagrad", "adamw"])
def test_a_row_outside_the_batch_keeps_its_bytes(kind, corner):
    small = PLANS[kind, ""].problem
    states = trained(corner, PLANS[kind, ""]).states
    moving = optimizers.moving_rows(small.config, small.table, batches(small.config, 1))
    outside = np.setdiff1d(
        np.arange(len(small.weights["candidate.embedding.candidate_id"])), moving["candidate.embedding.candidate_id"]
    )
    assert {2, 5} & set(outside.tolist()) or len(outside) > 2
    for name in (name for name in states[1] if name.endswith("candidate.embedding.candidate_id")):
        assert states[2][name][outside].tobytes() == states[1][name][outside].tobytes(), name
        assert states[2][name].tobytes() != states[1][name].tobytes(), name


@pytest.mark.parametrize("first", TRAINERS)
@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_either_stack_goes_on_from_the_others_state(kind, first):
    """Ten steps in one stack and ten in the other are twenty steps."""
    plan = PLANS[kind, ""]
    second = next(corner for corner in TRAINERS if corner != first)
    made = trainer(second, plan, trained(first, plan).states[10])
    for step in range(10, NUM_STEPS):
        made.step(batches(plan.problem.config, step), learning_rate=plan.learning_rate(step))
    ends = {first: trained(first, plan).states[NUM_STEPS], second: made.state()}
    compare(ends["tf"], ends["torch"], by_hand(plan).states[NUM_STEPS], "drift")


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_not_finite_moves_nothing(corner, accumulation):
    settings = {"kind": "adamw", "weight_decay": 0.3, "clip_norm": CLIP_NORM, "accumulation_steps": accumulation}
    assert_not_finite_moves_nothing(corner, Plan(case=CASE, optimizer=settings))


# ---------------------------------------------------------------- negative controls


def wrong_run(monkeypatch, name, fault, plan, *, num_steps=1):
    """State of an oracle of which one function is replaced."""
    with monkeypatch.context() as patch:
        patch.setattr(optimizers, name, fault)
        return by_hand(plan, num_steps=num_steps).states[num_steps]


def fails_with(monkeypatch, name, fault, kind, variant="", *, num_steps=1):
    """The replaced function is noticed in the place of either stack."""
    plan = PLANS[kind, variant]
    assert_run_noticed(wrong_run(monkeypatch, name, fault, plan, num_steps=num_steps), plan, num_steps=num_steps)


@pytest.mark.parametrize("kind", ["adam_epsilon", "adagrad_epsilon"])
def test_rung5_notices_epsilon_under_the_root(monkeypatch, kind):
    def under_the_root(numerator, square, epsilon):
        return numerator / np.sqrt(square + epsilon)

    fails_with(monkeypatch, "adaptive_quotient", under_the_root, kind)


def test_rung5_notices_epsilon_before_the_bias_correction(monkeypatch):
    """Keras's Adam: at step 1 its epsilon is 1 / sqrt(1 - 0.999) times as large."""

    def keras(numerator, square, epsilon):
        return numerator / (np.sqrt(square) + epsilon / np.sqrt(1 - 0.999))

    fails_with(monkeypatch, "adaptive_quotient", keras, "adam_epsilon")


def every_row(_, table, *__):
    return {name: np.arange(parameter.shape[0]) for name, parameter in table.items()}


def test_rung5_notices_dense_decay(monkeypatch):
    fails_with(monkeypatch, "moving_rows", every_row, "adamw")


def test_rung5_notices_dense_moments(monkeypatch):
    """Without decay the first step is the same; a row that is left out later must keep its moments."""
    fails_with(monkeypatch, "moving_rows", every_row, "adam", num_steps=NUM_STEPS)


@pytest.mark.parametrize("kind", ["momentum", "adagrad", "adam"])
def test_rung5_notices_a_stale_slot(kind):
    *_, stale, fresh = by_hand(PLANS[kind, ""]).states
    wrong = fresh | {name: array for name, array in stale.items() if name.startswith("slots/")}
    assert_run_noticed(wrong, PLANS[kind, ""], num_steps=NUM_STEPS)


def test_rung5_notices_one_slot_reset():
    plan = PLANS["adam", ""]
    fresh = by_hand(plan).states[NUM_STEPS]
    name = "slots/second_moment/candidate.bias"
    assert_run_noticed(fresh | {name: np.zeros_like(fresh[name])}, plan, num_steps=NUM_STEPS)


def test_rung5_notices_a_step_not_counted():
    plan = PLANS["adam", ""]
    fresh = by_hand(plan).states[NUM_STEPS]
    assert_run_noticed(fresh | {"step": fresh["step"] - 1}, plan, num_steps=NUM_STEPS)


def test_rung5_notices_a_decayed_dense_bias(monkeypatch):
    """AdamW must leave dense biases alone."""
    plan = PLANS["adamw", ""]
    small = plan.problem
    table = {name: replace(parameter, decays=True) for name, parameter in small.table.items()}
    state, rate = optimizers.initial_state(small.config, small.weights), plan.learning_rate(0)
    wrong = optimizers.take_step(small.config, table, state, batches(small.config, 0), learning_rate=rate)
    assert_run_noticed(wrong.state, plan)


def test_rung5_notices_a_decayed_candidate_bias():
    plan = PLANS["adamw", ""]
    wrong = by_hand(plan, num_steps=1).states[1]
    name, rows = "weights/candidate.bias", [1, 3, 5]
    moved = wrong[name].copy()
    moved[rows] -= plan.learning_rate(0) * 0.3 * plan.problem.weights["candidate.bias"][rows]
    assert_run_noticed(wrong | {name: moved}, plan)


def test_rung5_notices_a_missing_clip(monkeypatch):
    fails_with(monkeypatch, "clipped", lambda gradients, *_: gradients, "sgd", "clipped")


def test_rung5_notices_clipping_each_parameter_alone(monkeypatch):
    def alone(gradients, _, clip_norm):
        return {name: g * min(1, clip_norm / max(np.linalg.norm(g), 1e-30)) for name, g in gradients.items()}

    fails_with(monkeypatch, "clipped", alone, "sgd", "clipped")


def test_rung5_notices_a_sum_for_a_mean_over_accumulated_batches(monkeypatch):
    def doubled(gradients, *_):
        return {name: gradient * 2 for name, gradient in gradients.items()}

    fails_with(monkeypatch, "clipped", doubled, "sgd", "accumulated")

"""Rung 5: one optimiser step, then twenty, from the same state: weights, slots and step, in three corners.

Every optimiser with and without clipping, accumulation and weight decay, on the model that has every kind of parameter.
The batches leave rows out and take them up again, and the learning rate changes from step to step.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import optimizers
from parity_tests.problems import make_batch, problem
from parity_tests.tolerances import rule
from retrieval_contract.arrays import Batch
from tfrs_models.training.trainer import TwoTowerTrainer as TfTrainer
from torch_reference.training.trainer import TwoTowerTrainer as TorchTrainer

NUM_STEPS = 20
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
TRAINERS = {"tf": TfTrainer, "torch": TorchTrainer}


@dataclass(frozen=True)
class Run:
    """States after some numbers of steps, and what each step reported."""

    states: dict
    losses: list
    norms: list


def settings(kind, variant=""):
    return KINDS[kind] | VARIANTS[variant]


def learning_rate(step):
    return 0.05 * (1 - step / (2 * NUM_STEPS))


def batches(config, step, *, weights="varied"):
    count = config.optimizer.accumulation_steps
    return [make_batch(config, seed=step * count + place, weights=weights) for place in range(count)]


def start(small):
    """Zero steps taken: float32, as the contract has it."""
    state = optimizers.initial_state(small.config.optimizer, small.weights)
    return {name: array.astype(np.int64 if name == "step" else np.float32) for name, array in state.items()}


@functools.cache
def trained(corner, kind, variant="") -> Run:
    """Run a corner for all steps; TensorFlow compiles once a (kind, variant)."""
    small = problem(CASE, optimizer=settings(kind, variant))
    trainer = TRAINERS[corner](small.config, small.sizes, start(small))
    states, losses, norms = {0: trainer.state()}, [], []
    for step in range(NUM_STEPS):
        result = trainer.step(batches(small.config, step), learning_rate=learning_rate(step))
        losses.append(result.loss)
        norms.append(result.gradient_norm)
        states[step + 1] = trainer.state()
    return Run(states, losses, norms)


def by_hand(kind, variant="", *, num_steps=NUM_STEPS) -> Run:
    """The oracle's run."""
    small = problem(CASE, optimizer=settings(kind, variant))
    state = optimizers.initial_state(small.config.optimizer, small.weights)
    states, losses, norms = {0: state}, [], []
    for step in range(num_steps):
        rate, steps = learning_rate(step), batches(small.config, step)
        state, loss, norm = optimizers.take_step(small.config, small.table, state, steps, learning_rate=rate)
        losses.append(loss)
        norms.append(norm)
        states[step + 1] = state
    return Run(states, losses, norms)


def compare(tf, torch, truth, room):
    """States: weights and slots by their own rules, the step exactly."""
    assert int(tf["step"]) == int(torch["step"]) == int(truth["step"])
    for part in ("weights", "slots"):
        corners = [
            {name: array for name, array in state.items() if name.startswith(part)} for state in (tf, torch, truth)
        ]
        assert_same(*corners, rule(f"{room}_{part}", "float32"))


@pytest.mark.parametrize(("kind", "variant"), MATRIX)
def test_one_step_then_twenty(kind, variant):
    tf, torch, truth = trained("tf", kind, variant), trained("torch", kind, variant), by_hand(kind, variant)
    compare(tf.states[1], torch.states[1], truth.states[1], "step")
    compare(tf.states[NUM_STEPS], torch.states[NUM_STEPS], truth.states[NUM_STEPS], "drift")
    assert_same(tf.losses[0], torch.losses[0], truth.losses[0], rule("loss", "float32"))
    assert_same(tf.norms[0], torch.norms[0], truth.norms[0], rule("gradient_norm", "float32"))
    assert_same(tf.losses, torch.losses, truth.losses, rule("drift_losses", "float32"))
    assert_same(tf.norms, torch.norms, truth.norms, rule("drift_losses", "float32"))
    assert min(truth.norms[:5]) > CLIP_NORM, "the clipping norm must bite"


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_has_the_canonical_names_and_dtypes(kind):
    small = problem(CASE, optimizer=settings(kind))
    wanted = {name: (array.shape, array.dtype) for name, array in start(small).items()}
    for corner in TRAINERS:
        state = trained(corner, kind).states[NUM_STEPS]
        assert {name: (array.shape, array.dtype) for name, array in state.items()} == wanted, corner


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_never_moves(kind, corner):
    """Row 0 of every embedding is exactly zero after twenty steps; the candidate bias has no such row in a batch."""
    state = trained(corner, kind).states[NUM_STEPS]
    assert not any(
        array[0].any() for name, array in state.items() if name.startswith("weights/") and ".embedding." in name
    )


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("kind", ["momentum", "adagrad", "adamw"])
def test_a_row_outside_the_batch_keeps_its_bytes(kind, corner):
    small = problem(CASE, optimizer=settings(kind))
    states = trained(corner, kind).states
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
    small = problem(CASE, optimizer=settings(kind))
    second = next(corner for corner in TRAINERS if corner != first)
    trainer = TRAINERS[second](small.config, small.sizes, trained(first, kind).states[10])
    for step in range(10, NUM_STEPS):
        trainer.step(batches(small.config, step), learning_rate=learning_rate(step))
    ends = {first: trained(first, kind).states[NUM_STEPS], second: trainer.state()}
    compare(ends["tf"], ends["torch"], by_hand(kind).states[NUM_STEPS], "drift")


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_not_finite_moves_nothing(corner, accumulation):
    small = problem(
        CASE,
        optimizer={"kind": "adamw", "weight_decay": 0.3, "clip_norm": CLIP_NORM, "accumulation_steps": accumulation},
    )
    trainer = TRAINERS[corner](small.config, small.sizes, start(small))
    before = trainer.state()
    *good, last = batches(small.config, 0)
    bad: Batch = replace(last, log_q=np.full_like(last.log_q, np.nan))
    assert not np.isfinite(trainer.step([*good, bad], learning_rate=0.1).loss)
    after = trainer.state()
    assert {name: array.tobytes() for name, array in after.items()} == {
        name: array.tobytes() for name, array in before.items()
    }


# ---------------------------------------------------------------- negative controls


def fails(wrong, kind, variant="", *, num_steps=1):
    """`wrong` is noticed in the place of either stack."""
    room = "step" if num_steps == 1 else "drift"
    tf, torch, truth = (
        run.states[num_steps]
        for run in (trained("tf", kind, variant), trained("torch", kind, variant), by_hand(kind, variant))
    )
    compare(tf, torch, truth, room)
    for corners in ((wrong, torch, truth), (tf, wrong, truth)):
        with pytest.raises(AssertionError):
            compare(*corners, room)


def wrong_run(monkeypatch, name, fault, kind, variant="", *, num_steps=1):
    """State of an oracle of which one function is replaced."""
    with monkeypatch.context() as patch:
        patch.setattr(optimizers, name, fault)
        return by_hand(kind, variant, num_steps=num_steps).states[num_steps]


@pytest.mark.parametrize("kind", ["adam_epsilon", "adagrad_epsilon"])
def test_rung5_notices_epsilon_under_the_root(monkeypatch, kind):
    def under_the_root(numerator, square, epsilon):
        return numerator / np.sqrt(square + epsilon)

    fails(wrong_run(monkeypatch, "adaptive_quotient", under_the_root, kind), kind)


def test_rung5_notices_epsilon_before_the_bias_correction(monkeypatch):
    """Keras's Adam: at step 1 its epsilon is 1 / sqrt(1 - 0.999) times as large."""

    def keras(numerator, square, epsilon):
        return numerator / (np.sqrt(square) + epsilon / np.sqrt(1 - 0.999))

    fails(wrong_run(monkeypatch, "adaptive_quotient", keras, "adam_epsilon"), "adam_epsilon")


def every_row(_, table, __):
    return {name: np.arange(parameter.shape[0]) for name, parameter in table.items()}


def test_rung5_notices_dense_decay(monkeypatch):
    fails(wrong_run(monkeypatch, "moving_rows", every_row, "adamw"), "adamw")


def test_rung5_notices_dense_moments(monkeypatch):
    """Without decay the first step is the same; a row that is left out later must keep its moments."""
    fails(wrong_run(monkeypatch, "moving_rows", every_row, "adam", num_steps=NUM_STEPS), "adam", num_steps=NUM_STEPS)


@pytest.mark.parametrize("kind", ["momentum", "adagrad", "adam"])
def test_rung5_notices_a_stale_slot(kind):
    stale, fresh = by_hand(kind).states[NUM_STEPS - 1], by_hand(kind).states[NUM_STEPS]
    wrong = fresh | {name: array for name, array in stale.items() if name.startswith("slots/")}
    fails(wrong, kind, num_steps=NUM_STEPS)


def test_rung5_notices_one_slot_reset():
    fresh = by_hand("adam").states[NUM_STEPS]
    name = "slots/second_moment/candidate.bias"
    fails(fresh | {name: np.zeros_like(fresh[name])}, "adam", num_steps=NUM_STEPS)


def test_rung5_notices_a_step_not_counted():
    fresh = by_hand("adam").states[NUM_STEPS]
    fails(fresh | {"step": fresh["step"] - 1}, "adam", num_steps=NUM_STEPS)


def test_rung5_notices_a_decayed_dense_bias(monkeypatch):
    """AdamW must leave dense biases alone."""
    small = problem(CASE, optimizer=settings("adamw"))
    table = {name: replace(parameter, decays=True) for name, parameter in small.table.items()}
    state = optimizers.initial_state(small.config.optimizer, small.weights)
    wrong, _, _ = optimizers.take_step(
        small.config, table, state, batches(small.config, 0), learning_rate=learning_rate(0)
    )
    fails(wrong, "adamw")


def test_rung5_notices_a_decayed_candidate_bias():
    wrong = by_hand("adamw").states[1]
    small = problem(CASE, optimizer=settings("adamw"))
    name, rows = "weights/candidate.bias", [1, 3, 5]
    moved = wrong[name].copy()
    moved[rows] -= learning_rate(0) * 0.3 * small.weights["candidate.bias"][rows]
    fails(wrong | {name: moved}, "adamw")


def test_rung5_notices_a_missing_clip(monkeypatch):
    fails(wrong_run(monkeypatch, "clipped", lambda gradients, *_: gradients, "sgd", "clipped"), "sgd", "clipped")


def test_rung5_notices_clipping_each_parameter_alone(monkeypatch):
    def alone(gradients, _, clip_norm):
        return {name: g * min(1, clip_norm / max(np.linalg.norm(g), 1e-30)) for name, g in gradients.items()}

    fails(wrong_run(monkeypatch, "clipped", alone, "sgd", "clipped"), "sgd", "clipped")


def test_rung5_notices_a_sum_for_a_mean_over_accumulated_batches(monkeypatch):
    def doubled(gradients, *_):
        return {name: gradient * 2 for name, gradient in gradients.items()}

    fails(wrong_run(monkeypatch, "clipped", doubled, "sgd", "accumulated"), "sgd", "accumulated")

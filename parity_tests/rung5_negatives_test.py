"""Rung 5 over negatives: trainers with a bank (plain and momentum), a learned temperature at its bounds, every loss."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import bank, optimizers
from parity_tests.planted_batches import log_q_of, make_batch, rows_of
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
    oracle_step,
    start,
    trained,
    trainer,
)
from retrieval_contract.weights.names import LOG_TEMPERATURE

LONG = {
    "bank": Plan(case="trained_bank", optimizer={"kind": "sgd", "momentum": 0.8, "clip_norm": 1.0}),
    "bank_momentum": Plan(
        case="trained_bank_momentum", optimizer={"kind": "adamw", "weight_decay": 0.3, "accumulation_steps": 2}
    ),
    "columns": Plan(case="trained_columns", optimizer={"kind": "adagrad"}),
}
SHORT = {
    kind: Plan(case=f"trained_{kind}", optimizer={"kind": "adam", "epsilon": 1e-3}, num_steps=3)
    for kind in ("refined", "full_softmax", "bpr", "triplet", "contrastive", "sigmoid", "gbce", "encode_once")
}
PLANS = LONG | SHORT
WITH_BANK = ("bank", "bank_momentum")
WARMUP_STEPS = 3


@pytest.mark.parametrize("name", PLANS)
def test_one_step_then_all(name):
    plan = PLANS[name]
    tf, torch, truth = trained("tf", plan), trained("torch", plan), by_hand(plan)
    compare(tf.states[1], torch.states[1], truth.states[1], "step")
    compare(tf.states[-1], torch.states[-1], truth.states[-1], "drift")
    assert_same(tf.losses[0], torch.losses[0], truth.losses[0], rule("loss", "float32"))
    for report in ("losses", "norms", "temperatures"):
        assert_same(*(getattr(run, report) for run in (tf, torch, truth)), rule("drift_losses", "float32"))


@pytest.mark.parametrize("name", PLANS)
def test_the_state_has_the_canonical_names_and_dtypes(name):
    plan = PLANS[name]
    wanted = {name: (array.shape, array.dtype) for name, array in start(plan.problem).items()}
    for corner in TRAINERS:
        state = trained(corner, plan).states[-1]
        assert {name: (array.shape, array.dtype) for name, array in state.items()} == wanted, corner


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("name", WITH_BANK)
def test_a_start_with_weights_alone_is_an_empty_bank_and_an_average_equal_to_them(name, corner):
    plan = LONG[name]
    whole = start(plan.problem)
    bare = {key: array for key, array in whole.items() if key.startswith("weights/") or key == "step"}
    made = trainer(corner, plan, bare).state()
    assert_same(made, made, whole, rule("weights", "bytes"))


@pytest.mark.parametrize("first", TRAINERS)
@pytest.mark.parametrize("name", WITH_BANK)
def test_either_stack_goes_on_from_the_others_state(name, first):
    """Ten steps in one stack and ten in the other are twenty steps."""
    plan = LONG[name]
    second = next(corner for corner in TRAINERS if corner != first)
    made = trainer(second, plan, trained(first, plan).states[10])
    for step in range(10, NUM_STEPS):
        made.step(batches(plan.problem.config, step), learning_rate=plan.learning_rate(step))
    ends = {first: trained(first, plan).states[NUM_STEPS], second: made.state()}
    compare(ends["tf"], ends["torch"], by_hand(plan).states[NUM_STEPS], "drift")


@pytest.mark.parametrize("corner", TRAINERS)
def test_a_trainer_goes_on_from_its_own_state_to_the_same_bytes(corner):
    plan = LONG["bank_momentum"]
    made = trainer(corner, plan, trained(corner, plan).states[17])
    for step in range(17, NUM_STEPS):
        made.step(batches(plan.problem.config, step), learning_rate=plan.learning_rate(step))
    end, wanted = made.state(), trained(corner, plan).states[NUM_STEPS]
    assert {key: end[key].tobytes() for key in wanted} == {key: wanted[key].tobytes() for key in wanted}


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("name", WITH_BANK)
def test_a_loss_that_is_not_finite_moves_nothing(name, corner):
    assert_not_finite_moves_nothing(corner, LONG[name])


def test_the_ring_turns_inside_a_batch():
    """Batches of five, as a small data set makes them, in a ring of twelve."""
    plan = LONG["bank"]
    small = plan.problem
    trainers = [trainer(corner, plan, start(small)) for corner in TRAINERS]
    state = optimizers.initial_state(small.config, small.weights)
    for number in range(5):
        five, rate = [rows_of(batches(small.config, number)[0], slice(5))], plan.learning_rate(number)
        for made in trainers:
            made.step(five, learning_rate=rate)
        state = optimizers.take_step(small.config, small.table, state, five, learning_rate=rate).state
    assert int(state["bank/enqueued"]) == 25
    compare(*(made.state() for made in trainers), state, "drift")


def test_the_learned_temperature_meets_its_bounds():
    """What the plan is for: it stands on a bound after some step, and somewhere inside before."""
    plan = LONG["bank"]
    low, high = plan.problem.config.loss.log_temperature_range
    for run in (by_hand(plan), *(trained(corner, plan) for corner in TRAINERS)):
        thetas = [float(state[f"weights/{LOG_TEMPERATURE}"][0]) for state in run.states]
        assert all(low <= theta <= high for theta in thetas)
        assert {low, high} & set(thetas)
        assert not {low, high} & set(thetas[:1])
        assert_same(run.temperatures, run.temperatures, np.exp(thetas[:-1]), rule("forward", "float32"))


def test_the_banks_turn_over():
    """What the plans are for: the rings are overwritten, and their columns make a difference to the loss."""
    for name in WITH_BANK:
        plan = LONG[name]
        state = by_hand(plan).states[-1]
        assert state["bank/enqueued"] > 3 * len(state["bank/rows"])
        assert np.ptp(state["bank/log_q"]) > 0


# ---------------------------------------------------------------- negative controls


def wrong_state(monkeypatch, module, name, fault, plan, *, num_steps):
    """State of an oracle of which one function is replaced."""
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fault)
        return by_hand(plan, num_steps=num_steps).states[num_steps]


def test_rung5_notices_a_parameter_out_of_its_bounds(monkeypatch):
    plan = LONG["bank"]
    wrong = wrong_state(monkeypatch, optimizers, "within_bounds", lambda value, _: value, plan, num_steps=NUM_STEPS)
    assert_run_noticed(wrong, plan, num_steps=NUM_STEPS)


def test_rung5_notices_a_bank_reset_on_resuming():
    """Empty at step 10, two steps later."""
    plan = LONG["bank"]
    small = plan.problem
    state = dict(by_hand(plan, num_steps=10).states[10])
    state |= bank.initial_state(small.config, optimizers.weights_of(state))
    for number in (10, 11):
        state = oracle_step(small, state, number, plan.learning_rate(number)).state
    assert_run_noticed(state, plan, num_steps=12)
    right = by_hand(plan, num_steps=12).states[12]
    ring = {name: array for name, array in right.items() if name.startswith("bank/")}
    assert_run_noticed(state | ring, plan, num_steps=12)


def test_rung5_notices_a_warm_up_left_out():
    plan = LONG["bank"]
    small = plan.problem
    eager = small.config.negatives.bank.model_copy(update={"warmup_steps": 0})
    negatives = small.config.negatives.model_copy(update={"bank": eager})
    small = replace(small, config=small.config.model_copy(update={"negatives": negatives}))
    state = optimizers.initial_state(small.config, small.weights)
    for number in range(WARMUP_STEPS):
        state = oracle_step(small, state, number, plan.learning_rate(number)).state
    assert_run_noticed(state, plan, num_steps=WARMUP_STEPS)


def test_rung5_notices_a_bank_that_is_filled_before_the_step(monkeypatch):
    """The batch then meets its own positives twice."""
    plan = LONG["bank"]
    right = bank.columns_of

    def early(config, state):
        ring = {name: np.array(array) for name, array in state.items() if name.startswith("bank/")}
        bank.enqueue(config, ring, optimizers.weights_of(state), make_batch(config, seed=int(state["step"])))
        return right(config, {**state, **ring})

    wrong = wrong_state(monkeypatch, bank, "columns_of", early, plan, num_steps=5)
    assert_run_noticed(wrong, plan, num_steps=5)


def test_rung5_notices_a_bank_filled_with_the_moved_weights(monkeypatch):
    plan = LONG["bank"]
    right = bank.moved_on
    fault = lambda config, before, after, steps: right(config, {**before, **weights(after)}, after, steps)  # noqa: E731
    assert_run_noticed(wrong_state(monkeypatch, bank, "moved_on", fault, plan, num_steps=1), plan)


def test_rung5_notices_todays_log_q_in_the_bank(monkeypatch):
    """Entries corrected as if they came in the last batch, at twice its probabilities."""
    plan = LONG["bank"]
    right = bank.columns_of

    def todays(config, state):
        found = right(config, state)
        return None if found is None else replace(found, log_q=log_q_of(config, found.rows) + np.log(2.0))

    wrong = wrong_state(monkeypatch, bank, "columns_of", todays, plan, num_steps=5)
    assert_run_noticed(wrong, plan, num_steps=5)


def test_rung5_notices_the_average_moved_before_the_step(monkeypatch):
    plan = LONG["bank_momentum"]
    right = bank.moved_on

    def early(config, before, after, steps):
        average = bank.averaged(config, before)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bank, "averaged", lambda *_: average)
            return right(config, before, after, steps)

    # At the first step the average equals the weights, and moving it early does nothing.
    wrong = wrong_state(monkeypatch, bank, "moved_on", early, plan, num_steps=2)
    assert_run_noticed(wrong, plan, num_steps=2)


def test_rung5_notices_a_bank_filled_by_the_weights_for_the_average():
    plan = LONG["bank_momentum"]
    right = by_hand(plan, num_steps=2).states
    small = plan.problem
    ring = {name: np.array(array) for name, array in right[1].items() if name.startswith("bank/")}
    for batch in batches(small.config, 1):
        bank.enqueue(small.config, ring, optimizers.weights_of(right[2]), batch)
    assert_run_noticed({**right[2], **ring}, plan, num_steps=2)


def test_rung5_notices_an_average_with_the_shares_swapped(monkeypatch):
    plan = LONG["bank_momentum"]
    right = bank.averaged

    def swapped(config, state):
        keeps = config.negatives.bank.model_copy(update={"momentum": 1 - config.negatives.bank.momentum})
        negatives = config.negatives.model_copy(update={"bank": keeps})
        return right(config.model_copy(update={"negatives": negatives}), state)

    assert_run_noticed(wrong_state(monkeypatch, bank, "averaged", swapped, plan, num_steps=1), plan)


def test_rung5_notices_a_catalogue_of_which_only_the_batch_moves(monkeypatch):
    """Full softmax looks every candidate up."""
    plan = SHORT["full_softmax"]
    right = optimizers.moving_rows

    def of_the_batch(config, table, steps, _):
        in_batch = config.model_copy(update={"loss": config.loss.model_copy(update={"kind": "softmax"})})
        return right(in_batch, table, steps)

    assert_run_noticed(wrong_state(monkeypatch, optimizers, "moving_rows", of_the_batch, plan, num_steps=1), plan)


def weights(state):
    return {name: array for name, array in state.items() if name.startswith("weights/")}

"""Rung 5 over towers: trainers with batch norm, tables that towers share, every kind of pooling, and whole sequences.

MIND draws its routing logits anew at every step of training, in each stack by a generator of its own; here both take
the fixed ones, as in serving.
"""

from dataclasses import replace

import numpy as np
import pytest

import tfrs_models.layers.mind
import torch_reference.layers.mind
from parity_tests.comparing import assert_same
from parity_tests.oracles import model, optimizers, towers
from parity_tests.tolerances import rule
from parity_tests.training_runs import (
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

ADAM = {"kind": "adam", "epsilon": 1e-2}
"""Large enough for what has no gradient, as a bias of the keys, not to be moved by rounding."""
PLANS = {
    "everything_new": Plan(case="everything_new", optimizer={"kind": "sgd", "momentum": 0.8}, rate=0.01),
    "history_shares": Plan(case="history_shares", optimizer=ADAM | {"kind": "adamw", "weight_decay": 0.3}, num_steps=5),
    "places_tower": Plan(case="places_tower", optimizer=ADAM, num_steps=5),
    "batch_norm": Plan(case="batch_norm", optimizer={"kind": "adagrad"}, num_steps=5),
    "batch_norm_bank": Plan(case="batch_norm_bank", optimizer={"kind": "sgd", "momentum": 0.8}, num_steps=4),
    "comirec_tower": Plan(case="comirec_tower", optimizer={"kind": "adagrad"}, num_steps=4),
    "context_mind": Plan(case="context_mind", optimizer=ADAM, num_steps=4),
    "gru": Plan(case="gru", optimizer={"kind": "adagrad", "clip_norm": 0.05}, num_steps=4),
}
WITH_STATISTICS = ("everything_new", "batch_norm", "batch_norm_bank", "comirec_tower")


@pytest.fixture(autouse=True)
def fixed_routing(monkeypatch):
    for layer in (tfrs_models.layers.mind.MindPooling, torch_reference.layers.mind.MindPooling):
        right = layer._start
        monkeypatch.setattr(layer, "_start", lambda self, real_BL, _, right=right: right(self, real_BL, None))


@pytest.mark.parametrize("name", PLANS)
def test_one_step_then_all(name):
    plan = PLANS[name]
    tf, torch, truth = trained("tf", plan), trained("torch", plan), by_hand(plan)
    compare(tf.states[1], torch.states[1], truth.states[1], "deep_step")
    compare(tf.states[-1], torch.states[-1], truth.states[-1], "drift")
    assert_same(tf.losses[0], torch.losses[0], truth.losses[0], rule("loss", "float32"))
    for report in ("losses", "norms", "temperatures"):
        assert_same(*(getattr(run, report) for run in (tf, torch, truth)), rule("drift_losses", "float32"))


@pytest.mark.parametrize("name", PLANS)
def test_the_state_has_slots_of_what_is_trained_alone(name):
    plan = PLANS[name]
    small = plan.problem
    wanted = {name: (array.shape, array.dtype) for name, array in start(small).items()}
    assert {name.removeprefix("weights/") for name in wanted if name.startswith("weights/")} == set(small.table)
    for corner in TRAINERS:
        state = trained(corner, plan).states[-1]
        assert {name: (array.shape, array.dtype) for name, array in state.items()} == wanted, corner
    slots = {name.split("/", 2)[2] for name in wanted if name.startswith("slots/")}
    assert slots == {name for name, entry in small.table.items() if entry.trained}


@pytest.mark.parametrize("corner", TRAINERS)
@pytest.mark.parametrize("name", PLANS)
def test_padding_and_fixed_draws_never_move(name, corner):
    states = trained(corner, PLANS[name]).states
    for key, array in states[-1].items():
        if ".embedding." in key and key.startswith("weights/"):
            assert not array[0].any(), key
        if key.endswith(".routing"):
            assert array.tobytes() == states[0][key].tobytes(), key


@pytest.mark.parametrize("first", TRAINERS)
@pytest.mark.parametrize("name", ["batch_norm", "history_shares"])
def test_either_stack_goes_on_from_the_others_state(name, first):
    """Two steps in one stack and three in the other are five."""
    plan = PLANS[name]
    second = next(corner for corner in TRAINERS if corner != first)
    made = trainer(second, plan, trained(first, plan).states[2])
    for step in range(2, plan.num_steps):
        made.step(batches(plan.problem.config, step), learning_rate=plan.learning_rate(step))
    ends = {first: trained(first, plan).states[-1], second: made.state()}
    compare(ends["tf"], ends["torch"], by_hand(plan).states[-1], "drift")


@pytest.mark.parametrize("corner", TRAINERS)
def test_a_loss_that_is_not_finite_moves_nothing(corner):
    """Moving statistics neither: a batch whose loss is NaN may have statistics that are not finite."""
    assert_not_finite_moves_nothing(corner, PLANS["batch_norm"])


@pytest.mark.parametrize("corner", TRAINERS)
def test_a_row_that_only_the_history_looks_up_moves_in_the_shared_table(corner):
    plan = PLANS["history_shares"]
    batch = batches(plan.problem.config, 0)[0]
    alone = np.setdiff1d(batch.query_features["history"], [0, *batch.candidate_features["candidate_id"]])
    name = "weights/candidate.embedding.candidate_id"
    before, after = trained(corner, plan).states[:2]
    assert len(alone) > 0
    assert (before[name][alone] != after[name][alone]).all()


# ---------------------------------------------------------------- negative controls


def fails_with(monkeypatch, plan, module, name, fault, *, num_steps=1):
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fault)
        wrong = by_hand(plan, num_steps=num_steps).states[num_steps]
    assert_run_noticed(wrong, plan, num_steps=num_steps, first="deep_step")


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_rung5_notices_statistics_that_do_not_move(monkeypatch, name):
    fails_with(monkeypatch, PLANS[name], optimizers, "moved_statistics", lambda old, _: old)


def test_rung5_notices_another_momentum_of_the_statistics(monkeypatch):
    """PyTorch's own default keeps 0.9."""
    fails_with(monkeypatch, PLANS["batch_norm"], optimizers, "moved_statistics", lambda old, new: 0.9 * old + 0.1 * new)


def test_rung5_notices_the_sample_variance_in_the_moving_one(monkeypatch):
    """What PyTorch's own batch norm keeps."""

    def sample(old, new):
        is_variance = (new >= 0).all() and (old > 0.5).all()
        return 0.99 * old + 0.01 * new * (6 / 5 if is_variance else 1)

    fails_with(monkeypatch, PLANS["batch_norm"], optimizers, "moved_statistics", sample)


def test_rung5_notices_statistics_of_the_weights_after_the_step(monkeypatch):
    plan = PLANS["batch_norm"]
    right = by_hand(plan, num_steps=2).states
    small = plan.problem
    late = optimizers.statistics_after(
        small.config, optimizers.weights_of(right[2]), batches(small.config, 1), small.catalogue
    )
    assert_run_noticed(right[2] | late, plan, num_steps=2)


def test_rung5_notices_statistics_of_the_positives_alone(monkeypatch):
    plan = PLANS["everything_new"]
    right = optimizers.statistics_after
    bare = ("sampled", "impressions", "allowed")

    def of_positives(config, weights, steps, catalogue):
        return right(config, weights, [replace(batch, **dict.fromkeys(bare)) for batch in steps], catalogue)

    fails_with(monkeypatch, plan, optimizers, "statistics_after", of_positives)


def test_rung5_notices_a_shared_table_that_decays_twice(monkeypatch):
    """Once for each tower that looks it up."""
    plan = PLANS["history_shares"]
    wrong = by_hand(plan, num_steps=1).states[1]
    name = "weights/candidate.embedding.candidate_id"
    moving = model.looked_up_rows(plan.problem.config, batches(plan.problem.config, 0))
    moved = wrong[name].copy()
    rows = moving["candidate.embedding.candidate_id"]
    moved[rows] -= plan.learning_rate(0) * 0.3 * plan.problem.weights["candidate.embedding.candidate_id"][rows]
    assert_run_noticed(wrong | {name: moved}, plan, first="deep_step")


def test_rung5_notices_rows_of_the_history_left_out_of_a_shared_table(monkeypatch):
    """As if only the candidate tower's look-ups made a row move."""
    fails_with(monkeypatch, PLANS["history_shares"], towers, "item_lookups", lambda *_: [])

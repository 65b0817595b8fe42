"""The trainer with a bank, its momentum form, chunks, and what the loss learns."""

import math

import numpy as np
import pytest

from retrieval_contract.arrays import BankColumns
from retrieval_contract.config import Bank, Loss, Negatives, Optimizer
from retrieval_contract.errors import UserError
from torch_reference.callables import TwoTowerEncoders, loss_and_gradients
from torch_reference.inputs import batch_tensors
from torch_reference.training.trainer import TwoTowerTrainer

RATE, BATCH, PLACES = 0.05, 8, 16
SGD = Optimizer(kind="sgd")


def banked(num_batches=2, **settings):
    return Negatives(bank=Bank(num_batches=num_batches, **settings))


CONFIGS = {
    "bank": {"negatives": banked()},
    "bank with momentum": {"negatives": banked(momentum=0.9)},
    "bank after a warm-up": {"negatives": banked(warmup_steps=2)},
    "chunks": {"chunk_size": 3, "negatives": banked()},
    "learned temperature": {"loss": Loss(temperature=0.5, learn_temperature=True)},
    "sigmoid": {"loss": Loss(kind="sigmoid", log_q="none", learn_temperature=True)},
    "full softmax": {"loss": Loss(kind="full_softmax", log_q="none")},
}


def trainer(example, state=None):
    return TwoTowerTrainer(example.config, example.sizes, example.state if state is None else state, example.catalogue)


def weights_of(state):
    return {name.removeprefix("weights/"): array for name, array in state.items() if name.startswith("weights/")}


def assert_same_bytes(one, other):
    assert one.keys() == other.keys()
    assert not [name for name in one if one[name].tobytes() != other[name].tobytes()]
    assert all(one[name].dtype == other[name].dtype for name in one)


@pytest.mark.parametrize("case", CONFIGS)
def test_stopped_and_resumed_equals_uninterrupted_to_the_byte(make_example, case):
    example = make_example(dropout=0.3, **CONFIGS[case])
    draw = example.batch if case == "full softmax" else example.rich_batch
    steps = [(draw(2 * step), draw(2 * step + 1)) for step in range(5)]
    whole, state = trainer(example), None
    for batches in steps:
        whole.step(batches, learning_rate=RATE)
        stopped = trainer(example, state)
        stopped.step(batches, learning_rate=RATE)
        state = stopped.state()
    assert_same_bytes(whole.state(), state)


def test_a_reset_bank_is_noticed(make_example):
    example = make_example(negatives=banked(), optimizer=SGD)
    first = trainer(example)
    first.step([example.batch(0)], learning_rate=RATE)
    kept, emptied = first.state(), first.state()
    for name in ("vectors", "rows", "log_q", "bias", "enqueued"):
        emptied[f"bank/{name}"] = np.zeros_like(emptied[f"bank/{name}"])
    losses = [trainer(example, state).step([example.batch(1)], learning_rate=RATE).loss for state in (kept, emptied)]
    assert losses[0] > 1.1 * losses[1]


# ---------------------------------------------------------------- what the bank holds, and when


def forward_columns(example, weights, batch):
    """Vectors and biases of a batch's positives at given weights."""
    encoded = TwoTowerEncoders(example.config, example.sizes, weights, "cpu")
    vectors = encoded.encode_candidates(batch.candidate_features)
    rows = batch.candidate_features["candidate_id"]
    return vectors[:, :-1], weights["candidate.bias"][rows, 0]


def assert_holds(state, places, vectors, bias, batch):
    np.testing.assert_allclose(state["bank/vectors"][places], vectors, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["bank/bias"][places], bias, rtol=1e-6)
    np.testing.assert_array_equal(state["bank/rows"][places], batch.candidate_rows)
    np.testing.assert_array_equal(state["bank/log_q"][places], batch.log_q)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_the_bank_takes_the_steps_own_vectors_after_the_step(make_example, chunk_size):
    example = make_example(negatives=banked(), optimizer=SGD, chunk_size=chunk_size)
    stepped = trainer(example)
    assert stepped.state()["bank/enqueued"] == 0
    for step in range(3):
        before, batch = weights_of(stepped.state()), example.batch(step)
        stepped.step([batch], learning_rate=RATE)
        state = stepped.state()
        places = slice(step * BATCH % PLACES, step * BATCH % PLACES + BATCH)
        assert_holds(state, places, *forward_columns(example, before, batch), batch)
        after = forward_columns(example, weights_of(state), batch)[0]
        assert not np.allclose(state["bank/vectors"][places], after, atol=1e-4), "re-encoded after the step"
        assert state["bank/enqueued"] == (step + 1) * BATCH
        assert state["bank/enqueued"].dtype == np.int64
        assert state["bank/rows"].dtype == np.int32
        assert (state["bank/vectors"][(step + 1) * BATCH :] == 0).all()


def test_all_batches_of_a_step_meet_the_bank_as_it_stood(make_example):
    example = make_example(negatives=banked(num_batches=4), optimizer=SGD)
    stepped = trainer(example)
    stepped.step([example.batch(0), example.batch(1)], learning_rate=RATE)
    state = stepped.state()
    assert state["bank/enqueued"] == 2 * BATCH
    bank = BankColumns(**{name: state[f"bank/{name}"][:PLACES] for name in ("vectors", "rows", "log_q", "bias")})
    batches = [example.batch(2), example.batch(3)]
    wanted = [
        loss_and_gradients(example.config, example.sizes, weights_of(state), batch, dtype="float64", bank=bank)
        for batch in batches
    ]
    result = stepped.step(batches, learning_rate=RATE)
    assert result.loss == pytest.approx((wanted[0][0] + wanted[1][0]) / 2, rel=1e-5)
    for name, weight in weights_of(stepped.state()).items():
        gradient = (wanted[0][1][name] + wanted[1][1][name]) / 2
        moved = weight - state[f"weights/{name}"]
        np.testing.assert_allclose(moved, -RATE * gradient, rtol=1e-3, atol=1e-6)


def test_columns_count_from_the_warm_up_on_and_are_enqueued_in_it(make_example):
    plain, warmed, filled = (
        make_example(optimizer=SGD, **settings)
        for settings in ({}, {"negatives": banked(warmup_steps=2)}, {"negatives": banked()})
    )
    losses = {}
    for name, example in (("plain", plain), ("warmed", warmed), ("filled", filled)):
        stepped = trainer(example)
        losses[name] = [stepped.step([example.batch(step)], learning_rate=RATE).loss for step in range(3)]
        if name == "warmed":
            assert stepped.state()["bank/enqueued"] == 3 * BATCH
    assert losses["warmed"][:2] == losses["plain"][:2]
    assert losses["warmed"][2] > losses["plain"][2] + 0.1
    assert losses["filled"][0] == losses["plain"][0]
    assert losses["filled"][1] > losses["plain"][1] + 0.1


def test_the_momentum_form_fills_the_bank_with_the_averages_vectors(make_example):
    example = make_example(negatives=banked(momentum=0.75), optimizer=SGD, dropout=0.0)
    stepped = trainer(example)
    average = {name: array for name, array in example.weights.items() if name.startswith("candidate.")}
    start = stepped.state()
    assert {name for name in start if name.startswith("average/")} == {f"average/{name}" for name in average}
    for step in range(3):
        batch = example.batch(step)
        stepped.step([batch], learning_rate=RATE)
        state = stepped.state()
        for name in average:
            average[name] = 0.75 * average[name].astype(np.float64) + 0.25 * state[f"weights/{name}"]
            np.testing.assert_allclose(state[f"average/{name}"], average[name], rtol=1e-5, atol=1e-7)
        weights = {**weights_of(state), **{name: array.astype(np.float32) for name, array in average.items()}}
        places = slice(step * BATCH % PLACES, step * BATCH % PLACES + BATCH)
        assert_holds(state, places, *forward_columns(example, weights, batch), batch)


def test_the_average_is_encoded_without_dropout_and_the_plain_bank_with_it(make_example):
    for momentum in (0.5, None):
        example = make_example(negatives=banked(momentum=momentum), optimizer=SGD, dropout=0.4)
        stepped, batch = trainer(example), example.batch(0)
        stepped.step([batch], learning_rate=0.0)
        vectors = forward_columns(example, example.weights, batch)[0]
        assert np.allclose(stepped.state()["bank/vectors"][:BATCH], vectors, atol=1e-6) == (momentum is not None)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_a_step_that_is_not_finite_leaves_bank_and_average(make_example, momentum):
    example = make_example(negatives=banked(momentum=momentum))
    stepped = trainer(example)
    stepped.step([example.batch(0)], learning_rate=RATE)
    before = stepped.state()
    spoiled = example.batch(1, weights=np.full(BATCH, np.nan, np.float32))
    assert not math.isfinite(stepped.step([example.batch(2), spoiled], learning_rate=RATE).loss)
    assert_same_bytes(stepped.state(), before)


def test_a_smaller_batch_than_configured_goes_round_the_ring(make_example):
    example = make_example(negatives=banked(), optimizer=SGD)
    stepped, six = trainer(example), slice(0, 6)
    for step in range(4):
        batch = example.batch(step)
        features = [
            {name: array[six] for name, array in side.items()}
            for side in (batch.query_features, batch.candidate_features)
        ]
        arrays = [getattr(batch, name)[six] for name in ("query_rows", "candidate_rows", "log_q", "weights")]
        stepped.step([type(batch)(**dict(zip(FIELDS, [*features, *arrays], strict=True)))], learning_rate=RATE)
    state = stepped.state()
    assert state["bank/enqueued"] == 24
    np.testing.assert_array_equal(state["bank/rows"][2:8], example.batch(3).candidate_rows[six])


FIELDS = ("query_features", "candidate_features", "query_rows", "candidate_rows", "log_q", "weights")


def test_a_state_that_does_not_fit_is_refused_and_named(make_example):
    example = make_example(negatives=banked(momentum=0.9))
    stepped = trainer(example)
    stepped.step([example.batch(0)], learning_rate=RATE)
    state = stepped.state()

    def without(name):
        return {key: array for key, array in state.items() if key != name}

    with pytest.raises(UserError, match="missing: enqueued"):
        trainer(example, without("bank/enqueued"))
    with pytest.raises(UserError, match=r"missing: average/candidate\.bias"):
        trainer(example, without("average/candidate.bias"))
    with pytest.raises(UserError, match=r"shape \(3, 5\), not \(16, 5\)"):
        trainer(example, {**state, "bank/vectors": np.zeros((3, 5), np.float32)})
    with pytest.raises(UserError, match="left over: bank/vectors"):
        trainer(make_example(), state)
    without_average = {key: array for key, array in state.items() if not key.startswith("average/")}
    assert trainer(make_example(negatives=banked()), without_average).state()["bank/enqueued"] == BATCH


# ---------------------------------------------------------------- what the loss learns


def test_the_temperature_is_reported_and_learned(make_example):
    example = make_example(loss=Loss(temperature=0.5, learn_temperature=True), optimizer=SGD)
    stepped, reported = trainer(example), []
    for step in range(4):
        before = stepped.state()["weights/loss.log_temperature"]
        reported.append(stepped.step([example.batch(step)], learning_rate=RATE).temperature)
        assert reported[-1] == pytest.approx(math.exp(before[0]), rel=1e-6)
    assert len(set(reported)) == 4
    fixed = make_example(optimizer=SGD)
    assert trainer(fixed).step([fixed.batch(0)], learning_rate=RATE).temperature == 0.5


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_temperature_comes_back_inside_its_bounds_and_leaves_them_again(make_example, kind):
    loss = Loss(temperature=0.5, learn_temperature=True, temperature_range=(0.45, 0.55))
    example = make_example(loss=loss, optimizer=Optimizer(kind=kind))
    low, high = loss.log_temperature_range
    stepped = trainer(example)
    found = [float(stepped.state()["weights/loss.log_temperature"][0])]
    for _ in range(4):
        stepped.step([example.batch(0)], learning_rate=2.0)
        found.append(float(stepped.state()["weights/loss.log_temperature"][0]))
    assert {low, high} & set(found), "the example is meant to reach a bound"
    assert all(low <= theta <= high for theta in found)
    at_bound = {**example.weights, "loss.log_temperature": np.array([low], np.float32)}
    gradients = loss_and_gradients(example.config, example.sizes, at_bound, example.batch(0), dtype="float64")[1]
    assert abs(gradients["loss.log_temperature"][0]) > 1e-3
    outside = {**example.weights, "loss.log_temperature": np.array([low - 0.1], np.float32)}
    gradients = loss_and_gradients(example.config, example.sizes, outside, example.batch(0), dtype="float64")[1]
    assert gradients["loss.log_temperature"][0] == 0


def test_the_sigmoids_bias_moves(make_example):
    example = make_example(loss=Loss(kind="sigmoid", log_q="none", sigmoid_bias=-3.0), optimizer=SGD)
    stepped = trainer(example)
    stepped.step([example.batch(0)], learning_rate=RATE)
    gradient = loss_and_gradients(example.config, example.sizes, example.weights, example.batch(0), dtype="float64")[1]
    moved = stepped.state()["weights/loss.sigmoid_bias"] - np.float32(-3.0)
    assert moved[0] == pytest.approx(-RATE * gradient["loss.sigmoid_bias"][0], rel=1e-3)


# ---------------------------------------------------------------- chunks


def test_chunks_take_the_same_step_without_dropout_and_draw_for_themselves_with_it(make_example):
    states, losses = [], []
    for chunk_size in (None, 3):
        example = make_example(optimizer=SGD, chunk_size=chunk_size, negatives=banked())
        stepped = trainer(example)
        losses.append(
            [stepped.step([example.rich_batch(step), example.batch(9)], learning_rate=RATE).loss for step in range(3)]
        )
        states.append(stepped.state())
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for name in states[0]:
        np.testing.assert_allclose(states[1][name], states[0][name], rtol=1e-4, atol=1e-5)
    example = make_example(dropout=0.4, chunk_size=4)
    loss = trainer(example).step([example.batch(0)], learning_rate=RATE).loss
    assert loss == trainer(example).step([example.batch(0)], learning_rate=RATE).loss
    assert loss != trainer(make_example(dropout=0.4)).step([example.batch(0)], learning_rate=RATE).loss


def test_the_catalogue_is_encoded_whole(make_example):
    example = make_example(loss=Loss(kind="full_softmax", log_q="none"), optimizer=SGD)
    stepped, batch = trainer(example), example.batch(0)
    stepped.step([batch], learning_rate=RATE)
    before, after = example.weights["candidate.bias"], stepped.state()["weights/candidate.bias"]
    moved = np.flatnonzero((before != after).any(axis=1))
    assert set(moved) == set(example.catalogue["candidate_id"])
    assert set(moved) > set(batch_tensors(batch)["candidate_features"]["candidate_id"].tolist())

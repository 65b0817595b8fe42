import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles import bank, optimizers, towers
from parity_tests.planted_batches import make_batch
from parity_tests.problems import problem, with_settings
from parity_tests.tolerances import rule
from retrieval_contract.config import Bank

FORWARD = rule("forward", "float64")
NUM_ROWS = 6


def with_bank(case="bank_bias", **settings):
    return with_settings(problem(case), "negatives", bank=Bank(num_batches=2, **settings))


def run(small, num_steps, *, batches_a_step=1):
    """States after 0, 1, ... steps, and the batches of each step."""
    states, steps = [optimizers.initial_state(small.config, small.weights)], []
    for step in range(num_steps):
        seeds = range(step * batches_a_step, (step + 1) * batches_a_step)
        steps.append([make_batch(small.config, seed=seed) for seed in seeds])
        state = optimizers.take_step(small.config, small.table, states[-1], steps[-1], learning_rate=0.1).state
        states.append(state)
    return states, steps


def vectors(small, state, batch, prefix="weights/"):
    weights = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
    return towers.encode_candidate(small.config, weights, batch.candidate_features, training=True).vectors.value


def test_first_in_first_out():
    """Two batches fill the ring of twelve, the third overwrites the first."""
    states, steps = run(with_bank(), 3)
    rows = [batch.candidate_rows.tolist() for (batch,) in steps]
    assert states[1]["bank/rows"].tolist() == rows[0] + [0] * NUM_ROWS
    assert states[2]["bank/rows"].tolist() == rows[0] + rows[1]
    assert states[3]["bank/rows"].tolist() == rows[2] + rows[1]
    assert [int(state["bank/enqueued"]) for state in states] == [0, 6, 12, 18]


def test_the_ring_turns_inside_a_batch():
    """A ring that is no multiple of what is enqueued: entry n lies in place n mod S."""
    small = with_bank()
    states, steps = run(small, 1)
    ring = {name: np.resize(array, (7, *array.shape[1:])) for name, array in states[0].items() if array.ndim}
    ring["bank/enqueued"] = np.asarray(5.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "num_places", lambda _: 7)
        bank.enqueue(small.config, ring, small.weights, steps[0][0])
    rows = steps[0][0].candidate_rows.tolist()
    assert ring["bank/rows"].tolist() == [*rows[2:6], 0, *rows[:2]]


def test_entries_are_the_vectors_that_the_step_started_from():
    small = with_bank()
    states, steps = run(small, 2)
    [batch] = steps[1]
    assert_same(*[states[2]["bank/vectors"][6:]] * 2, vectors(small, states[1], batch), FORWARD)
    assert not np.array_equal(states[2]["bank/vectors"][6:], vectors(small, states[2], batch))
    assert_same(*[states[2]["bank/log_q"][6:]] * 2, batch.log_q, FORWARD)
    bias = states[1]["weights/candidate.bias"][batch.candidate_features["candidate_id"], 0]
    assert_same(*[states[2]["bank/bias"][6:]] * 2, bias, FORWARD)


def test_with_momentum_entries_are_the_averages_vectors_after_it_moved():
    small = with_bank(momentum=0.9)
    states, steps = run(small, 2)
    name = "candidate.embedding.candidate_id"
    wanted = 0.9 * states[1][f"average/{name}"] + 0.1 * states[2][f"weights/{name}"]
    assert_same(*[states[2][f"average/{name}"]] * 2, wanted, FORWARD)
    assert_same(*[states[2]["bank/vectors"][6:]] * 2, vectors(small, states[2], steps[1][0], "average/"), FORWARD)
    assert {key for key in states[0] if key.startswith("average/")} == {f"average/{name}", "average/candidate.bias"}


def test_columns_count_after_the_warm_up_and_only_where_they_were_filled():
    states, _ = run(with_bank(warmup_steps=2), 4)
    small = with_bank(warmup_steps=2)
    sizes = [bank.columns_of(small.config, state) for state in states]
    assert [None if found is None else len(found.rows) for found in sizes] == [None, None, 12, 12, 12]
    small = with_bank()
    assert len(bank.columns_of(small.config, run(small, 1)[0][1]).rows) == 6


def test_every_batch_of_a_step_sees_the_bank_of_its_beginning_and_enters_it():
    small = with_bank()
    states, steps = run(small, 1, batches_a_step=2)
    rows = [batch.candidate_rows.tolist() for batch in steps[0]]
    assert states[1]["bank/rows"].tolist() == rows[0] + rows[1]
    assert_same(*[states[1]["bank/vectors"][6:]] * 2, vectors(small, states[0], steps[0][1]), FORWARD)


def test_a_loss_that_is_not_finite_enqueues_nothing():
    small = with_bank(momentum=0.9)
    states, _ = run(small, 1)
    bad = {**states[1], "weights/candidate.embedding.candidate_id": np.full((7, 4), np.nan)}
    after = optimizers.take_step(small.config, small.table, bad, [small.batch], learning_rate=0.1).state
    assert {name: array.tobytes() for name, array in after.items()} == {
        name: np.asarray(array).tobytes() for name, array in bad.items()
    }


def test_without_a_bank_there_is_no_state():
    assert bank.initial_state(problem("plain").config, {}) == {}

import numpy as np
import pytest
import torch

from parity_tests.comparing import assert_same
from parity_tests.oracles import optimizers
from parity_tests.oracles.model import loss_and_gradients
from parity_tests.problems import problem, with_settings
from parity_tests.tolerances import rule
from retrieval_contract.weights.names import LOG_TEMPERATURE

STEP = rule("forward", "float64")
REFERENCES = {
    "sgd": (
        {"kind": "sgd", "momentum": 0.5, "learning_rate": 0.1},
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.5),
    ),
    "adagrad": (
        {"kind": "adagrad", "epsilon": 1e-3, "initial_accumulator": 0.25, "learning_rate": 0.1},
        lambda parameters: torch.optim.Adagrad(parameters, lr=0.1, eps=1e-3, initial_accumulator_value=0.25),
    ),
    "adam": (
        {"kind": "adam", "epsilon": 1e-3, "learning_rate": 0.1},
        lambda parameters: torch.optim.Adam(parameters, lr=0.1, eps=1e-3),
    ),
    "adamw": (
        {"kind": "adamw", "epsilon": 1e-3, "weight_decay": 0.5, "learning_rate": 0.1},
        lambda parameters: torch.optim.AdamW(parameters, lr=0.1, eps=1e-3, weight_decay=0.5),
    ),
}


def take_step(small, state, batches=None, *, learning_rate=0.1):
    batches = [small.batch] if batches is None else batches
    return optimizers.take_step(
        small.config, small.table, state, batches, learning_rate=learning_rate, catalogue=small.catalogue
    )


@pytest.mark.parametrize("kind", REFERENCES)
def test_where_all_rows_move_the_rule_is_the_published_one(kind):
    """Against torch.optim's dense rules, in float64, every row of a table in the batch."""
    settings, make = REFERENCES[kind]
    small = problem("hidden_tanh", optimizer=settings)
    every_row = {name: np.arange(len(array)) for name, array in small.weights.items()}
    decaying = {name: torch.tensor(array, dtype=torch.float64) for name, array in small.weights.items()}
    plain = {name for name in decaying if not small.table[name].decays}
    optimizer = make(
        [decaying[name] for name in decaying if name not in plain] if kind == "adamw" else list(decaying.values())
    )
    state = optimizers.initial_state(small.config, small.weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "moving_rows", lambda *_: every_row)
        for _ in range(3):
            weights = optimizers.weights_of(state)
            _, gradients = loss_and_gradients(small.config, weights, small.batch)
            for name, tensor in decaying.items():
                tensor.grad = torch.tensor(gradients[name])
            optimizer.step()
            state = take_step(small, state).state
    ours = optimizers.weights_of(state)
    for name in set(decaying) - (plain if kind == "adamw" else set()):
        assert_same(ours[name], ours[name], decaying[name].numpy(), STEP)


def test_a_row_outside_the_batch_does_not_move_and_one_inside_does():
    small = problem("plain", optimizer={"kind": "adamw", "weight_decay": 0.5})
    state = optimizers.initial_state(small.config, small.weights)
    after = take_step(small, state).state
    for key in (key for key in state if key.endswith("candidate_id")):
        assert (after[key][[0, 2, 4, 6]] == state[key][[0, 2, 4, 6]]).all(), key
        assert (after[key][[1, 3, 5]] != state[key][[1, 3, 5]]).all(), key


def test_clipping_scales_to_the_norm_and_only_down():
    gradients = {"a": np.array([3.0]), "b": np.array([4.0])}
    assert optimizers.clipped(gradients, 5.0, 1.0)["b"] == 0.8
    assert optimizers.clipped(gradients, 5.0, 10.0)["b"] == 4
    assert optimizers.clipped(gradients, 5.0, None)["b"] == 4


def test_the_step_of_two_batches_is_that_of_their_mean_gradient():
    one, other = problem("plain"), problem("plain", seed=1)
    state = optimizers.initial_state(one.config, one.weights)
    loss = take_step(one, state, [one.batch, other.batch]).loss
    losses = [loss_and_gradients(one.config, one.weights, batch)[0] for batch in (one.batch, other.batch)]
    assert_same(loss, loss, np.mean(losses), STEP)


def test_a_loss_that_is_not_finite_moves_nothing():
    small = problem("plain")
    state = optimizers.initial_state(small.config, small.weights)
    state["weights/candidate.embedding.candidate_id"][5] = np.nan
    step = take_step(small, state)
    assert not np.isfinite(step.loss)
    assert all(step.state[key].tobytes() == state[key].tobytes() for key in state)


def test_parameters_are_put_back_inside_their_bounds():
    small = with_settings(problem("learned_temperature"), "loss", temperature_range=(0.45, 0.55))
    low, high = small.config.loss.log_temperature_range
    ends = set()
    for rate in (100.0, -100.0):
        step = take_step(small, optimizers.initial_state(small.config, small.weights), learning_rate=rate)
        ends.add(float(step.state[f"weights/{LOG_TEMPERATURE}"][0]))
        assert step.temperature == np.exp(small.weights[LOG_TEMPERATURE].astype(np.float64)[0])
    assert ends == {low, high}

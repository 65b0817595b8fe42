import dataclasses
import math

import numpy as np
import pytest

from retrieval_contract.errors import UserError
from tfrs_models.callables import loss_and_gradients
from tfrs_models.training.trainer import TwoTowerTrainer

KINDS = {
    "adagrad": {"kind": "adagrad"},
    "adam": {"kind": "adam"},
    "adamw": {"kind": "adamw", "weight_decay": 0.1},
    "sgd": {"kind": "sgd"},
    "momentum": {"kind": "sgd", "momentum": 0.9},
}
DROPOUT = {"query": {"dropout": 0.3, "feature_dropout": 0.2}, "candidate": {"dropout": 0.4}}


def _trainer(problem, state=None):
    return TwoTowerTrainer(problem.config, problem.sizes, problem.first_state if state is None else state)


def _run(trainer, batches, rate=0.05):
    return [trainer.step([batch], learning_rate=rate) for batch in batches]


def _bytes(state):
    return {name: np.asarray(array).tobytes() for name, array in state.items()}


def _weights(state):
    return {name.removeprefix("weights/"): array for name, array in state.items() if name.startswith("weights/")}


def test_state_is_canonical(problem):
    state = _trainer(problem).state()
    weights = set(problem.weights)
    slots = {f"slots/{slot}/{name}" for slot in ("first_moment", "second_moment") for name in weights}
    assert set(state) == {f"weights/{name}" for name in weights} | slots | {"step"}
    assert all(array.dtype == np.float32 for name, array in state.items() if name != "step")
    assert (state["step"].dtype, state["step"].shape, int(state["step"])) == (np.int64, (), 0)
    assert _bytes(_weights(state)) == _bytes(problem.weights)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_state_goes_in_and_comes_out_to_the_byte(make_problem, kind):
    problem = make_problem(optimizer=KINDS[kind])
    trainer = _trainer(problem)
    _run(trainer, problem.batches)
    assert _bytes(_trainer(problem, trainer.state()).state()) == _bytes(trainer.state())


@pytest.mark.parametrize("kind", list(KINDS))
def test_training_lowers_the_loss(make_problem, kind):
    problem = make_problem(optimizer=KINDS[kind])
    results = _run(_trainer(problem), problem.batches * 10)
    assert sum(result.loss for result in results[-4:]) < sum(result.loss for result in results[:4]) - 0.1


def test_the_first_step_is_the_gradient_of_the_batch(make_problem):
    problem = make_problem(optimizer={"kind": "sgd"})
    trainer, batch = _trainer(problem), problem.batches[0]
    result = trainer.step([batch], learning_rate=0.1)
    loss, gradients = loss_and_gradients(problem.config, problem.sizes, problem.weights, batch, dtype="float64")
    np.testing.assert_allclose(result.loss, loss, rtol=1e-6)
    norm = math.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    np.testing.assert_allclose(result.gradient_norm, norm, rtol=1e-5)
    for name, array in _weights(trainer.state()).items():
        np.testing.assert_allclose(array, problem.weights[name] - 0.1 * gradients[name], atol=1e-6)


def test_accumulation_takes_the_mean_gradient(make_problem):
    problem = make_problem(optimizer={"kind": "sgd", "accumulation_steps": 2})
    trainer, batches = _trainer(problem), problem.batches[:2]
    result = trainer.step(batches, learning_rate=0.1)
    arguments = (problem.config, problem.sizes, problem.weights)
    both = [loss_and_gradients(*arguments, batch, dtype="float64") for batch in batches]
    np.testing.assert_allclose(result.loss, (both[0][0] + both[1][0]) / 2, rtol=1e-6)
    mean = {name: (both[0][1][name] + both[1][1][name]) / 2 for name in both[0][1]}
    norm = math.sqrt(sum((gradient**2).sum() for gradient in mean.values()))
    np.testing.assert_allclose(result.gradient_norm, norm, rtol=1e-5)
    for name, array in _weights(trainer.state()).items():
        np.testing.assert_allclose(array, problem.weights[name] - 0.1 * mean[name], atol=1e-6)
    assert int(trainer.state()["step"]) == 1


def test_the_batches_of_a_step_draw_their_dropout_apart(make_problem):
    twice = make_problem(optimizer={"kind": "sgd", "accumulation_steps": 2}, **DROPOUT)
    once = make_problem(optimizer={"kind": "sgd"}, **DROPOUT)
    batch = twice.batches[0]
    assert (
        _trainer(twice).step([batch, batch], learning_rate=0.1).loss
        != _trainer(once).step([batch], learning_rate=0.1).loss
    )


def test_clipping_bounds_the_step(make_problem):
    problem = make_problem(optimizer={"kind": "sgd", "clip_norm": 0.01})
    trainer = _trainer(problem)
    result = trainer.step([problem.batches[0]], learning_rate=1.0)
    moved = [array - problem.weights[name] for name, array in _weights(trainer.state()).items()]
    assert result.gradient_norm > 0.1
    np.testing.assert_allclose(math.sqrt(sum((delta**2).sum() for delta in moved)), 0.01, rtol=1e-3)


@pytest.mark.parametrize("kind", ["adagrad", "adamw", "momentum"])
def test_a_resumed_run_repeats_the_bytes_dropout_included(make_problem, kind):
    problem = make_problem(optimizer=KINDS[kind], **DROPOUT)
    whole = _trainer(problem)
    losses = _run(whole, problem.batches * 2)
    first = _trainer(problem)
    before = _run(first, problem.batches[:3])
    second = _trainer(problem, first.state())
    after = _run(second, (problem.batches * 2)[3:])
    assert before + after == losses
    assert _bytes(second.state()) == _bytes(whole.state())


def test_dropout_follows_the_seed_and_the_step(make_problem):
    problem = make_problem(**DROPOUT)
    batch = problem.batches[0]
    results = [_trainer(problem).step([batch], learning_rate=0.0).loss for _ in range(2)]
    assert results[0] == results[1]
    trainer = _trainer(problem)
    assert len({trainer.step([batch], learning_rate=0.0).loss for _ in range(4)}) == 4
    other = dataclasses.replace(problem, config=problem.config.model_copy(update={"seed": 4}))
    assert _trainer(other).step([batch], learning_rate=0.0).loss != results[0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_outside_the_batches_and_padding_do_not_move(make_problem, kind):
    problem = make_problem(optimizer=KINDS[kind])
    trainer = _trainer(problem)
    fresh = trainer.state()
    _run(trainer, problem.batches)
    state = trainer.state()
    untouched = {
        "query.embedding.query_id": [0, 8],
        "candidate.embedding.candidate_id": [0, 5, 6, 7],
        "candidate.bias": [0, 5, 6, 7],
    }
    for name, rows in untouched.items():
        for prefix in ("weights/", *(f"slots/{slot}/" for slot in trainer._optimizer.slots)):
            np.testing.assert_array_equal(state[prefix + name][rows], fresh[prefix + name][rows])
        assert (state[f"weights/{name}"][1:5] != fresh[f"weights/{name}"][1:5]).any(axis=1).any()
    for name in ("query.embedding.history", "candidate.embedding.genres"):
        assert state[f"weights/{name}"][0].tobytes() == bytes(4 * state[f"weights/{name}"].shape[1])


def _spoilt(batch, value):
    log_q = batch.log_q.copy()
    log_q[0] = value
    return dataclasses.replace(batch, log_q=log_q)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_moves_nothing(problem, value):
    trainer = _trainer(problem)
    _run(trainer, problem.batches[:2])
    before = _bytes(trainer.state())
    result = trainer.step([_spoilt(problem.batches[2], value)], learning_rate=0.1)
    assert not math.isfinite(result.loss)
    assert _bytes(trainer.state()) == before
    assert math.isfinite(trainer.step([problem.batches[2]], learning_rate=0.1).loss)
    assert _bytes(trainer.state()) != before


def test_a_gradient_that_is_not_finite_moves_nothing(make_problem):
    """Logits of the usual size from query vectors of 1e-30: the loss is finite, the square of the gradient is not."""
    problem = make_problem(optimizer={"kind": "sgd"}, model={"normalize": False}, loss={"temperature": 1e-30})
    state = problem.first_state
    for part in ("kernel", "bias"):
        state[f"weights/query.dense.2.{part}"] = state[f"weights/query.dense.2.{part}"] * np.float32(1e-30)
    trainer = _trainer(problem, state)
    result = trainer.step([problem.batches[0]], learning_rate=0.1)
    assert math.isfinite(result.loss)
    assert not math.isfinite(result.gradient_norm)
    assert _bytes(trainer.state()) == _bytes(state)


def test_the_given_state_and_batches_are_not_written(problem):
    state, batch = problem.first_state, problem.batches[0]
    before, features = _bytes(state), _bytes(batch.query_features)
    _run(_trainer(problem, state), [batch, batch])
    assert _bytes(state) == before
    assert _bytes(batch.query_features) == features


def test_a_state_does_not_follow_later_steps(problem):
    trainer = _trainer(problem)
    state = trainer.state()
    before = _bytes(state)
    _run(trainer, problem.batches)
    assert _bytes(state) == before


def test_a_state_without_slots_is_one_before_the_first_step(problem):
    with pytest.raises(UserError, match=r"slots/first_moment/query\.dense\.0\.bias is missing"):
        _trainer(problem, problem.first_state | {"step": np.asarray(3, np.int64)})
    with pytest.raises(UserError, match="step is missing"):
        _trainer(problem, {name: array for name, array in problem.first_state.items() if name != "step"})
    with pytest.raises(UserError, match=r"slots/velocity/candidate\.bias is left over"):
        _trainer(
            problem, _trainer(problem).state() | {"slots/velocity/candidate.bias": problem.weights["candidate.bias"]}
        )


def test_lists_of_any_length_run_through_one_trace(problem):
    trainer, batch = _trainer(problem), problem.batches[0]
    shorter = {**batch.query_features, "history": batch.query_features["history"][:, :1]}
    trainer.step([batch], learning_rate=0.1)
    trainer.step([dataclasses.replace(batch, query_features=shorter)], learning_rate=0.1)
    assert trainer._compiled.experimental_get_tracing_count() == 1


def test_a_step_reads_no_table_whole(problem):
    """Reading a table that is scattered into copies it: the step would cost what the table holds."""
    trainer = _trainer(problem)
    trainer.step([problem.batches[0]], learning_rate=0.1)
    graph = trainer._compiled.get_concrete_function().graph
    operations = [op for body in (graph, *_branches(graph)) for op in body.get_operations()]
    assert any(op.type == "ResourceScatterUpdate" for op in operations)
    read = {tuple(op.outputs[0].shape) for op in operations if op.type == "ReadVariableOp"}
    shapes = {sparse: {one.shape for one in problem.table.values() if one.sparse == sparse} for sparse in (True, False)}
    assert shapes[False] <= read
    assert not shapes[True] & read


def _branches(graph):
    """Graphs of the two branches of every condition."""
    conditions = [op for op in graph.get_operations() if op.type in ("If", "StatelessIf")]
    names = [op.get_attr(branch).name for op in conditions for branch in ("then_branch", "else_branch")]
    return [graph._get_function(name).graph for name in names]


def test_cuda_without_a_gpu_is_the_users_mistake(make_problem, monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    with pytest.raises(UserError, match="sees no GPU"):
        _trainer(make_problem(training={"device": "cuda"}))

import dataclasses
import math

import numpy as np
import pytest

from retrieval_contract.arrays import BankColumns
from retrieval_contract.errors import UserError
from tfrs_models.callables import TwoTowerEncoders, loss_and_gradients
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
    return TwoTowerTrainer(
        problem.config, problem.sizes, problem.first_state if state is None else state, problem.catalogue
    )


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


# ---------------------------------------------------------------- negatives

PLAIN_BANK = {"bank": {"num_batches": 2}}
MOMENTUM_BANK = {"bank": {"num_batches": 2, "momentum": 0.75}}
ALL_SOURCES = {"sampled": 3, "impressions": 2, "mask_known_positives": True, "mask_not_yet_seen": True}


def _bank(state, num_places=12):
    filled = min(int(state["bank/enqueued"]), num_places)
    parts = {name: state[f"bank/{name}"][:filled] for name in ("vectors", "rows", "log_q")}
    return BankColumns(**parts, bias=state["bank/bias"][:filled] if "bank/bias" in state else None)


def _find(problem, state, batch, **arguments):
    return loss_and_gradients(problem.config, problem.sizes, _weights(state), batch, dtype="float64", **arguments)


def _served(problem, weights, batch):
    encoders = TwoTowerEncoders(problem.config, problem.sizes, weights)
    return encoders.encode_candidates(batch.candidate_features)[:, : problem.config.model.dim]


def test_the_state_of_a_bank(make_problem):
    problem = make_problem(negatives=MOMENTUM_BANK)
    state = _trainer(problem).state()
    shapes = {name: (array.shape, array.dtype) for name, array in state.items() if name.startswith("bank/")}
    assert shapes == {
        "bank/vectors": ((12, 4), np.float32),
        "bank/rows": ((12,), np.int32),
        "bank/log_q": ((12,), np.float32),
        "bank/bias": ((12,), np.float32),
        "bank/enqueued": ((), np.int64),
    }
    averages = {name for name in state if name.startswith("average/")}
    assert averages == {f"average/{name}" for name in problem.weights if name.startswith("candidate.")}
    for name in averages:
        np.testing.assert_array_equal(state[name], problem.weights[name.removeprefix("average/")])
    without = _trainer(make_problem(negatives=PLAIN_BANK, model={"candidate_bias": False})).state()
    assert not any(name.startswith("average/") or name == "bank/bias" for name in without)


def test_the_plain_bank_takes_the_vectors_of_the_step_that_made_them(make_problem):
    problem = make_problem(negatives=PLAIN_BANK)
    trainer = _trainer(problem)
    for number, batch in enumerate(problem.batches[:3]):
        before = trainer.state()
        trainer.step([batch], learning_rate=0.1)
        after, place = trainer.state(), 6 * number % 12
        places = slice(place, place + 6)
        np.testing.assert_allclose(after["bank/vectors"][places], _served(problem, _weights(before), batch), rtol=1e-5)
        bias = _weights(before)["candidate.bias"][batch.candidate_features["candidate_id"], 0]
        np.testing.assert_array_equal(after["bank/bias"][places], bias)
        np.testing.assert_array_equal(after["bank/rows"][places], batch.candidate_rows)
        np.testing.assert_array_equal(after["bank/log_q"][places], batch.log_q)
        assert int(after["bank/enqueued"]) == 6 * (number + 1)


def test_the_momentum_bank_takes_the_averages_vectors_after_the_step(make_problem):
    problem = make_problem(negatives=MOMENTUM_BANK)
    trainer = _trainer(problem)
    for number, batch in enumerate(problem.batches[:2]):
        before = trainer.state()
        trainer.step([batch], learning_rate=0.1)
        after = trainer.state()
        average = {name.removeprefix("average/"): after[name] for name in after if name.startswith("average/")}
        for name, array in average.items():
            want = 0.75 * before[f"average/{name}"] + 0.25 * after[f"weights/{name}"]
            np.testing.assert_allclose(array, want, rtol=1e-5, atol=1e-6)
        places = slice(6 * number, 6 * number + 6)
        want = _served(problem, _weights(after) | average, batch)
        np.testing.assert_allclose(after["bank/vectors"][places], want, rtol=1e-5, atol=1e-6)
        bias = average["candidate.bias"][batch.candidate_features["candidate_id"], 0]
        np.testing.assert_array_equal(after["bank/bias"][places], bias)
        assert np.abs(want - _served(problem, _weights(after), batch)).max() > 1e-3


@pytest.mark.parametrize("negatives", [PLAIN_BANK, MOMENTUM_BANK, {**PLAIN_BANK, "hardest": 4}], ids=str)
def test_a_step_uses_the_bank_as_it_stood(make_problem, negatives):
    problem = make_problem(negatives=negatives, optimizer={"kind": "sgd"})
    trainer = _trainer(problem)
    _run(trainer, problem.batches[:3])
    state, batch = trainer.state(), problem.batches[3]
    result = trainer.step([batch], learning_rate=0.1)
    loss, gradients = _find(problem, state, batch, bank=_bank(state))
    np.testing.assert_allclose(result.loss, loss, rtol=1e-5)
    assert abs(loss - _find(problem, state, batch)[0]) > 0.1
    for name, array in _weights(trainer.state()).items():
        np.testing.assert_allclose(array, _weights(state)[name] - 0.1 * gradients[name], atol=1e-6)


def test_in_its_warm_up_the_bank_fills_and_does_not_count(make_problem):
    problem = make_problem(negatives={"bank": {"num_batches": 3, "warmup_steps": 2}})
    plain = make_problem()
    trainer, other = _trainer(problem), _trainer(plain)
    for batch in problem.batches[:2]:
        assert trainer.step([batch], learning_rate=0.1) == other.step([batch], learning_rate=0.1)
    assert int(trainer.state()["bank/enqueued"]) == 12
    third = problem.batches[2]
    assert trainer.step([third], learning_rate=0.1).loss > other.step([third], learning_rate=0.1).loss + 0.1


def test_the_batches_of_a_step_see_one_bank_and_enter_it_in_order(make_problem):
    problem = make_problem(negatives=PLAIN_BANK, optimizer={"kind": "sgd", "accumulation_steps": 2})
    trainer, batches = _trainer(problem), problem.batches
    trainer.step(batches[:2], learning_rate=0.1)
    state = trainer.state()
    np.testing.assert_array_equal(state["bank/log_q"], np.concatenate([batches[0].log_q, batches[1].log_q]))
    result = trainer.step(batches[2:], learning_rate=0.1)
    losses = [_find(problem, state, batch, bank=_bank(state))[0] for batch in batches[2:]]
    np.testing.assert_allclose(result.loss, np.mean(losses), rtol=1e-5)


RESUMED = {
    "plain bank": {"negatives": PLAIN_BANK, **DROPOUT},
    "momentum bank": {"negatives": MOMENTUM_BANK, **DROPOUT},
    "all sources, chunks": {"negatives": ALL_SOURCES, "training": {"chunk_size": 4}, **DROPOUT},
    "learned temperature": {"loss": {"learn_temperature": True}, "negatives": MOMENTUM_BANK},
    "sigmoid": {"loss": {"kind": "sigmoid", "log_q": "none"}, "negatives": {"sampled": 2}},
    "full softmax": {"loss": {"kind": "full_softmax", "log_q": "none"}, **DROPOUT},
}


@pytest.mark.parametrize("case", list(RESUMED))
def test_a_resumed_run_repeats_the_bytes_whatever_the_negatives(make_problem, case):
    problem = make_problem(**RESUMED[case])
    whole = _trainer(problem)
    _run(whole, problem.batches[:3])
    state = whole.state()
    losses = _run(whole, problem.batches)
    resumed = _trainer(problem, state)
    assert _run(resumed, problem.batches) == losses
    assert _bytes(resumed.state()) == _bytes(whole.state())


@pytest.mark.parametrize("negatives", [PLAIN_BANK, MOMENTUM_BANK], ids=str)
def test_a_loss_that_is_not_finite_moves_neither_bank_nor_average(make_problem, negatives):
    problem = make_problem(negatives=negatives)
    trainer = _trainer(problem)
    _run(trainer, problem.batches[:2])
    before = _bytes(trainer.state())
    assert not math.isfinite(trainer.step([_spoilt(problem.batches[2], np.nan)], learning_rate=0.1).loss)
    assert _bytes(trainer.state()) == before
    assert math.isfinite(trainer.step([problem.batches[2]], learning_rate=0.1).loss)


def test_a_bank_is_made_at_step_zero_only(make_problem):
    problem = make_problem(negatives=MOMENTUM_BANK)
    state = _trainer(problem).state()
    later = {name: array for name, array in state.items() if name != "bank/enqueued"}
    with pytest.raises(UserError, match="bank/enqueued is missing"):
        _trainer(problem, later)
    late = {name: array for name, array in state.items() if not name.startswith(("bank/", "average/"))}
    with pytest.raises(UserError, match=r"bank/vectors is missing.*average/candidate\.bias is missing"):
        _trainer(problem, late | {"step": np.asarray(3, np.int64)})
    with pytest.raises(UserError, match="bank/rows is left over"):
        _trainer(make_problem(), state)


def test_the_temperature_of_a_step_is_what_its_logits_were_divided_by(make_problem):
    problem = make_problem()
    assert _trainer(problem).step([problem.batches[0]], learning_rate=0.1).temperature == 0.5
    problem = make_problem(loss={"learn_temperature": True, "temperature_range": (0.1, 2.0)})
    trainer = _trainer(problem)
    for batch in problem.batches[:3]:
        theta = float(trainer.state()["weights/loss.log_temperature"][0])
        assert trainer.step([batch], learning_rate=0.1).temperature == pytest.approx(math.exp(theta), rel=1e-6)


def test_a_learned_temperature_stops_at_its_bounds(make_problem):
    problem = make_problem(loss={"learn_temperature": True, "temperature_range": (0.4, 0.6)}, optimizer={"kind": "sgd"})
    trainer = _trainer(problem)
    bounds = problem.config.loss.log_temperature_range
    seen = set()
    for _ in range(4):
        trainer.step([problem.batches[0]], learning_rate=100.0)
        seen.add(float(trainer.state()["weights/loss.log_temperature"][0]))
    assert seen <= set(bounds)


@pytest.mark.parametrize(("kind", "chunk_size"), [("adamw", None), ("momentum", 4)])
def test_a_step_with_all_sources_is_its_gradient(make_problem, kind, chunk_size):
    """Sampled columns and impressions move the rows that they looked up, once each."""
    problem = make_problem(optimizer={"kind": "sgd"}, negatives=ALL_SOURCES, training={"chunk_size": chunk_size})
    trainer, batch = _trainer(problem), problem.batches[0]
    result = trainer.step([batch], learning_rate=0.1)
    loss, gradients = _find(problem, problem.first_state, batch)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-5)
    for name, array in _weights(trainer.state()).items():
        np.testing.assert_allclose(array, problem.weights[name] - 0.1 * gradients[name], atol=1e-6)
    moving = make_problem(optimizer=KINDS[kind], negatives=ALL_SOURCES, training={"chunk_size": chunk_size})
    trainer = _trainer(moving)
    trainer.step([batch], learning_rate=0.1)
    moved = (
        trainer.state()["weights/candidate.embedding.candidate_id"]
        != problem.weights["candidate.embedding.candidate_id"]
    ).any(axis=1)
    looked_up = {
        int(row)
        for features in (batch.candidate_features, batch.sampled.features, batch.impressions.features)
        for row in features["candidate_id"]
    }
    assert set(moved.nonzero()[0]) <= looked_up


@pytest.mark.parametrize("case", ["all sources, chunks", "momentum bank", "full softmax"])
def test_one_trace_for_a_configuration(make_problem, case):
    problem = make_problem(**RESUMED[case])
    trainer = _trainer(problem)
    _run(trainer, problem.batches)
    assert trainer._compiled.experimental_get_tracing_count() == 1


def test_chunks_draw_their_dropout_apart_and_again(make_problem):
    """The two passes of a chunk must agree: otherwise the step would not follow the gradient of the reported loss."""
    problem = make_problem(optimizer={"kind": "sgd"}, training={"chunk_size": 4}, **DROPOUT)
    batch = problem.batches[0]
    first = _trainer(problem)
    result = first.step([batch], learning_rate=1e-3)
    moved = _weights(first.state())
    again = _trainer(problem, {f"weights/{name}": array for name, array in moved.items()} | {"step": np.asarray(0)})
    drop = result.loss - again.step([batch], learning_rate=0.0).loss
    np.testing.assert_allclose(drop, 1e-3 * result.gradient_norm**2, rtol=0.05)

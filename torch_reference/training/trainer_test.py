import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from retrieval_contract.arrays import Batch
from retrieval_contract.config import IdFeature, Model, Optimizer, RunConfig, Tower, Training
from retrieval_contract.errors import UserError
from retrieval_contract.weights.names import initial_weights, parameter_table
from torch_reference.callables import loss_and_gradients
from torch_reference.training.trainer import TwoTowerTrainer

KINDS = {
    "sgd": Optimizer(kind="sgd", momentum=0.9),
    "adagrad": Optimizer(kind="adagrad", clip_norm=0.5),
    "adam": Optimizer(kind="adam"),
    "adamw": Optimizer(kind="adamw", weight_decay=0.1, decay_candidate_bias=True),
}
RATE = 0.05


def trainer(example, state=None):
    return TwoTowerTrainer(example.config, example.sizes, example.state if state is None else state)


def assert_same_bytes(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    assert not different
    assert all(one[name].dtype == other[name].dtype for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_equals_uninterrupted_to_the_byte(make_example, kind):
    example = make_example(dropout=0.3, optimizer=KINDS[kind])
    steps = [(example.batch(2 * step), example.batch(2 * step + 1)) for step in range(5)]
    whole = trainer(example)
    for batches in steps:
        whole.step(batches, learning_rate=RATE)
    state = None
    for batches in steps:  # every step in a trainer of its own
        torch.manual_seed(len(batches))
        stopped = trainer(example, state)
        stopped.step(batches, learning_rate=RATE)
        state = stopped.state()
    assert_same_bytes(whole.state(), state)
    assert state["step"] == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_resumes_to_the_byte_too_and_computes_what_the_cpu_does(make_example, kind):
    example = make_example(dropout=0.3, optimizer=KINDS[kind], device="cuda")
    whole, state = trainer(example), None
    for step in range(4):
        whole.step([example.batch(step), example.batch(step + 9)], learning_rate=RATE)
        stopped = trainer(example, state)
        stopped.step([example.batch(step), example.batch(step + 9)], learning_rate=RATE)
        state = stopped.state()
    assert_same_bytes(whole.state(), state)
    states = []
    for device in ("cuda", "cpu"):
        stepped = trainer(make_example(optimizer=KINDS[kind], device=device))
        stepped.step([example.batch(0)], learning_rate=RATE)
        states.append(stepped.state())
    for name, array in states[0].items():
        # Adam's first step is the sign of the gradient times the rate, and a gradient near zero may turn its sign.
        if "second_moment" in name or "accumulator" in name or kind in ("sgd", "adagrad"):
            np.testing.assert_allclose(array, states[1][name], rtol=1e-3, atol=1e-5)


def test_dropout_belongs_to_seed_step_and_place(make_example):
    example = make_example(dropout=0.3)

    def loss(config=example.config, step=0, place=0):
        state = trainer(example).state() | {"step": np.asarray(step)}
        # Only the batch at `place` has weight, so that the loss shows its draws.
        silent = replace(example.batch(0), weights=np.zeros(8, np.float32))
        batches = [example.batch(0) if at == place else silent for at in range(2)]
        return TwoTowerTrainer(config, example.sizes, state).step(batches, learning_rate=RATE).loss

    assert loss() == loss()
    assert len({loss(), loss(step=1), loss(place=1), loss(example.config.model_copy(update={"seed": 4}))}) == 4


def test_the_first_state_holds_the_start(make_example):
    example = make_example(optimizer=Optimizer(kind="adagrad", initial_accumulator=0.25))
    state = trainer(example).state()
    for name, array in example.weights.items():
        np.testing.assert_array_equal(state[f"weights/{name}"], array)
        accumulator = state[f"slots/accumulator/{name}"]
        assert accumulator.shape == array.shape
        assert (accumulator == 0.25).all()
    assert state["step"].dtype == np.int64
    assert state["step"].shape == ()


def test_one_step_is_the_mean_gradient_of_its_batches_clipped_together(make_example):
    for clip_norm in (None, 0.3):
        example = make_example(optimizer=Optimizer(kind="sgd", clip_norm=clip_norm))
        batches = [example.batch(0), example.batch(1)]
        parts = [
            loss_and_gradients(example.config, example.sizes, example.weights, batch, dtype="float64")
            for batch in batches
        ]
        mean = {name: (parts[0][1][name] + parts[1][1][name]) / 2 for name in parts[0][1]}
        norm = math.sqrt(sum((gradient**2).sum() for gradient in mean.values()))
        scale = 1 if clip_norm is None else clip_norm / max(norm, clip_norm)
        stepped = trainer(example)
        result = stepped.step(batches, learning_rate=RATE)
        assert result.loss == pytest.approx((parts[0][0] + parts[1][0]) / 2, rel=1e-6)
        assert result.gradient_norm == pytest.approx(norm, rel=1e-5)
        for name, gradient in mean.items():
            moved = stepped.state()[f"weights/{name}"] - example.weights[name]
            np.testing.assert_allclose(moved, -RATE * scale * gradient, rtol=1e-4, atol=1e-7)


def test_adams_corrections_count_the_trainers_steps(make_example):
    example = make_example()
    stepped, weights, name = trainer(example), example.weights, "query.dense.0.kernel"
    value, first, second = weights[name].astype(np.float64), 0.0, 0.0
    for step in range(1, 4):
        batch = example.batch(step)
        gradient = loss_and_gradients(example.config, example.sizes, weights, batch, dtype="float64")[1][name]
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        value -= RATE * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        stepped.step([batch], learning_rate=RATE)
        state = stepped.state()
        weights = {key.removeprefix("weights/"): state[key] for key in state if key.startswith("weights/")}
    np.testing.assert_allclose(weights[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_outside_the_batch_and_padding_do_not_move(make_example, kind):
    example = make_example(optimizer=KINDS[kind])
    stepped = trainer(example)
    stepped.step([example.batch(9)], learning_rate=RATE)  # so that slots are not at their starts
    before, batch = stepped.state(), example.batch(0)
    stepped.step([batch], learning_rate=RATE)
    after = stepped.state()
    looked_up = {
        "query.embedding.query_id": batch.query_features["query_id"],
        "query.embedding.city": batch.query_features["city"],
        "query.embedding.history": batch.query_features["history"],
        "candidate.embedding.candidate_id": batch.candidate_features["candidate_id"],
        "candidate.embedding.genres": batch.candidate_features["genres"],
        "candidate.bias": batch.candidate_features["candidate_id"],
    }
    for name, rows in looked_up.items():
        places = [key for key in after if key.endswith("/" + name)]
        assert places
        for key in places:
            moved = np.flatnonzero((before[key] != after[key]).any(axis=1))
            assert set(moved) <= set(rows.ravel()) - {0}, key
        moved = np.flatnonzero((before[f"weights/{name}"] != after[f"weights/{name}"]).any(axis=1))
        assert set(moved) == set(rows.ravel()) - {0}, name
        assert (after[f"weights/{name}"][0] == 0).all()


@pytest.mark.parametrize("fault", ["weights", "log_q"])
def test_a_loss_that_is_not_finite_moves_nothing(make_example, fault):
    example = make_example(dropout=0.2)
    stepped, clean = trainer(example), trainer(example)
    for each in (stepped, clean):
        each.step([example.batch(0)], learning_rate=RATE)
    before = stepped.state()
    spoiled = example.batch(1, **{fault: np.full(8, np.nan, np.float32)})
    result = stepped.step([example.batch(2), spoiled], learning_rate=RATE)
    assert not math.isfinite(result.loss)
    assert_same_bytes(stepped.state(), before)
    for each in (stepped, clean):
        each.step([example.batch(3)], learning_rate=RATE)
    assert_same_bytes(stepped.state(), clean.state())


def test_a_gradient_that_is_not_finite_moves_nothing(make_example):
    example = make_example(normalize=False, optimizer=Optimizer(kind="sgd"))
    example.weights["query.dense.1.kernel"][:] *= 1e25
    stepped = trainer(example)
    before = stepped.state()
    result = stepped.step([example.batch(0, weights=np.full(8, 1e-30, np.float32))], learning_rate=RATE)
    assert not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm))
    assert_same_bytes(stepped.state(), before)


def test_a_state_of_another_model_is_refused_and_named(make_example):
    example = make_example()
    state = trainer(example).state()
    with pytest.raises(UserError, match=r"missing: candidate\.bias"):
        trainer(example, {name: array for name, array in state.items() if name != "weights/candidate.bias"})
    with pytest.raises(UserError, match="left over: velocity/x"):
        trainer(example, {**state, "slots/velocity/x": np.zeros(2, np.float32)})
    with pytest.raises(UserError, match="left over: epoch"):
        trainer(example, {**state, "epoch": np.asarray(1)})
    with pytest.raises(UserError, match="missing: step"):
        trainer(example, {name: array for name, array in state.items() if name != "step"})
    with pytest.raises(UserError, match="missing: first_moment"):
        trainer(example, {**example.state, "step": np.asarray(7)})


def test_the_process_keeps_its_settings(make_example):
    example = make_example()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    trainer(example).step([example.batch(0)], learning_rate=RATE)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory == filled


class LargeResults(TorchDispatchMode):
    """Names the operations whose result holds as much memory as a table, sparse entries counted by what they store."""

    def __init__(self, num_rows):
        super().__init__()
        self.num_rows, self.names = num_rows, set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        inputs = {id(argument) for argument in args}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and id(tensor) not in inputs and not tensor._is_view():
                stored = tensor._nnz() if tensor.is_sparse else tensor.numel()
                if stored >= self.num_rows and not shares_memory(tensor, args):
                    self.names.add(str(operation))
        return result


def shares_memory(tensor, args):
    if tensor.is_sparse:
        return False
    dense = [argument for argument in args if isinstance(argument, torch.Tensor) and not argument.is_sparse]
    return any(tensor.untyped_storage().data_ptr() == argument.untyped_storage().data_ptr() for argument in dense)


@pytest.mark.parametrize("kind", KINDS)
def test_no_operation_of_a_step_makes_anything_as_large_as_a_table(kind):
    num_rows = 50_000
    towers = {
        side: Tower(features=(IdFeature(name=f"{side}_id", width=2),), hidden_dims=(3,))
        for side in ("query", "candidate")
    }
    optimizer = KINDS[kind].model_copy(update={"clip_norm": 0.01})
    config = RunConfig(
        **towers, model=Model(dim=2, candidate_bias=True), optimizer=optimizer, training=Training(device="cpu")
    )
    sizes = {side: {f"{side}_id": num_rows} for side in ("query", "candidate")}
    weights = initial_weights(parameter_table(config, sizes), seed=0, embedding_stddev=0.1)
    state = {**{f"weights/{name}": array for name, array in weights.items()}, "step": np.asarray(0)}
    stepped = TwoTowerTrainer(config, sizes, state)
    rows = np.arange(8, dtype=np.int32)
    batch = Batch(
        query_features={"query_id": rows + 2},
        candidate_features={"candidate_id": rows + 2},
        query_rows=rows,
        candidate_rows=rows,
        log_q=np.zeros(8, np.float32),
        weights=np.ones(8, np.float32),
    )
    with LargeResults(num_rows) as seen:
        stepped.step([batch, batch], learning_rate=RATE)
    assert not seen.names
    with LargeResults(num_rows) as seen:
        stepped._model.compute_loss(tensors_of(batch)).backward()
        stepped._variables["candidate.bias"].grad.to_dense()
    assert seen.names, "a dense gradient was not noticed"


def tensors_of(batch):
    from torch_reference.inputs import batch_tensors

    return batch_tensors(batch)

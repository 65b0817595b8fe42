"""Training at every place of a history, through shared tables, norms and several interests."""

import dataclasses

import numpy as np
import pytest
import torch

from retrieval_contract.config import Bank, Loss, Negatives, Optimizer
from retrieval_contract.errors import UserError
from retrieval_contract.weights.names import parameter_table
from torch_reference.callables import TwoTowerEncoders, loss_and_gradients
from torch_reference.conftest import BATCH, POOLINGS, Example, rich_query_features
from torch_reference.training import trainer as trainer_module
from torch_reference.training.trainer import TwoTowerTrainer

FULL = Loss(kind="full_softmax", log_q="none", temperature=0.5)


def trainer(example, state=None):
    return TwoTowerTrainer(example.config, example.sizes, state or example.state, example.catalogue)


def same(one, other):
    assert list(one) == list(other)
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


def gradients(example, batch, dtype="float64", **changes):
    config = example.config.model_copy(update=changes)
    return loss_and_gradients(config, example.sizes, example.weights, batch, dtype=dtype, catalogue=example.catalogue)


@pytest.mark.parametrize("loss", [FULL, Loss(temperature=0.5)])
@pytest.mark.parametrize("pooling", ["gru", "transformer"])
def test_all_places_of_a_sequence_are_as_many_histories(make_rich_example, pooling, loss):
    example = make_rich_example(pooling=pooling, positions="all", norm="layer", loss=loss)
    batch = example.rich_features_batch(0)
    if pooling == "transformer":  # positions count back from the newest item of a sequence, not of each of its parts
        example.weights["query.history.history.position"][:] = 0.5
    length = batch.query_features["history"].shape[1]
    rows, last = np.divmod(batch.places, length)
    kept = np.arange(length) <= last[:, None]
    cut = {
        name: np.where(kept.reshape(*kept.shape, *([1] * (array.ndim - 2))), array[rows], 0)
        for name, array in batch.query_features.items()
        if name.startswith("history")
    }
    single = dataclasses.replace(batch, query_features=cut, places=None)
    (whole_loss, whole), (loss_of_parts, parts) = gradients(example, batch), gradients(example, single)
    assert whole_loss == pytest.approx(loss_of_parts, rel=1e-12)
    for name, gradient in whole.items():
        if name.endswith("history.position"):
            np.testing.assert_allclose(gradient.sum(axis=0), parts[name].sum(axis=0), rtol=1e-8, atol=1e-10)
        else:
            np.testing.assert_allclose(gradient, parts[name], rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_gradients_are_the_losss_slopes(make_rich_example, pooling, norm):
    example = make_rich_example(pooling=pooling, norm=norm)
    batch = example.rich_features_batch(1)
    weights = {name: array.astype(np.float64) for name, array in example.weights.items()}
    _, found = loss_and_gradients(example.config, example.sizes, weights, batch, dtype="float64")
    table = parameter_table(example.config, example.sizes)
    assert list(found) == [name for name, weight in table.items() if weight.trained]
    # Of the items' parts MIND's gradient is not the loss's: the shares of its routing are constants there.
    constant = {n for n in found if pooling == "mind" and ("history" in n or n.startswith("candidate.embedding"))}
    assert all(np.isfinite(gradient).all() for gradient in found.values())
    generator, step = np.random.default_rng(0), 1e-6
    for _ in range(3):
        move = {
            name: generator.standard_normal(gradient.shape) * (gradient != 0)
            for name, gradient in found.items()
            if name not in constant
        }
        up, down = (
            loss_and_gradients(
                example.config,
                example.sizes,
                weights | {name: weights[name] + sign * step * direction for name, direction in move.items()},
                batch,
                dtype="float64",
            )[0]
            for sign in (1, -1)
        )
        slope = sum((found[name] * direction).sum() for name, direction in move.items())
        assert (up - down) / (2 * step) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_resumed_trainer_goes_on_with_the_same_bytes_and_nothing_untrained_has_slots(make_rich_example, pooling):
    example = make_rich_example(pooling=pooling)
    batches = [example.rich_features_batch(seed) for seed in range(4)]
    straight = trainer(example)
    for batch in batches[:2]:
        straight.step([batch], learning_rate=0.01)
    state = straight.state()
    resumed = trainer(example, state)
    for batch in batches[2:]:
        straight.step([batch], learning_rate=0.01)
        resumed.step([batch], learning_rate=0.01)
    assert same(straight.state(), resumed.state())
    table = parameter_table(example.config, example.sizes)
    assert {name for name in state if name.startswith("slots/first_moment/")} == {
        f"slots/first_moment/{name}" for name, weight in table.items() if weight.trained
    }
    if pooling == "mind":
        routing = "weights/query.history.history.routing"
        np.testing.assert_array_equal(state[routing], example.state[routing])


@pytest.mark.parametrize("pooling", ["gru", "transformer"])
def test_training_at_all_places_repeats_to_the_byte_and_learns(make_rich_example, pooling):
    example = make_rich_example(pooling=pooling, positions="all", loss=FULL)
    batch = example.rich_features_batch(0)
    one, other = trainer(example), trainer(example)
    losses = [one.step([batch], learning_rate=0.01).loss for _ in range(30)]
    assert losses == [other.step([batch], learning_rate=0.01).loss for _ in range(30)]
    assert same(one.state(), other.state())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    touched = set(batch.query_features["history"].ravel()) | set(example.catalogue["candidate_id"])
    rows = np.setdiff1d(np.arange(11), list(touched | {0}))
    name = "weights/candidate.embedding.candidate_id"
    np.testing.assert_array_equal(one.state()[name][[0, *rows]], example.state[name][[0, *rows]])


def test_moving_statistics_move_with_a_step_and_only_with_a_finite_one(make_rich_example):
    example = make_rich_example(pooling="mean")
    built, batch = trainer(example), example.rich_features_batch(0)
    before = built.state()
    spoiled = dataclasses.replace(batch, weights=np.full(BATCH, np.nan, np.float32))
    assert not np.isfinite(built.step([spoiled], learning_rate=0.01).loss)
    assert same(built.state(), before)
    built.step([batch], learning_rate=0.01)
    for side in ("query", "context", "candidate"):
        for part in ("mean", "variance"):
            name = f"weights/{side}.dense.0.norm.{part}"
            assert not np.array_equal(built.state()[name], before[name]), name
    loss_and_gradients(example.config, example.sizes, example.weights, batch, dtype="float32")


def test_batch_norm_counts_all_candidates_of_a_batch_in_one_pass(make_rich_example):
    example = make_rich_example(pooling="mean")
    built, batch = trainer(example), example.rich_features_batch(0)
    built.step([batch], learning_rate=1e-6)
    without = dataclasses.replace(batch, sampled=None)
    other = trainer(example)
    other.step([without], learning_rate=1e-6)
    name = "weights/candidate.dense.0.norm.mean"
    assert not np.allclose(built.state()[name], other.state()[name])
    name = "weights/query.dense.0.norm.mean"
    assert built.state()[name].shape == other.state()[name].shape


def test_batch_norm_is_refused_with_several_processes(make_rich_example, monkeypatch):
    monkeypatch.setattr(trainer_module, "num_replicas", lambda: 2)
    with pytest.raises(UserError, match="2 processes") as refused:
        trainer(make_rich_example())
    assert "query.norm" in str(refused.value)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean", "attention", "gru", "transformer"])
def test_chunks_have_the_gradient_of_the_whole_through_shared_tables(make_rich_example, pooling):
    example = make_rich_example(pooling=pooling, norm="layer")
    chunked = make_rich_example(pooling=pooling, norm="layer", chunk_size=3)
    batch = example.rich_features_batch(2)
    (loss, whole), (other_loss, parts) = gradients(example, batch), gradients(chunked, batch)
    assert loss == pytest.approx(other_loss, rel=1e-12)
    for name, gradient in whole.items():
        np.testing.assert_allclose(parts[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_banks_average_of_a_shared_table_is_a_copy(make_rich_example):
    negatives = Negatives(bank=Bank(num_batches=2, momentum=0.5))
    example = make_rich_example(norm="layer", negatives=negatives, loss=Loss(log_q="none"))
    built, batch = trainer(example), dataclasses.replace(example.rich_features_batch(0), sampled=None)
    for _ in range(3):
        built.step([batch], learning_rate=0.05)
    state = built.state()
    name = "candidate.embedding.candidate_id"
    assert not np.array_equal(state[f"average/{name}"], state[f"weights/{name}"])
    assert {n for n in state if n.startswith("average/")} == {
        f"average/{n}" for n in example.weights if n.startswith("candidate.")
    }
    again = trainer(example, state)
    assert same(again.state(), state)
    assert built.step([batch], learning_rate=0.05) == again.step([batch], learning_rate=0.05)


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "adam", "adamw"])
def test_every_rule_moves_all_that_is_trained(make_rich_example, kind):
    decay = {"weight_decay": 0.01} if kind == "adamw" else {}
    example = make_rich_example(optimizer=Optimizer(kind=kind, **decay))
    built = trainer(example)
    for seed in range(3):
        built.step([example.rich_features_batch(seed)], learning_rate=0.05)
    still = [
        name
        for name, array in example.weights.items()
        if np.array_equal(built.state()[f"weights/{name}"], array) and name != "candidate.bias"
    ]
    assert still == []


@pytest.mark.parametrize("pooling", POOLINGS)
def test_encoders_give_all_interests_and_do_not_depend_on_the_chunk(make_rich_example, pooling, monkeypatch):
    example: Example = make_rich_example(pooling=pooling)
    features = rich_query_features(np.random.default_rng(0), 23)
    whole = TwoTowerEncoders(example.config, example.sizes, example.weights, "cpu").encode_queries(features)
    assert whole.shape == ((23, 3, 6) if pooling in ("mind", "comirec") else (23, 6))
    assert whole.dtype == np.float32
    assert (whole[..., -1] == 1).all()
    monkeypatch.setattr("torch_reference.callables.CHUNK_NUMBERS", 16 * 5)
    again = TwoTowerEncoders(example.config, example.sizes, example.weights, "cpu")
    np.testing.assert_allclose(again.encode_queries(features), whole, rtol=1e-6, atol=1e-7)
    empty = {name: array[:0] for name, array in features.items()}
    assert again.encode_queries(empty).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("loss", [FULL, Loss(temperature=0.5)])
@pytest.mark.parametrize("pooling", ["mind", "comirec"])
def test_the_positive_chooses_among_the_interests(make_rich_example, pooling, loss):
    from torch_reference.inputs import batch_tensors, feature_tensors
    from torch_reference.tasks.interests import attend_label, choose_interest
    from torch_reference.training.model import RetrievalModel
    from torch_reference.weights import assign

    example = make_rich_example(pooling=pooling, norm="layer", loss=loss)
    catalogue = feature_tensors(example.catalogue, dtype="float64")
    model = RetrievalModel(example.config, example.sizes, "float64", catalogue).double().eval()
    assign(model.towers, example.weights)
    batch = batch_tensors(example.rich_features_batch(0), "float64")
    encoded = model.encode(batch)
    positive = model.towers.encode_candidate(batch["candidate_features"])
    expected = (
        attend_label(encoded.query_BD, positive, 0.7)
        if pooling == "mind"
        else choose_interest(encoded.query_BD, positive)
    )
    torch.testing.assert_close(model.score(batch, encoded).rows.vectors_BD, expected)

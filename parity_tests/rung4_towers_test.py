"""Rung 4 over features, histories and towers: the loss, and the gradient of every parameter, in three corners.

The faults that only a gradient, or only training, can show stand here; those of a forward pass in rung 3.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import torch

import tfrs_models.tasks.interests
import torch_reference.tasks.interests
from parity_tests.comparing import assert_same
from parity_tests.corners import oracle_loss
from parity_tests.judging import DTYPES, assert_same_losses
from parity_tests.oracles import columns, histories, inputs, interests, items, layers, model, towers
from parity_tests.oracles.differentiation import Node, gradients, softmax, stopped, where
from parity_tests.planted_features import PLACES as PREDICTED
from parity_tests.problems import with_settings
from parity_tests.tolerances import rule
from parity_tests.tower_cases import DRAWN, SINGLE
from parity_tests.tower_corners import (
    LOSSES,
    assert_loss_agrees,
    assert_loss_noticed,
    faulty,
    small_problem,
    stack_loss,
    true_loss,
)

RIGHT_STACKED = towers.stacked
CHUNKED = ("history_shares", "shared_lookups", "history_fields", "transformer", "context_gate", "layer_norm", "dense")
"""Towers whose gradients may be cached: one vector a query, and no batch norm."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SINGLE)
def test_loss_and_gradients(case, dtype):
    loss, gradients = assert_loss_agrees(case, dtype)
    assert np.isfinite(loss)
    assert set(gradients) == {name for name, entry in small_problem(case).table.items() if entry.trained}


@pytest.mark.parametrize("case", DRAWN)
def test_drawn_configurations(case):
    loss, _ = assert_loss_agrees(case, "float64")
    assert np.isfinite(loss)


@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("case", CHUNKED)
def test_cached_gradients_are_the_gradients(case, chunk_size):
    """Tables that both towers look up among them, whose gradient comes from two replays."""
    small = with_settings(small_problem(case), "training", chunk_size=chunk_size)
    one, other = (ask(small, "float64") for ask in LOSSES.values())
    assert_same_losses(one, other, true_loss(case), "float64")


def test_the_draws_meet_every_option():
    trees = DRAWN.values()
    history = [tree["query"]["features"][0] for tree in trees]
    assert len(Counter(each["pooling"]["kind"] for each in history)) == 7
    assert {each["shares"] for each in history} == {True, False}
    assert len({name for each in history for name in each["fields"]}) > 8
    for option in ("norm", "residual", "cross_layers", "activation"):
        found = Counter(str(tree[side][option]) for tree in trees for side in ("query", "candidate"))
        assert min(found.values()) >= 8, option
    assert sum("context" in tree for tree in trees) >= 6
    assert sum(tree["training"]["positions"] == "all" for tree in trees) == len(DRAWN) // 4


@pytest.mark.parametrize("stack", LOSSES)
def test_gradients_have_the_canonical_shape_and_dtype(stack):
    table = small_problem("everything_new").table
    for dtype in DTYPES:
        _, gradients = stack_loss(stack, "everything_new", dtype)
        assert {name: gradient.shape for name, gradient in gradients.items()} == {
            name: entry.shape for name, entry in table.items() if entry.trained
        }
        assert {gradient.dtype.name for gradient in gradients.values()} == {dtype}


@pytest.mark.parametrize("stack", LOSSES)
def test_padding_rows_have_no_gradient(stack):
    for case in ("history_fields", "history_shares", "lists", "places_tower", "everything_new"):
        for name, gradient in stack_loss(stack, case, "float64")[1].items():
            assert ".embedding." not in name or not gradient[0].any(), (case, name)


@pytest.mark.parametrize("stack", LOSSES)
@pytest.mark.parametrize("case", ["batch_norm", "mind", "everything_new"])
def test_all_weights_zero_give_zero(case, stack):
    small = small_problem(case)
    batch = replace(small.batch, weights=np.zeros_like(small.batch.weights))
    loss, gradients = LOSSES[stack](replace(small, batch=batch), "float64")
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients.values())


def test_equal_interests_go_to_the_first():
    """Products 2, 2, 1 and, of the zero vector, 0, 0, 0: the gradient is the first one's alone, not the label's."""
    interests_BID = np.array([[[1, 1], [2, 0], [1, 0]], [[0, 0], [0, 0], [0, 0]]], np.float64)
    labels_BD = np.array([[1, 1], [3, -1]], np.float64)
    leaves = {"interests": Node(interests_BID), "label": Node(labels_BD)}
    truth = gradients([(interests.chosen(*leaves.values()), 1.0)], leaves)
    assert truth["interests"].tolist() == [[[1, 1], [0, 0], [0, 0]], [[1, 1], [0, 0], [0, 0]]]
    assert not truth["label"].any()
    given = [torch.tensor(interests_BID, requires_grad=True), torch.tensor(labels_BD, requires_grad=True)]
    torch_reference.tasks.interests.choose_interest(*given).sum().backward()
    with tf.GradientTape() as tape:
        variables = [tf.Variable(interests_BID), tf.Variable(labels_BD)]
        total = tf.reduce_sum(tfrs_models.tasks.interests.choose_interest(*variables))
    by_tf, to_label = tape.gradient(total, variables)
    assert_same(by_tf.numpy(), given[0].grad.numpy(), truth["interests"], rule("gradient", "float64"))
    assert to_label is None or not to_label.numpy().any()
    assert given[1].grad is None or not given[1].grad.any()


# ---------------------------------------------------------------- negative controls


def notices(case, module, name, fault):
    assert_loss_noticed(case, faulty(oracle_loss, case, module, name, fault))


@pytest.mark.parametrize("case", ["mind", "context_mind", "mind_tower"])
def test_rung4_notices_a_gradient_through_all_routing_iterations(case):
    notices(case, interests, "held", lambda x: x)


def test_rung4_notices_a_routing_whose_input_is_stopped_everywhere():
    """The last iteration too: kernel and items would get nothing."""
    right = interests.capsules
    notices("mind", interests, "capsules", lambda logits, u, real: right(logits, stopped(u), real))


@pytest.mark.parametrize("case", ["mind_power", "mind_root"])
def test_rung4_notices_label_attention_without_its_power(case):
    right = interests.attended
    notices(case, interests, "attended", lambda several, label, _: right(several, label, 1.0))


def test_rung4_notices_a_power_without_the_sign():
    right = interests.signed_power

    def of_the_size(x, power):
        return right(where(x.value < 0, -x, x), power)

    notices("mind_power", interests, "signed_power", of_the_size)


def test_rung4_notices_a_label_without_a_gradient():
    right = interests.attended
    notices("mind", interests, "attended", lambda several, label, power: right(several, stopped(label), power))


def test_rung4_notices_a_label_with_its_bias():
    """The positive's vector is taken before any bias."""
    right = interests.attended

    def biased(several, label, power):
        rows = small_problem("mind_tower").batch.candidate_features["candidate_id"]
        bias = small_problem("mind_tower").weights["candidate.bias"][rows].astype(float)
        return right(several, label + bias, power)

    notices("mind_tower", interests, "attended", biased)


@pytest.mark.parametrize("case", ["comirec", "comirec_tower", "context_comirec"])
def test_rung4_notices_a_soft_choice_for_a_hard_one(case):
    def soft(several, label):
        shares = softmax((several * label[:, None, :]).sum(2), 1, np.array([True]))
        return (shares[:, :, None] * several).sum(1)

    notices(case, interests, "chosen", soft)


def test_rung4_notices_a_hard_choice_for_a_soft_one():
    right = interests.chosen
    notices("mind", interests, "attended", lambda several, label, _: right(several, label))


def test_rung4_notices_a_choice_by_another_rows_label():
    right = interests.chosen
    notices("comirec", interests, "chosen", lambda several, label: right(several, label[::-1]))


@pytest.mark.parametrize("case", ["batch_norm", "batch_norm_columns", "context_cross"])
def test_rung4_notices_moving_statistics_in_training(case):
    right = towers.encode
    notices(case, towers, "encode", lambda *given, **named: right(*given, **named | {"training": False}))


@pytest.mark.parametrize("case", ["batch_norm", "batch_norm_columns"])
def test_rung4_notices_the_sample_variance(case):
    def sample(x, axis):
        mean, size = x.mean(axis, keepdims=True), x.shape[axis]
        return mean, ((x - mean) * (x - mean)).mean(axis, keepdims=True) * (size / (size - 1))

    notices(case, layers, "mean_and_variance", sample)


def test_rung4_notices_statistics_without_a_gradient():
    right = layers.mean_and_variance
    notices("batch_norm", layers, "mean_and_variance", lambda x, axis: tuple(map(stopped, right(x, axis))))


def test_rung4_notices_statistics_of_the_positives_alone():
    """Each kind of candidate normed by itself, as if encoded in passes of its own."""
    right = layers.mean_and_variance

    def of_the_first(x, axis):
        return right(x[:6] if axis == 0 and x.shape[0] > 6 else x, axis)

    notices("batch_norm_columns", layers, "mean_and_variance", of_the_first)


def test_rung4_notices_rows_that_weigh_nothing_left_out_of_the_statistics():
    small = small_problem("batch_norm")
    batch = replace(small.batch, weights=np.array([1, 0, 2, 1, 0, 1], np.float32))
    small = replace(small, batch=batch)
    right = layers.mean_and_variance
    with pytest.MonkeyPatch.context() as patch:
        counted = np.flatnonzero(batch.weights)
        patch.setattr(layers, "mean_and_variance", lambda x, axis: right(x[counted], axis))
        wrong = oracle_loss(small)
    truth = oracle_loss(small)
    one, other = (ask(small, "float64") for ask in LOSSES.values())
    assert_same_losses(one, other, truth, "float64")
    for corners in ((wrong, other, truth), (one, wrong, truth)):
        with pytest.raises(AssertionError):
            assert_same_losses(*corners, "float64")


@pytest.mark.parametrize(
    ("case", "module", "name"),
    [
        ("history_shares", items, "id_table"),
        ("history_shares", items, "field_table"),
        ("places_tower", items, "id_table"),
    ],
)
def test_rung4_notices_the_second_gradient_of_a_shared_table_dropped(case, module, name):
    """What a history looks up in the candidate tower's table is read there, and its gradient is left out."""
    right_items, right_name = items.items, getattr(module, name)

    def without(config, history, weights, features):
        [field, *_] = items.fields_of(config, history)
        dropped = right_name(config, history) if name == "id_table" else right_name(history, field)
        return right_items(config, history, weights | {dropped: stopped(weights[dropped])}, features)

    notices(case, histories, "items", without)


def test_rung4_notices_the_second_gradient_of_a_shared_lookup_dropped():
    right = towers.feature_input

    def without(side, feature, weights, features):
        held = {name: stopped(node) if side == "query" else node for name, node in weights.items()}
        return right(side, feature, held | ({} if inputs.table_name(side, feature) in shared else weights), features)

    shared = ("candidate.embedding.year", "candidate.embedding.genres")
    notices("shared_lookups", towers, "feature_input", without)


def test_rung4_notices_a_gradient_to_every_equal_maximum():
    """Of a list that holds a value twice the sum is the same; of padding, which is no maximum, it is not."""
    case = "lists"
    loss, gradients = true_loss(case)
    wrong = {name: gradient.copy() for name, gradient in gradients.items()}
    wrong["query.embedding.max"][0] += 1e-3
    assert_loss_noticed(case, (loss, wrong))


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("case", ["places_gru", "places_transformer", "places_tower", "places_gbce"])
def test_rung4_notices_places_off_by_one(case):
    moved = np.array(PREDICTED) + 1
    notices(case, model, "predicted_places", lambda _: moved)


def test_rung4_notices_the_last_place_for_all():
    """What `positions=last` would predict from."""
    last = np.array([3, 3, 3, 4, 9, 9])
    notices("places_gru", model, "predicted_places", lambda _: last)


@pytest.mark.parametrize("case", ["places_gru", "places_transformer"])
def test_rung4_notices_the_loss_of_a_padded_place_counted(case):
    """A seventh row: the padded place behind a short sequence, with the positive of the row before it."""
    small = small_problem(case)
    batch, twice = small.batch, np.r_[np.arange(6), 5]
    padded = replace(
        batch,
        places=np.r_[batch.places, 10].astype(np.int32),
        candidate_features={name: array[twice] for name, array in batch.candidate_features.items()},
        query_rows=batch.query_rows[twice],
        candidate_rows=batch.candidate_rows[twice],
        log_q=batch.log_q[twice],
        weights=batch.weights[twice],
    )
    assert_loss_noticed(case, oracle_loss(replace(small, batch=padded)))


def test_rung4_notices_a_mean_over_sequences_for_one_over_places():
    loss, gradients = true_loss("places_gru")
    share = small_problem("places_gru").batch.weights.sum() / 4
    assert_loss_noticed("places_gru", (loss * share, {name: g * share for name, g in gradients.items()}))


def test_rung4_notices_candidates_in_another_order():
    """Sampled columns encoded before the positives and not put back."""

    def turned(groups):
        return RIGHT_STACKED([groups[1], groups[0], *groups[2:]])

    notices("batch_norm_columns", columns.towers, "stacked", turned)

"""Negative controls of rung 3 over features, histories and towers: each fault is put into the oracle, and noticed."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.oracles import inputs, interests, items, layers, lists, sequences, towers, transformer
from parity_tests.oracles.differentiation import Node, concatenated, largest, softmax
from parity_tests.tower_corners import assert_served_noticed, faulty, small_problem, true_served

RIGHT_DIVISOR = lists.divisor
RIGHT_STEPS = items.steps_back
RIGHT_REAL = items.is_real
RIGHT_GATES = sequences.gates
RIGHT_MERGED = towers.merged


def notices(case, module, name, fault):
    assert_served_noticed(case, faulty(true_served, case, module, name, fault))


def notices_weights(case, **changes):
    """Other weights, by the last part of their canonical name, in the oracle alone."""
    small = small_problem(case)
    weights = {
        name: changes[part](array) if (part := name.rpartition(".")[2]) in changes else array
        for name, array in small.weights.items()
    }
    assert_served_noticed(case, true_served(replace(small, weights=weights)))


# ---------------------------------------------------------------- features


@pytest.mark.parametrize(("right", "wrong"), [("mean", "sum"), ("sum", "mean"), ("sqrt_n", "mean"), ("sqrt_n", "sum")])
def test_rung3_notices_one_pooling_for_another(right, wrong):
    def swapped(pooling, factors):
        return RIGHT_DIVISOR(wrong if pooling == right else pooling, factors)

    notices("lists", lists, "divisor", swapped)


def test_rung3_notices_sqrt_n_by_the_root_of_the_sum_of_weights():
    def by_sum(pooling, factors):
        return np.sqrt(RIGHT_DIVISOR("mean", factors)) if pooling == "sqrt_n" else RIGHT_DIVISOR(pooling, factors)

    notices("lists", lists, "divisor", by_sum)


@pytest.mark.parametrize("case", ["lists", "texts"])
def test_rung3_notices_unmasked_padding_of_lists(case):
    """The maximum then is at least 0, and means are over all places."""
    notices(case, lists, "is_value", lambda rows: np.ones(rows.shape, bool))


def test_rung3_notices_a_maximum_over_padding():
    """Whose rows are zeros: a list of values below 0 shows it, and the last list of all."""
    right = lists.pooled_list

    def over_padding(values, rows, pooling, weights=None):
        return largest(values, axis=-2) if pooling == "max" else right(values, rows, pooling, weights)

    notices("lists", inputs, "pooled_list", over_padding)


def test_rung3_notices_unknown_values_taken_for_padding():
    notices("lists", lists, "is_value", lambda rows: rows > 1)


def test_rung3_notices_a_one_hot_off_by_one():
    notices("one_hot", inputs, "one_hot", lambda rows, width: (rows[..., None] == np.arange(width) + 1).astype(float))


def test_rung3_notices_an_unknown_value_at_the_first_place_of_a_one_hot():
    def clipped(rows, width):
        return (np.maximum(rows[..., None], 2) == np.arange(width) + 2).astype(float)

    notices("one_hot", inputs, "one_hot", clipped)


def test_rung3_notices_a_flag_before_its_number():
    right = inputs.numbers_of
    notices("numbers", inputs, "numbers_of", lambda *given, axes: right(*given, axes=axes)[..., ::-1])


# ---------------------------------------------------------------- items


@pytest.mark.parametrize("case", ["gru", "transformer", "attention", "mind", "comirec", "weighted_mean"])
def test_rung3_notices_unmasked_padding_of_histories(monkeypatch, case):
    """Padded places have an item of zeros then, a position, and a share in everything."""

    def everywhere(rows_BL):
        return np.ones(rows_BL.shape, bool)

    with monkeypatch.context() as patch:
        for module in (items, interests, transformer, towers.history_input.__globals__):
            setter = patch.setitem if isinstance(module, dict) else patch.setattr
            setter(module, "is_real", everywhere)
        patch.setattr(lists, "is_value", everywhere)
        wrong = true_served(weighing_padding(small_problem(case)))
    assert_served_noticed(case, wrong)


def weighing_padding(small):
    """A mean by weights leaves padding out by its weight of 0: there it is the weight that is wrong."""
    if "history.weights" not in small.batch.query_features:
        return small
    weights = {"history.weights": small.batch.query_features["history.weights"] + np.float32(0.1)}
    return replace(small, batch=replace(small.batch, query_features=small.batch.query_features | weights))


WITH_POSITIONS = [("transformer", transformer), ("comirec", interests), ("mind", interests)]


@pytest.mark.parametrize(("case", "module"), WITH_POSITIONS)
def test_rung3_notices_positions_off_by_one(case, module):
    notices(case, module, "steps_back", lambda rows_BL: np.maximum(RIGHT_STEPS(rows_BL) - 1, 0))


@pytest.mark.parametrize(("case", "module"), WITH_POSITIONS)
def test_rung3_notices_positions_counted_from_the_oldest(case, module):
    notices(case, module, "steps_back", lambda rows_BL: np.broadcast_to(np.arange(rows_BL.shape[1]), rows_BL.shape))


@pytest.mark.parametrize(("case", "module"), WITH_POSITIONS)
def test_rung3_notices_positions_counted_from_the_end_of_the_array(case, module):
    """Right for full histories alone."""
    notices(case, module, "steps_back", lambda rows: np.broadcast_to(np.arange(rows.shape[1])[::-1], rows.shape))


@pytest.mark.parametrize("part", ["history.ages", "history.text", "history.price", "history.one_hot", "history.max"])
def test_rung3_notices_a_field_of_the_item_before(part):
    small = small_problem("history_fields")
    moved = {part: np.roll(small.batch.query_features[part], 1, axis=1)}
    changed = replace(small, batch=replace(small.batch, query_features=small.batch.query_features | moved))
    assert_served_noticed("history_fields", true_served(changed))


def test_rung3_notices_a_newest_item_that_is_the_oldest():
    """Histories read from the newest to the oldest."""
    small = small_problem("gru")
    rows = small.batch.query_features["history"]
    turned = np.stack([np.r_[row[row > 0][::-1], row[row == 0]] for row in rows])
    changed = replace(small, batch=replace(small.batch, query_features={"history": turned}))
    assert_served_noticed("gru", true_served(changed))


def test_rung3_notices_weights_of_a_mean_left_out():
    def unweighted(items_BLW, rows_BL, _):
        return sequences.mean(items_BLW, rows_BL)

    notices("weighted_mean", sequences, "weighted_mean", unweighted)


# ---------------------------------------------------------------- poolings


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_rung3_notices_the_gates_of_a_gru_in_another_order(order):
    notices("gru", sequences, "gates", lambda columns: tuple(RIGHT_GATES(columns)[place] for place in order))


def test_rung3_notices_a_missing_recurrent_bias():
    notices_weights("gru", recurrent_bias=np.zeros_like)


def test_rung3_notices_a_reset_gate_before_the_recurrent_product():
    """Its bias is then outside the gate (Keras with reset_after=False, Cho et al.'s own form)."""
    small = small_problem("gru")
    bias = small.weights["query.history.history.recurrent_bias"].astype(float)[8:]

    def outside(state, given, recurrent):
        reset = sequences.sigmoid(given[0] + recurrent[0])
        update = sequences.sigmoid(given[1] + recurrent[1])
        new = layers.activated("tanh", given[2] + reset * (recurrent[2] - bias) + bias)
        return (1.0 - update) * new + update * state

    notices("gru", sequences, "gru_step", outside)


def test_rung3_notices_an_update_gate_that_keeps_the_new_state():
    def turned(state, given, recurrent):
        reset = sequences.sigmoid(given[0] + recurrent[0])
        update = sequences.sigmoid(given[1] + recurrent[1])
        new = layers.activated("tanh", given[2] + reset * recurrent[2])
        return update * new + (1.0 - update) * state

    notices("gru", sequences, "gru_step", turned)


def test_rung3_notices_post_norm_for_pre_norm():
    def post(x, real, pooling, weights, name):
        x = x + transformer.attention(x, real, pooling.num_heads, weights, name)
        x = transformer.norm(x, weights, f"{name}norm_1")
        x = x + transformer.feed_forward(x, pooling.activation, weights, name)
        return transformer.norm(x, weights, f"{name}norm_2")

    notices("transformer", transformer, "block", post)


def test_rung3_notices_keys_and_values_that_are_not_normed():
    """SASRec's own code norms the queries alone."""
    right = transformer.attention

    def query_alone(x, real, heads, weights, name):
        normed = transformer.norm(x, weights, f"{name}norm_1")
        plain = {"query": normed, "key": x, "value": x}
        with pytest.MonkeyPatch.context() as patch:
            dense = transformer.dense
            patch.setattr(transformer, "dense", lambda given, w, key: dense(plain.get(key[len(name) :], given), w, key))
            return right(normed, real, heads, weights, name)

    def block(x, real, pooling, weights, name):
        x = x + query_alone(x, real, pooling.num_heads, weights, name)
        normed = transformer.norm(x, weights, f"{name}norm_2")
        return x + transformer.feed_forward(normed, pooling.activation, weights, name)

    notices("transformer", transformer, "block", block)


def test_rung3_notices_a_missing_last_norm():
    right = transformer.norm
    notices(
        "transformer", transformer, "norm", lambda x, w, name: x if name.endswith("history.norm") else right(x, w, name)
    )


@pytest.mark.parametrize("wrong", [lambda width: 1.0, lambda width: (2 * width) ** -0.5], ids=["none", "whole width"])
def test_rung3_notices_another_attention_scale(wrong):
    notices("transformer", transformer, "scale", wrong)


def test_rung3_notices_heads_that_are_interleaved():
    """Number 0, 2 of head 0 and 1, 3 of head 1, instead of contiguous slices."""
    order = [0, 2, 1, 3]
    small = small_problem("transformer")
    weights = {
        name: array[..., order] if name.rpartition(".")[0].endswith((".query", ".key", ".value")) else array
        for name, array in small.weights.items()
    }
    assert_served_noticed("transformer", true_served(replace(small, weights=weights)))


@pytest.mark.parametrize("case", ["transformer", "places_transformer"])
def test_rung3_notices_a_missing_causal_mask(case):
    def every_real(real_BL):
        return np.broadcast_to(real_BL[:, None, :], (*real_BL.shape, real_BL.shape[1]))

    notices(case, transformer, "may_look", every_real)


def test_rung3_notices_an_attention_that_adds_up_to_one_over_positions_of_all_kinds():
    """Attention pooling whose padded places have a score of 0 instead of none."""

    def unmasked(given, real_BL, weights, name):
        hidden = layers.activated("tanh", given @ weights[f"{name}kernel"] + weights[f"{name}bias"])
        scores = hidden @ weights[f"{name}vector"] * real_BL[:, :, None]
        return (softmax(scores, 1, np.array([True])) * given).sum(1)

    notices("attention", sequences, "attention", unmasked)


@pytest.mark.parametrize("case", ["mind", "mind_power"])
def test_rung3_notices_a_routing_softmax_over_the_items(case):
    notices(case, interests, "routing_shares", lambda logits, real: softmax(logits, 1, real))


def test_rung3_notices_one_routing_iteration_too_many():
    right = interests.mind
    notices("mind", interests, "mind", lambda i, r, number, w, name: right(i, r, number + 1, w, name))


def test_rung3_notices_a_squash_without_its_size():
    def unit(z):
        return z / layers.root((z * z).sum(2, keepdims=True) + 1e-12)

    notices("mind", interests, "squashed", unit)


def test_rung3_notices_interests_of_items_with_their_positions():
    """ComiRec's positions choose the items; they are no part of them."""

    def placed(given, rows, weights, name):
        with_places = given + weights[f"{name}position"][RIGHT_STEPS(rows)]
        hidden = layers.activated("tanh", with_places @ weights[f"{name}kernel_1"])
        shares = softmax(hidden @ weights[f"{name}kernel_2"], 1, RIGHT_REAL(rows)[:, :, None])
        return shares.swapped(1, 2) @ with_places

    notices("comirec", interests, "comirec", placed)


# ---------------------------------------------------------------- layers and merges


def test_rung3_notices_x_for_x0_in_a_cross_layer():
    notices("cross_layers", layers, "cross_layer", lambda _, x, kernel, bias: x * (x @ kernel + bias) + x)


def test_rung3_notices_a_cross_layer_without_its_input():
    notices("cross_layers", layers, "cross_layer", lambda x0, x, kernel, bias: x0 * (x @ kernel + bias) + x0)


def test_rung3_notices_a_residual_before_the_activation():
    def before(x, linear, activation, *, residual):
        return layers.activated(activation, linear + x if residual and x.shape == linear.shape else linear)

    notices("residual", layers, "hidden_layer", before)


def test_rung3_notices_a_residual_left_out():
    notices(
        "residual", layers, "hidden_layer", lambda _, linear, activation, residual: layers.activated(activation, linear)
    )


def sample_form(x, axis):
    mean = x.mean(axis, keepdims=True)
    size = x.shape[axis]
    return mean, ((x - mean) * (x - mean)).mean(axis, keepdims=True) * (size / (size - 1))


@pytest.mark.parametrize("case", ["layer_norm", "transformer"])
def test_rung3_notices_the_sample_variance_of_a_layer_norm(case):
    notices(case, layers, "mean_and_variance", sample_form)


@pytest.mark.parametrize("case", ["layer_norm", "batch_norm"])
def test_rung3_notices_epsilon_outside_the_root(case):
    """With a batch norm's 1e-3 every number shows it; a layer norm's 1e-6 is seen in float64 and near zero variance."""

    def outside(x, mean, variance, epsilon):
        return (x - mean) / (layers.root(variance) + 100 * epsilon)

    notices(case, layers, "standardised", outside)


def test_rung3_notices_statistics_of_the_batch_in_serving():
    small = small_problem("batch_norm")
    right = towers.encode
    wrong = faulty(
        true_served, "batch_norm", towers, "encode", lambda *given, **named: right(*given, **named | {"training": True})
    )
    assert small.config.query.norm == "batch"
    assert_served_noticed("batch_norm", wrong)


@pytest.mark.parametrize("case", ["context_sum_normalize", "context_cross", "context_mind"])
def test_rung3_notices_vectors_normalised_before_the_merge(case):
    def early(config, weights, query, context):
        return RIGHT_MERGED(config, weights, layers.normalized(query), layers.normalized(context))

    notices(case, towers, "merged", early)


def test_rung3_notices_a_swapped_gate():
    def swapped(config, weights, query, context):
        gate = sequences.sigmoid(
            concatenated([query, context], axis=1) @ weights["context.gate.kernel"] + weights["context.gate.bias"]
        )
        return gate * context + (1.0 - gate) * query

    notices("context_gate", towers, "merged", swapped)


def test_rung3_notices_a_gate_that_reads_context_first():
    def turned(config, weights, query, context):
        kernel: Node = weights["context.gate.kernel"]
        width = query.shape[1]
        moved = concatenated([kernel[width:], kernel[:width]], axis=0)
        return RIGHT_MERGED(config, weights | {"context.gate.kernel": moved}, query, context)

    notices("context_gate", towers, "merged", turned)


def test_rung3_notices_a_context_that_is_left_out():
    notices("context_sum", towers, "merged", lambda config, weights, query, _: query)

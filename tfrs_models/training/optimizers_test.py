"""Every rule against its formula in float64 NumPy, dense and sparse, over several steps."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config import Optimizer as OptimizerSettings
from retrieval_contract.weights.parameter import Parameter
from tfrs_models.training.optimizers import make_optimizer

SETTINGS = {
    "sgd": OptimizerSettings(kind="sgd"),
    "momentum": OptimizerSettings(kind="sgd", momentum=0.8),
    "adagrad": OptimizerSettings(kind="adagrad", initial_accumulator=0.05, epsilon=0.01),
    "adam": OptimizerSettings(kind="adam", beta_1=0.8, beta_2=0.95, epsilon=0.01),
    "adamw": OptimizerSettings(kind="adamw", weight_decay=0.3, epsilon=1e-6),
}
SLOTS = {
    "sgd": [],
    "momentum": ["velocity"],
    "adagrad": ["accumulator"],
    "adam": ["first_moment", "second_moment"],
    "adamw": ["first_moment", "second_moment"],
}
RATES = (0.1, 0.05, 0.2)
V, W = 6, 3
START = np.random.default_rng(0).normal(size=(V, W)).astype(np.float32)
GRADIENTS = np.random.default_rng(1).normal(size=(len(RATES), V, W)).astype(np.float32)


def _expected(settings, p, slots, g, rate, t, decays=True):
    """The brief's formulas on float64 arrays; returns the new value and slots."""
    s = settings
    if s.kind == "sgd":
        v = s.momentum * slots.get("velocity", 0) + g
        return p - rate * v, {"velocity": v} if s.momentum else {}
    if s.kind == "adagrad":
        a = slots["accumulator"] + g**2
        return p - rate * g / (np.sqrt(a) + s.epsilon), {"accumulator": a}
    p = p - rate * s.weight_decay * p * decays
    m = s.beta_1 * slots["first_moment"] + (1 - s.beta_1) * g
    v = s.beta_2 * slots["second_moment"] + (1 - s.beta_2) * g**2
    p = p - rate * (m / (1 - s.beta_1**t)) / (np.sqrt(v / (1 - s.beta_2**t)) + s.epsilon)
    return p, {"first_moment": m, "second_moment": v}


def _start_slots(name, shape):
    return {
        slot: np.full(shape, SETTINGS[name].initial_accumulator if slot == "accumulator" else 0.0)
        for slot in SLOTS[name]
    }


def _optimizer(settings, *, sparse=False, decays=True, start=START, dtype="float64"):
    variable = tf.Variable(start.astype(dtype))
    table = {"p": Parameter(shape=start.shape, start="normal", sparse=sparse, decays=decays)}
    return variable, make_optimizer(settings, {"p": variable}, table)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(SETTINGS))
def test_dense_updates_follow_the_formula(name, dtype):
    variable, optimizer = _optimizer(SETTINGS[name], dtype=dtype)
    p, slots = START.astype(np.float64), _start_slots(name, START.shape)
    for t, (rate, g) in enumerate(zip(RATES, GRADIENTS, strict=True), start=1):
        optimizer.apply({"p": tf.constant(g.astype(dtype))}, step=t, learning_rate=rate)
        p, slots = _expected(SETTINGS[name], p, slots, g.astype(np.float64), rate, t)
    rtol = 1e-13 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(variable, p, rtol=rtol)
    assert sorted(optimizer.slots) == SLOTS[name]
    for slot, values in slots.items():
        np.testing.assert_allclose(
            optimizer.slots[slot]["p"], values, rtol=rtol, atol=1e-7 if dtype == "float32" else 0
        )


@pytest.mark.parametrize("name", list(SETTINGS))
def test_sparse_updates_follow_the_formula_on_touched_rows_and_nothing_else_moves(name):
    variable, optimizer = _optimizer(SETTINGS[name], sparse=True)
    p, slots = START.astype(np.float64), _start_slots(name, START.shape)
    touched = ([1, 4, 1, 1], [4, 2], [1, 1])
    for t, (rate, rows, g) in enumerate(zip(RATES, touched, GRADIENTS, strict=True), start=1):
        values = g[: len(rows)].astype(np.float64)
        slices = tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant([V, W]))
        optimizer.apply({"p": slices}, step=t, learning_rate=rate)
        dense = np.zeros((V, W))
        np.add.at(dense, rows, values)
        at = sorted(set(rows))
        p[at], new = _expected(SETTINGS[name], p[at], {s: a[at] for s, a in slots.items()}, dense[at], rate, t)
        for slot in slots:
            slots[slot][at] = new[slot]
    np.testing.assert_allclose(variable, p, rtol=1e-13)
    assert variable.numpy()[[0, 3, 5]].tobytes() == START.astype(np.float64)[[0, 3, 5]].tobytes()
    for slot, values in slots.items():
        np.testing.assert_allclose(optimizer.slots[slot]["p"], values, rtol=1e-13)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_a_dense_update_would_have_moved_the_other_rows(name):
    """The control: a gradient of zeros is not the same as no gradient."""
    variable, optimizer = _optimizer(SETTINGS[name])
    for t, g in enumerate((GRADIENTS[0], 0 * GRADIENTS[0]), start=1):
        before = variable.numpy()
        optimizer.apply({"p": tf.constant(g.astype(np.float64))}, step=t, learning_rate=0.1)
    assert (variable.numpy() != before).all()


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_row_of_zeros_with_a_gradient_of_zeros_stays_zero_to_the_bit(name):
    variable, optimizer = _optimizer(SETTINGS[name], sparse=True, start=np.zeros_like(START), dtype="float32")
    for t in range(1, 4):
        slices = tf.IndexedSlices(tf.zeros([2, W]), tf.constant([0, 0]), tf.constant([V, W]))
        optimizer.apply({"p": slices}, step=t, learning_rate=0.1)
    assert variable.numpy().tobytes() == bytes(4 * V * W)


def test_weight_decay_acts_where_the_table_says_so():
    settings, g = SETTINGS["adamw"], np.zeros((V, W))
    for decays, want in ((True, START * (1 - 0.1 * 0.3)), (False, START)):
        variable, optimizer = _optimizer(settings, decays=decays)
        optimizer.apply({"p": tf.constant(g)}, step=1, learning_rate=0.1)
        np.testing.assert_allclose(variable, want, rtol=1e-6)


def test_epsilon_stands_outside_the_root_and_after_the_correction():
    settings = OptimizerSettings(kind="adam", epsilon=0.1)
    variable, optimizer = _optimizer(settings, start=np.zeros((1, 1), np.float32))
    optimizer.apply({"p": tf.constant([[0.02]], tf.float64)}, step=1, learning_rate=1.0)
    np.testing.assert_allclose(variable, [[-0.02 / (0.02 + 0.1)]], rtol=1e-12)
    variable, optimizer = _optimizer(
        OptimizerSettings(kind="adagrad", epsilon=0.1, initial_accumulator=0.0), start=np.zeros((1, 1), np.float32)
    )
    optimizer.apply({"p": tf.constant([[0.02]], tf.float64)}, step=1, learning_rate=1.0)
    np.testing.assert_allclose(variable, [[-0.02 / (0.02 + 0.1)]], rtol=1e-12)


def test_the_correction_of_the_first_step_is_exact_in_float32():
    variable, optimizer = _optimizer(
        OptimizerSettings(kind="adam"), start=np.zeros((1, 1), np.float32), dtype="float32"
    )
    optimizer.apply({"p": tf.constant([[0.5]])}, step=1, learning_rate=0.25)
    np.testing.assert_allclose(variable, [[-0.25]], rtol=3e-7)


def test_a_missing_gradient_is_noticed():
    _, optimizer = _optimizer(SETTINGS["sgd"])
    with pytest.raises(AssertionError, match="every variable"):
        optimizer.apply({}, step=1, learning_rate=0.1)


def test_a_sparse_update_compiles_to_no_read_of_the_whole_table():
    """Reading a table that is scattered into copies it: the step would cost what the table holds."""
    _, optimizer = _optimizer(SETTINGS["adamw"], sparse=True)

    def move(values, rows):
        optimizer.apply({"p": tf.IndexedSlices(values, rows, tf.constant([V, W]))}, step=1, learning_rate=0.1)

    def reads(function, *arguments):
        graph = tf.function(function).get_concrete_function(*arguments).graph
        return [op for op in graph.get_operations() if op.type == "ReadVariableOp"]

    values = tf.zeros([2, W], tf.float64)
    assert reads(move, values, tf.constant([1, 2])) == []
    assert reads(lambda: optimizer.apply({"p": tf.zeros([V, W], tf.float64)}, step=1, learning_rate=0.1)) != []


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_a_parameter_with_bounds_stops_on_them(kind):
    low, high = float(np.float32(-0.3)), float(np.float32(0.2))
    free = Parameter(shape=(3,), start="zeros", sparse=False, decays=False)
    bound = Parameter(shape=(3,), start="zeros", sparse=False, decays=False, bounds=(low, high))
    variables = {"free": tf.Variable(tf.zeros([3])), "bound": tf.Variable(tf.zeros([3]))}
    optimizer = make_optimizer(SETTINGS[kind], variables, {"free": free, "bound": bound})
    gradient = tf.constant([1e3, -1e3, 0.0])
    optimizer.apply({"free": gradient, "bound": gradient}, step=1, learning_rate=1.0)
    assert variables["bound"].numpy().tolist() == [low, high, 0]
    assert (np.abs(variables["free"].numpy()[:2]) > 0.3).all()

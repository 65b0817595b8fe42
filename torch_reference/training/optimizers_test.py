import numpy as np
import pytest
import torch

from retrieval_contract.config import Optimizer as Settings
from retrieval_contract.weights.parameter import Parameter
from torch_reference.training.optimizers import make_optimizer

V, W, LEARNING_RATE = 9, 3, 0.07
KINDS = {
    "sgd": Settings(kind="sgd"),
    "momentum": Settings(kind="sgd", momentum=0.8),
    "adagrad": Settings(kind="adagrad", initial_accumulator=0.2, epsilon=1e-3),
    "adam": Settings(kind="adam", beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    "adamw": Settings(kind="adamw", weight_decay=0.3, epsilon=1e-3),
}
GENERATOR = np.random.default_rng(0)
START = GENERATOR.standard_normal((V, W))
# Steps of (rows looked up, gradient of each lookup): rows repeat, and rows 0 and 8 are never touched.
LOOKUPS = [(GENERATOR.integers(1, 8, 6), GENERATOR.standard_normal((6, W))) for _ in range(5)]


def formula(settings, value, gradients, decays=True, epsilon_in_root=False):
    """The brief's rules for one number's history: (step, gradient) pairs in float64; returns value and slots."""
    p, lr, eps, b1, b2 = value.copy(), LEARNING_RATE, settings.epsilon, settings.beta_1, settings.beta_2
    a, m, v = np.full_like(p, settings.initial_accumulator), np.zeros_like(p), np.zeros_like(p)
    for t, g in gradients:
        if settings.kind == "sgd":
            v = settings.momentum * v + g
            p -= lr * v
        elif settings.kind == "adagrad":
            a += g**2
            p -= lr * g / (np.sqrt(a) + eps)
        else:
            p -= lr * settings.weight_decay * p if decays else 0
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            v_hat = v / (1 - b2**t)
            root = np.sqrt(v_hat + eps) if epsilon_in_root else np.sqrt(v_hat) + eps
            p -= lr * m / (1 - b1**t) / root
    slots = {"adagrad": {"accumulator": a}, "sgd": {"velocity": v} if settings.momentum else {}}
    return p, slots.get(settings.kind, {"first_moment": m, "second_moment": v})


def per_row(settings, **options):
    """The formula row by row, fed only with the steps in which a row was looked up."""
    values, slots = np.empty((V, W)), {}
    for row in range(V):
        touches = [
            (step, gradient[rows == row].sum(axis=0))
            for step, (rows, gradient) in enumerate(LOOKUPS, 1)
            if (rows == row).any()
        ]
        values[row], row_slots = formula(settings, START[row], touches, **options)
        for slot, value in row_slots.items():
            slots.setdefault(slot, np.empty((V, W)))[row] = value
    return values, slots


def run(settings, *, sparse, dtype=torch.float64, decays=True):
    table = {"x": Parameter(shape=(V, W), start="normal", sparse=sparse, decays=decays)}
    variable = torch.tensor(START, dtype=dtype)
    optimizer = make_optimizer(settings, {"x": variable}, table)
    for step, (rows, values) in enumerate(LOOKUPS, 1):
        indices, gradient = torch.tensor(rows)[None], torch.tensor(values, dtype=dtype)
        gradient = torch.sparse_coo_tensor(indices, gradient, (V, W)).coalesce()
        gradient = gradient if sparse else gradient.to_dense()
        optimizer.apply({"x": gradient}, step=step, learning_rate=LEARNING_RATE)
    return variable.numpy(), {slot: tensors["x"].numpy() for slot, tensors in optimizer.slots.items()}


def dense_formula(settings, **options):
    gradients = []
    for step, (rows, values) in enumerate(LOOKUPS, 1):
        gradient = np.zeros((V, W))
        np.add.at(gradient, rows, values)
        gradients.append((step, gradient))
    return formula(settings, START, gradients, **options)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparse", [True, False])
def test_five_steps_follow_the_formula(kind, sparse, dtype, tolerance):
    values, slots = run(KINDS[kind], sparse=sparse, dtype=dtype)
    expected, expected_slots = (per_row if sparse else dense_formula)(KINDS[kind])
    np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)
    assert slots.keys() == expected_slots.keys()
    for slot, array in slots.items():
        np.testing.assert_allclose(array, expected_slots[slot], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_outside_the_batch_do_not_move(kind):
    values, slots = run(KINDS[kind], sparse=True)
    np.testing.assert_array_equal(values[[0, 8]], START[[0, 8]])
    for slot in slots.values():
        assert len(np.unique(slot[[0, 8]])) == 1


@pytest.mark.parametrize("kind", ["momentum", "adam", "adamw"])
def test_a_dense_update_would_move_rows_that_a_later_batch_does_not_hold(kind):
    sparse, dense = (run(KINDS[kind], sparse=sparse)[0] for sparse in (True, False))
    assert np.abs(sparse - dense).max() > 1e-3


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_an_epsilon_inside_the_root_is_noticed(kind):
    values, _ = run(KINDS[kind], sparse=True)
    wrong, _ = per_row(KINDS[kind], epsilon_in_root=True)
    assert np.abs(values - wrong).max() > 1e-4


def test_weight_decay_acts_only_where_the_table_says():
    values, _ = run(KINDS["adamw"], sparse=True, decays=False)
    np.testing.assert_allclose(values, per_row(KINDS["adamw"], decays=False)[0], rtol=1e-12)
    assert np.abs(values - run(KINDS["adamw"], sparse=True)[0]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_with_zero_gradient_stay_exactly_zero(kind):
    table = {"x": Parameter(shape=(V, W), start="normal", sparse=True, decays=True)}
    variable = torch.zeros(V, W)
    gradient = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.zeros(1, W), (V, W)).coalesce()
    make_optimizer(KINDS[kind], {"x": variable}, table).apply({"x": gradient}, step=1, learning_rate=1.0)
    assert (variable == 0).all()


def test_adam_adagrad_and_sgd_equal_torch_on_dense_parameters():
    theirs = {
        "momentum": lambda p: torch.optim.SGD([p], LEARNING_RATE, momentum=0.8),
        "adagrad": lambda p: torch.optim.Adagrad([p], LEARNING_RATE, initial_accumulator_value=0.2, eps=1e-3),
        "adam": lambda p: torch.optim.Adam([p], LEARNING_RATE, betas=(0.8, 0.95), eps=1e-3),
        "adamw": lambda p: torch.optim.AdamW([p], LEARNING_RATE, eps=1e-3, weight_decay=0.3),
    }
    for kind, make in theirs.items():
        parameter = torch.nn.Parameter(torch.tensor(START))
        optimizer = make(parameter)
        for rows, values in LOOKUPS:
            gradient = torch.sparse_coo_tensor(torch.tensor(rows)[None], torch.tensor(values), (V, W))
            parameter.grad = gradient.to_dense()
            optimizer.step()
        np.testing.assert_allclose(run(KINDS[kind], sparse=False)[0], parameter.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_bounds_is_put_back_inside_them(kind):
    table = {
        "bounded": Parameter(shape=(3,), start="zeros", sparse=False, decays=False, bounds=(-0.01, 0.02)),
        "free": Parameter(shape=(3,), start="zeros", sparse=False, decays=False),
    }
    variables = {name: torch.zeros(3, requires_grad=True) for name in table}
    optimizer = make_optimizer(KINDS[kind], variables, table)
    gradient = torch.tensor([-1.0, 1.0, 0.0])
    optimizer.apply(dict.fromkeys(table, gradient), step=1, learning_rate=LEARNING_RATE)
    assert variables["bounded"].tolist() == pytest.approx([0.02, -0.01, 0])
    assert variables["free"][0] > 0.02
    for tensors in optimizer.slots.values():  # the optimiser's memory is that of the free one
        assert torch.equal(tensors["bounded"], tensors["free"])

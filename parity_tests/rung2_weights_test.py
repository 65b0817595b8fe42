"""Rung 2: weights go from either stack through the archive into the other and come out with the same bytes."""

import numpy as np
import pytest

import tfrs_models.towers.two_tower
import tfrs_models.weights
import torch_reference.towers.two_tower
import torch_reference.weights
from parity_tests.cases import CASES
from parity_tests.comparing import assert_same
from parity_tests.problems import problem
from parity_tests.tolerances import rule
from parity_tests.tower_cases import SINGLE as TOWERS
from retrieval_contract.errors import UserError
from retrieval_contract.weights.archive import read_weights, write_weights

BYTES = rule("weights", "bytes")
STACKS = {
    "tf": (tfrs_models.towers.two_tower.TwoTower, tfrs_models.weights),
    "torch": (torch_reference.towers.two_tower.TwoTower, torch_reference.weights),
}
LEARNED_BY_THE_LOSS = ("sigmoid", "sigmoid_all", "columns_all")
SQUARE = "query.dense.0.kernel"
"""In the case hidden_relu this kernel is [4, 4]: only its bytes tell it from its transpose."""


def through(stack, small, arrays):
    """Into a fresh model of a stack and out again."""
    make, weights = STACKS[stack]
    model = make(small.config, small.sizes)
    weights.assign(model, arrays)
    return weights.extract(model)


@pytest.mark.parametrize("first", STACKS)
@pytest.mark.parametrize("case", [*CASES, *LEARNED_BY_THE_LOSS, *TOWERS])
def test_there_and_back_is_byte_identical(case, first, tmp_path):
    small = problem(case)
    second = next(stack for stack in STACKS if stack != first)
    paths = [tmp_path / name for name in ("start", "between", "end")]
    digests = [write_weights(paths[0], small.weights, config_digest=small.config.digest())]
    for stack, source, target in zip((first, second), paths[:2], paths[1:], strict=True):
        arrays, digest = read_weights(source, small.table)
        assert digest == digests[-1]
        digests.append(write_weights(target, through(stack, small, arrays), config_digest=small.config.digest()))
    assert len(set(digests)) == 1
    assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.parametrize("case", ["hidden_relu", "everything", "sigmoid_all", *TOWERS])
def test_both_stacks_hold_the_same_bytes(case):
    small = problem(case)
    assert_same(through("tf", small, small.weights), through("torch", small, small.weights), small.weights, BYTES)


@pytest.mark.parametrize("stack", STACKS)
def test_what_comes_out_is_a_copy(stack):
    small = problem("everything")
    make, weights = STACKS[stack]
    model = make(small.config, small.sizes)
    weights.assign(model, small.weights)
    out = weights.extract(model)
    for array in out.values():
        array[...] = 7
    again = weights.extract(model)
    assert_same(again, again, small.weights, BYTES)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", ["query.dense.1.bias", "candidate.bias", "candidate.embedding.genres"])
def test_a_missing_array_is_refused_and_named(stack, name):
    small = problem("everything")
    with pytest.raises(UserError, match=name):
        through(stack, small, {key: array for key, array in small.weights.items() if key != name})


@pytest.mark.parametrize("stack", STACKS)
def test_a_left_over_array_is_refused_and_named(stack):
    small = problem("plain")
    with pytest.raises(UserError, match=r"query\.dense\.0\.kernel"):
        through(stack, small, small.weights | {"query.dense.0.kernel": np.zeros((4, 4), np.float32)})


@pytest.mark.parametrize("stack", STACKS)
def test_another_shape_is_refused_and_named(stack):
    small = problem("hidden_gelu")
    kernel = small.weights["candidate.dense.0.kernel"]
    with pytest.raises(UserError, match=r"candidate\.dense\.0\.kernel"):
        through(stack, small, small.weights | {"candidate.dense.0.kernel": kernel.T.copy()})


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("change", ["missing", "left over"])
def test_a_refused_assignment_changes_nothing(stack, change):
    small = problem("everything")
    make, weights = STACKS[stack]
    model = make(small.config, small.sizes)
    weights.assign(model, small.weights)
    other = {name: array + 1 for name, array in small.weights.items()}
    if change == "missing":
        del other["candidate.bias"]
    else:
        other["candidate.dense.9.bias"] = np.zeros(3, np.float32)
    with pytest.raises(UserError):
        weights.assign(model, other)
    after = weights.extract(model)
    assert_same(after, after, small.weights, BYTES)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("batch_norm", "query.dense.0.norm.mean"),
        ("mind", "query.history.history.routing"),
        ("transformer", "query.history.history.block.1.output.bias"),
        ("gru", "query.history.history.recurrent_bias"),
        ("history_fields", "query.history.history.field.price"),
        ("history_fields", "query.embedding.history.age"),
        ("context_gate", "context.gate.kernel"),
        ("cross_layers", "candidate.cross.2.bias"),
        ("dense", "candidate.projection.projected"),
    ],
)
def test_a_missing_part_of_a_tower_is_refused_and_named(stack, case, name):
    small = problem(case)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        through(stack, small, {key: array for key, array in small.weights.items() if key != name})


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", ["query.embedding.history", "query.embedding.history.genres"])
def test_a_table_that_is_shared_is_not_taken_twice(stack, name):
    """It stands under the candidate's name; another copy of it is left over."""
    small = problem("history_shares")
    table = small.weights["candidate.embedding.candidate_id"]
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        through(stack, small, small.weights | {name: table})


@pytest.mark.parametrize(
    ("case", "name", "wrong"),
    [
        ("transformer", "query.history.history.block.0.query.kernel", np.transpose),
        ("gru", "query.history.history.input_kernel", lambda kernel: np.roll(kernel, 4, axis=1)),
        ("mind", "query.history.history.kernel", np.transpose),
        ("cross_layers", "query.cross.0.kernel", np.transpose),
        ("transformer", "query.history.history.position", lambda position: position[::-1]),
        ("batch_norm", "query.dense.0.norm.variance", np.sqrt),
    ],
)
def test_rung2_notices_a_part_of_a_tower_in_another_form(case, name, wrong):
    small = problem(case)
    tf, torch = (through(stack, small, small.weights) for stack in STACKS)
    assert tf[name].shape == wrong(tf[name]).shape
    for corners in ((tf | {name: wrong(tf[name])}, torch), (tf, torch | {name: wrong(torch[name])})):
        with pytest.raises(AssertionError, match=name.replace(".", r"\.")):
            assert_same(*corners, small.weights, BYTES)


@pytest.mark.parametrize("stack", STACKS)
def test_rung2_notices_a_dropped_transpose(stack):
    small = problem("hidden_relu")
    outs = {name: through(name, small, small.weights) for name in STACKS}
    outs[stack] = outs[stack] | {SQUARE: outs[stack][SQUARE].T.copy()}
    with pytest.raises(AssertionError, match=SQUARE):
        assert_same(outs["tf"], outs["torch"], small.weights, BYTES)


def test_rung2_notices_swapped_towers():
    small = problem("sum")
    tf, torch = through("tf", small, small.weights), through("torch", small, small.weights)
    swapped = {"query.embedding.history": tf["candidate.embedding.candidate_id"]}
    with pytest.raises(AssertionError, match=r"query\.embedding\.history"):
        assert_same(tf | swapped, torch, small.weights, BYTES)

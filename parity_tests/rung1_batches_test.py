"""Rung 1: the bytes that reach the tensors of either stack are the batch's."""

from dataclasses import fields, replace

import numpy as np
import pytest

import tfrs_models.inputs
import torch_reference.inputs
from parity_tests.comparing import assert_same
from parity_tests.corners import tf_arrays, torch_arrays
from parity_tests.problems import problem
from parity_tests.tolerances import rule
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import prepare

BYTES = rule("batches", "bytes")
NEEDED = ("query_features", "candidate_features", "candidate_rows", "log_q", "weights")
CONFIG = {
    "source": {"kind": "simulated", "num_queries": 60, "num_candidates": 40, "num_interactions": 1_000},
    "query": {
        "features": [{"name": "query_id", "kind": "id"}, {"name": "history", "kind": "history", "max_length": 5}]
    },
    "candidate": {"features": [{"name": "candidate_id", "kind": "id"}, {"name": "genres", "kind": "multivalent"}]},
    "optimizer": {"accumulation_steps": 2},
    "training": {"batch_size": 64},
}


def crossed(batch):
    """The batch, and what each stack made of it, as flat arrays by name, back in the batch's dtypes."""
    truth = flat({field.name: getattr(batch, field.name) for field in fields(batch) if field.name in NEEDED})
    stacks = (
        tf_arrays(tfrs_models.inputs.batch_tensors(batch)),
        torch_arrays(torch_reference.inputs.batch_tensors(batch)),
    )
    return (*({name: back(flat(stack)[name], truth[name]) for name in truth} for stack in stacks), truth)


def flat(nest):
    leaves = {name: value for name, value in nest.items() if not isinstance(value, dict)}
    return leaves | {
        f"{name}/{key}": part for name, value in nest.items() if isinstance(value, dict) for key, part in value.items()
    }


def back(array, like):
    """Widened row numbers narrowed again; any other change of dtype is left as it is, and then noticed."""
    if array.dtype == np.int64 and like.dtype == np.int32 and (array == array.astype(np.int32)).all():
        return array.astype(np.int32)
    return array


@pytest.mark.parametrize("case", ["everything", "plain"])
def test_a_batch_arrives(case):
    assert_same(*crossed(problem(case).batch), BYTES)


def test_the_batches_of_a_run_arrive():
    config = config_from_tree(CONFIG, where="test")
    steps = list(TrainingBatches(prepare(config), config).epoch(0))
    assert len(steps) > 2
    assert all(len(step) == 2 for step in steps)
    for batch in (batch for step in steps for batch in step):
        assert_same(*crossed(batch), BYTES)


def test_extreme_values_arrive():
    batch = problem("everything").batch
    extreme = np.array([np.finfo(np.float32).tiny / 2, -0.0, np.finfo(np.float32).max, -1e-30, 0.1, 1 / 3], np.float32)
    rows = np.array([0, 2**31 - 1, 1, 2**24 + 1, 7, 7], np.int32)
    assert_same(*crossed(replace(batch, log_q=extreme, candidate_rows=rows)), BYTES)


def test_rung1_notices_positives_off_by_one():
    tf, torch, truth = crossed(problem("everything").batch)
    with pytest.raises(AssertionError, match="candidate_features/candidate_id"):
        assert_same(
            tf | {"candidate_features/candidate_id": np.roll(tf["candidate_features/candidate_id"], 1)},
            torch,
            truth,
            BYTES,
        )


def test_rung1_notices_another_padding():
    tf, torch, truth = crossed(problem("everything").batch)
    history = torch["query_features/history"][:, ::-1].copy()
    with pytest.raises(AssertionError, match="query_features/history"):
        assert_same(tf, torch | {"query_features/history": history}, truth, BYTES)


def test_rung1_notices_a_rounded_number():
    tf, torch, truth = crossed(problem("everything").batch)
    rounded = tf["query_features/age"].astype(np.float16).astype(np.float32)
    with pytest.raises(AssertionError, match="query_features/age"):
        assert_same(tf | {"query_features/age": rounded}, torch, truth, BYTES)

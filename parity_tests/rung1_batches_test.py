"""Rung 1: the bytes that reach the tensors of either stack are the batch's."""

from dataclasses import replace

import numpy as np
import pytest

import tfrs_models.inputs
import torch_reference.inputs
from parity_tests.cases import NEGATIVES as NEGATIVE_CASES
from parity_tests.comparing import assert_same
from parity_tests.corners import tf_arrays, torch_arrays
from parity_tests.prepared_runs import flat
from parity_tests.problems import problem
from parity_tests.tolerances import rule
from parity_tests.tower_cases import SINGLE as TOWER_CASES
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import prepare

BYTES = rule("batches", "bytes")
CONFIG = {
    "source": {"kind": "simulated", "num_queries": 60, "num_candidates": 40, "num_interactions": 1_000},
    "query": {
        "features": [{"name": "query_id", "kind": "id"}, {"name": "history", "kind": "history", "max_length": 5}]
    },
    "candidate": {"features": [{"name": "candidate_id", "kind": "id"}, {"name": "genres", "kind": "multivalent"}]},
    "optimizer": {"accumulation_steps": 2},
    "training": {"batch_size": 64},
}
NEGATIVES = {
    "positives": {"rule": "engaged"},
    "negatives": {
        "sampled": 10,
        "impressions": 2,
        "mined": {"per_example": 1, "last_rank": 20},
        "mask_known_positives": True,
        "mask_not_yet_seen": True,
    },
}


def crossed(batch):
    """The batch, and what each stack made of it, as flat arrays by name, back in the batch's dtypes."""
    truth = flat(batch)
    stacks = (
        tf_arrays(tfrs_models.inputs.batch_tensors(batch)),
        torch_arrays(torch_reference.inputs.batch_tensors(batch)),
    )
    return (*({name: back(array, truth.get(name)) for name, array in flat(stack).items()} for stack in stacks), truth)


def back(array, like):
    """Widened row numbers narrowed again; any other change of dtype is left as it is, and then noticed."""
    if (
        like is not None
        and array.dtype == np.int64
        and like.dtype == np.int32
        and (array == array.astype(np.int32)).all()
    ):
        return array.astype(np.int32)
    return array


@pytest.mark.parametrize("case", ["everything", "plain", *NEGATIVE_CASES, *TOWER_CASES])
def test_a_batch_arrives(case):
    assert_same(*crossed(problem(case).batch), BYTES)


@pytest.mark.parametrize("negatives", [{}, NEGATIVES], ids=["in_batch", "negatives"])
def test_the_batches_of_a_run_arrive(negatives):
    config = config_from_tree(CONFIG | negatives, where="test")
    steps = list(TrainingBatches(prepare(config), config).epoch(0))
    assert len(steps) > 2
    assert all(len(step) == 2 for step in steps)
    for batch in (batch for step in steps for batch in step):
        assert_same(*crossed(batch), BYTES)
        optional = (batch.sampled, batch.impressions, batch.known_positives, batch.allowed)
        assert [part is not None for part in optional] == [bool(negatives)] * 4


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


def test_rung1_notices_a_part_of_the_batch_left_behind():
    tf, torch, truth = crossed(problem("columns_all").batch)
    for part in ("sampled/rows", "impressions/allowed", "known_positives/places", "allowed"):
        with pytest.raises(AssertionError, match=part):
            assert_same({name: array for name, array in tf.items() if name != part}, torch, truth, BYTES)


@pytest.mark.parametrize(
    ("case", "part", "wrong"),
    [
        ("places_tower", "places", lambda places: places + 1),
        ("history_fields", "query_features/history.ages", lambda ages: np.maximum(ages - 1, 0)),
        ("history_fields", "query_features/history.mean_weighted.weights", np.ones_like),
        ("weighted_mean", "query_features/history.weights", lambda weights: np.roll(weights, 1, axis=1)),
        ("context_gate", "query_features/context.hour", lambda rows: rows + 1),
        ("affinity", "query_features/affinity", lambda shares: shares.astype(np.float16).astype(np.float32)),
    ],
)
def test_rung1_notices_a_feature_that_is_changed_or_lost(case, part, wrong):
    tf, torch, truth = crossed(problem(case).batch)
    changed = torch | {part: wrong(torch[part])}
    lost = {name: array for name, array in tf.items() if name != part}
    for corners in ((tf, changed), (lost, torch)):
        with pytest.raises(AssertionError, match=part):
            assert_same(*corners, truth, BYTES)


def test_rung1_notices_impressions_in_another_order():
    tf, torch, truth = crossed(problem("impressions").batch)
    swapped = torch["impressions/rows"].reshape(2, 6).T.copy()
    with pytest.raises(AssertionError, match="impressions/rows"):
        assert_same(tf, torch | {"impressions/rows": swapped}, truth, BYTES)

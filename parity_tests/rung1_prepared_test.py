"""Rung 1, and from there 4, over prepared data: raw rows of every kind, encoded, batched, and given to both stacks."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.corners import oracle_loss, tf_loss, torch_loss
from parity_tests.oracles import model
from parity_tests.prepared_runs import RUNS, batches, digest, digests, flat, prepared_run
from parity_tests.problems import Problem
from parity_tests.rung1_batches_test import crossed
from parity_tests.tolerances import rule
from parity_tests.tower_corners import ENCODERS, assert_same_deep_losses
from retrieval_contract.weights.names import initial_weights, parameter_table


@functools.cache
def prepared_problem(name):
    """A batch that was prepared, at weights away from 0, in the size of an embedding's row."""
    config, prepared = prepared_run(name)
    sizes = prepared.features.sizes
    table = parameter_table(config, sizes)
    weights = initial_weights(table, seed=1, embedding_stddev=0.5)
    generator = np.random.default_rng(0)
    for key in weights:
        if key.endswith(("bias", "offset")):
            weights[key] = generator.normal(0, 0.3, weights[key].shape).astype(np.float32)
    return Problem(
        config=config,
        sizes=sizes,
        weights=weights,
        batch=batches(name)[0],
        catalogue=prepared.candidate_features(),
        bank=None,
    )


@pytest.mark.parametrize("name", RUNS)
def test_batches_of_every_kind_arrive(name):
    for batch in batches(name):
        assert_same(*crossed(batch), rule("batches", "bytes"))


def test_the_batches_have_every_kind():
    query, candidate = flat(batches("kinds")[0]), prepared_run("kinds")[0].candidate
    assert {f"candidate_features/{feature.name}" for feature in candidate.features} <= set(query)
    for path in ("context.load", "lately.ages", "lately.vector", "watched.genres.weights", "genre_affinity"):
        assert f"query_features/{path}" in query, path
    assert batches("places")[0].places is not None


def test_another_process_makes_the_same_bytes():
    """One whose strings hash otherwise."""
    script = "import json; from parity_tests.prepared_runs import *; print(json.dumps({n: digests(n) for n in RUNS}))"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: digests(name) for name in RUNS}


def test_rung1_notices_one_bit_of_a_batch():
    [batch, *_] = batches("kinds")
    before = digests("kinds")
    features = dict(batch.query_features)
    features["watched"] = features["watched"].copy()
    features["watched"][0, 0] ^= 1
    changed = replace(batch, query_features=features)
    assert digest(flat(changed)["query_features/watched"]) != before["0/query_features/watched"]


@pytest.mark.parametrize("name", RUNS)
def test_loss_and_gradients_of_a_prepared_batch(name):
    small = prepared_problem(name)
    truth = oracle_loss(small)
    assert np.isfinite(truth[0])
    assert_same_deep_losses(tf_loss(small, "float64"), torch_loss(small, "float64"), truth, "float64")


@pytest.mark.parametrize("name", RUNS)
def test_encoders_of_prepared_questions(name):
    """What evaluation asks for: held-out queries at their moments, with what their requests say."""
    small, (_, prepared) = prepared_problem(name), prepared_run(name)
    rows, times = prepared.evaluation_times("test")
    asked = prepared.query_features(rows, times, prepared.evaluation_requests("test"), part="test")
    encoders = [make(small.config, small.sizes, small.weights, device="cpu") for make in ENCODERS.values()]
    found = [each.encode_queries(asked) for each in encoders]
    truth = model.served_vectors("query", small.config, small.weights, asked)
    assert_same(*found, truth, rule("encoders", "float32"))

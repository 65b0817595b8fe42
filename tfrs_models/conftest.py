"""One small problem for the tests of this stack: every kind of feature, duplicates, padding, and an empty list."""

from dataclasses import dataclass

import numpy as np
import pytest

from retrieval_contract.arrays import Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.weights.names import parameter_table

SIZES = {
    "query": {"query_id": 9, "city": 5, "history": 7},
    "candidate": {"candidate_id": 8, "genres": 6},
}
TREE = {
    "seed": 3,
    "query": {
        "features": [
            {"name": "query_id", "kind": "id", "width": 4},
            {"name": "city", "kind": "categorical", "width": 3},
            {"name": "age", "kind": "numeric"},
            {"name": "history", "kind": "history", "width": 3, "max_length": 3},
        ],
        "hidden_dims": [6, 5],
        "activation": "tanh",
    },
    "candidate": {
        "features": [
            {"name": "candidate_id", "kind": "id", "width": 4},
            {"name": "genres", "kind": "multivalent", "width": 4, "max_length": 2},
        ],
        "combine": "sum",
        "hidden_dims": [5],
        "activation": "gelu",
    },
    "model": {"dim": 4, "normalize": True, "candidate_bias": True},
    "loss": {"temperature": 0.5},
    "optimizer": {"kind": "adam", "learning_rate": 0.01},
    "training": {"batch_size": 6, "device": "cpu"},
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    config: RunConfig
    sizes: dict
    weights: dict
    batches: list

    @property
    def table(self):
        return parameter_table(self.config, self.sizes)

    @property
    def first_state(self):
        return {**{f"weights/{name}": array for name, array in self.weights.items()}, "step": np.asarray(0, np.int64)}


@pytest.fixture
def problem(make_problem):
    return make_problem()


@pytest.fixture
def make_problem():
    return _make_problem


def _make_problem(**branches):
    """The problem with branches of the config updated: `make_problem(optimizer={"kind": "sgd"})`."""
    tree = {
        name: {**branch, **branches.get(name, {})} if isinstance(branch, dict) else branch
        for name, branch in TREE.items()
    }
    config = config_from_tree(tree, where="test")
    generator = np.random.default_rng(0)
    weights = {}
    for name, parameter in parameter_table(config, SIZES).items():
        weights[name] = generator.normal(size=parameter.shape, scale=0.5).astype(np.float32)
        if "embedding" in name:
            weights[name][0] = 0
    return Problem(config=config, sizes=SIZES, weights=weights, batches=[_make_batch(seed) for seed in range(4)])


def _make_batch(seed):
    """Rows 8 (query_id) and 7 (candidate_id) are in no batch; candidates repeat, lists hold padding or nothing."""
    generator = np.random.default_rng([1, seed])
    candidate_rows = np.asarray([0, 1, 1, 2, 3, 4], np.int32)
    ids = np.asarray([2, 3, 3, 4, 1, 1], np.int32)
    return Batch(
        query_features={
            "query_id": generator.integers(1, 8, 6).astype(np.int32),
            "city": generator.integers(1, 5, 6).astype(np.int32),
            "age": generator.normal(size=6).astype(np.float32),
            "history": np.asarray([[2, 3, 4], [5, 0, 0], [0, 0, 0], [6, 6, 0], [1, 2, 0], [3, 4, 5]], np.int32),
        },
        candidate_features={
            "candidate_id": ids,
            "genres": np.asarray([[2, 3], [4, 0], [4, 0], [0, 0], [5, 1], [2, 0]], np.int32),
        },
        query_rows=np.arange(6, dtype=np.int32),
        candidate_rows=candidate_rows,
        log_q=np.log(generator.uniform(0.05, 0.3, 6)).astype(np.float32)[candidate_rows],
        weights=np.asarray([1, 0.5, 2, 1, 0, 1], np.float32),
    )

"""One small problem for the tests of this stack: every kind of feature, duplicates, padding, and an empty list.

Batches carry what the configuration asks for: sampled columns, impressions, known positives, the explicit mask.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from retrieval_contract.arrays import BankColumns, Batch, Impressions, KnownPositives, SampledColumns
from retrieval_contract.config import RunConfig, looks_up_one_row, table_width
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
    "negatives": {},
    "optimizer": {"kind": "adam", "learning_rate": 0.01},
    "training": {"batch_size": 6, "device": "cpu"},
}
CATALOGUE = {
    "candidate_id": np.asarray([2, 3, 4, 1, 1, 5, 6], np.int32),
    "genres": np.asarray([[2, 3], [4, 0], [0, 0], [5, 1], [2, 0], [1, 2], [3, 0]], np.int32),
}
"""Features of all candidates by entity row; rows 3 and 4 are unknown to the vocabulary."""
NUM_CANDIDATES = 7


@dataclass(frozen=True, kw_only=True)
class Problem:
    config: RunConfig
    sizes: dict
    weights: dict
    batches: list
    catalogue: dict

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
    for bounded, (low, high) in {"loss.log_temperature": config.loss.log_temperature_range}.items():
        if bounded in weights:
            weights[bounded] = np.clip(weights[bounded], low, high)
    batches = [_make_batch(seed, config) for seed in range(4)]
    return Problem(config=config, sizes=SIZES, weights=weights, batches=batches, catalogue=CATALOGUE)


@pytest.fixture(scope="module")
def module_problem():
    """`make_problem` for fixtures that live as long as a file of tests."""
    return _make_problem


@pytest.fixture
def make_bank():
    return _make_bank


@pytest.fixture(scope="module")
def module_bank():
    return _make_bank


def _make_bank(config, num_columns=5, seed=0):
    """Columns of earlier batches, some of candidates that stand in the batch too."""
    generator = np.random.default_rng([3, seed])
    bias = generator.normal(size=num_columns).astype(np.float32) if config.model.candidate_bias else None
    return BankColumns(
        vectors=generator.normal(size=(num_columns, config.model.dim), scale=0.5).astype(np.float32),
        rows=generator.integers(0, NUM_CANDIDATES, num_columns).astype(np.int32),
        log_q=np.log(generator.uniform(0.05, 0.3, num_columns)).astype(np.float32),
        bias=bias,
    )


def _make_batch(seed, config):
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
        **_extras(np.random.default_rng([2, seed]), config.negatives, candidate_rows),
    )


def _extras(generator, negatives, candidate_rows):
    """Optional fields, of a stream of their own; impressions and sampled columns hold positives of the batch too."""
    extras, num_sampled = {}, negatives.sampled + negatives.mined.per_example * 6
    if num_sampled:
        extras["sampled"] = SampledColumns(**_drawn(generator, (num_sampled,)))
    if negatives.impressions:
        shape = (6, negatives.impressions)
        allowed = generator.random(shape) < 0.7
        allowed[2] = False
        extras["impressions"] = Impressions(**_drawn(generator, shape), allowed=allowed)
    if negatives.mask_known_positives:
        pairs = sorted({(i, row) for i, row in enumerate(candidate_rows.tolist())} | {(0, 2), (0, 6), (3, 1), (5, 0)})
        places, rows = np.asarray(pairs, np.int32).T
        extras["known_positives"] = KnownPositives(places=places, rows=rows)
    if negatives.mask_not_yet_seen:
        allowed = generator.random((6, 6 + num_sampled)) < 0.8
        allowed[np.arange(6), np.arange(6)] = True
        extras["allowed"] = allowed
    return extras


def _drawn(generator, shape):
    rows = generator.integers(0, NUM_CANDIDATES, shape).astype(np.int32)
    log_q = np.log(generator.uniform(0.05, 0.3, NUM_CANDIDATES)).astype(np.float32)[rows]
    return {
        "features": {name: values[rows.ravel()] for name, values in CATALOGUE.items()},
        "rows": rows,
        "log_q": log_q,
    }


@pytest.fixture
def plant():
    return _plant


@pytest.fixture(scope="module")
def module_plant():
    return _plant


def _plant(seed=0, num_rows=6, **branches):
    """A problem of any towers: `plant(query={...}, candidate={...})`, arrays and weights drawn at random.

    With `training.positions=all` the batch has as many sequences as rows; row 3 of every history is empty otherwise.
    """
    tree = {"optimizer": {"kind": "sgd"}, "model": {"dim": 4}, **branches}
    tree["training"] = {"batch_size": num_rows, "device": "cpu", **tree.get("training", {})}
    config = config_from_tree(tree, where="test")
    generator = np.random.default_rng([4, seed])
    sizes = _planted_sizes(config)
    weights = {}
    for name, parameter in parameter_table(config, sizes).items():
        weights[name] = generator.normal(size=parameter.shape, scale=0.5).astype(np.float32)
        if parameter.start == "embedding":
            weights[name][0] = 0
        if name.endswith("variance"):
            weights[name] = np.abs(weights[name]) + 0.1
    fields = {feature.name: feature for feature in config.candidate.features}
    catalogue = _planted_features(generator, config.candidate, sizes["candidate"], NUM_CANDIDATES, fields)
    batch = _planted_batch(generator, config, sizes, catalogue, num_rows, fields)
    return Problem(config=config, sizes=sizes, weights=weights, batches=[batch], catalogue=catalogue)


def _planted_sizes(config):
    sizes = {side: {} for side in config.towers}
    fields = {feature.name: feature for feature in config.candidate.features}
    for side, tower in config.towers.items():
        for place, feature in enumerate(tower.features):
            if table_width(feature):
                sizes[side][feature.name] = 5 + place
            if feature.kind == "history" and not feature.shares:
                sizes[side] |= {f"{feature.name}.{name}": 6 for name in feature.fields if table_width(fields[name])}
    return sizes


def _planted_features(generator, tower, sizes, num_rows, fields, prefix="", full=False):
    arrays = {}
    for feature in tower.features:
        name = prefix + feature.name
        if feature.kind == "history":
            arrays |= _planted_history(generator, feature, sizes, num_rows, fields, full)
            continue
        arrays |= _planted_values(generator, feature, name, (num_rows,), 5)
    return arrays


def _planted_values(generator, feature, name, shape, size):
    """What a feature is encoded to, for each place of a shape."""
    if feature.kind in ("multivalent", "text"):
        rows = generator.integers(1, size, (*shape, 3)).astype(np.int32)
        rows *= np.arange(3) < generator.integers(0, 4, (*shape, 1))
        weights = generator.uniform(0, 2, rows.shape).astype(np.float32) * (rows > 0)
        weighs = getattr(feature, "weights_column", None) is not None
        return {name: rows, **({f"{name}.weights": weights} if weighs else {})}
    if looks_up_one_row(feature):
        return {name: generator.integers(1, size, shape).astype(np.int32)}
    numbers = feature.width if feature.kind == "dense" else feature.output_width
    return {name: generator.normal(size=shape if numbers == 1 else (*shape, numbers)).astype(np.float32)}


def _planted_history(generator, history, sizes, num_rows, fields, full):
    length = history.max_length
    counts = generator.integers(1, length + 1, num_rows)
    counts[0] = length
    if not full:
        counts[3] = 0
    there = np.arange(length) < counts[:, None]
    arrays = {history.name: np.where(there, generator.integers(1, 5, there.shape) if history.ids else 1, 0)}
    for name in history.fields:
        arrays |= _planted_values(generator, fields[name], f"{history.name}.{name}", there.shape, 5)
    if history.age_buckets:
        arrays[f"{history.name}.ages"] = generator.integers(1, history.age_buckets + 1, there.shape)
    if history.pooling.kind == "weighted_mean":
        arrays[f"{history.name}.weights"] = generator.uniform(0.1, 2, there.shape).astype(np.float32)
    return {
        name: (values * there.reshape(there.shape + (1,) * (values.ndim - 2))).astype(
            np.int32 if values.dtype.kind == "i" else np.float32
        )
        for name, values in arrays.items()
    }


def _planted_batch(generator, config, sizes, catalogue, num_rows, fields):
    whole = config.training.positions == "all"
    query = _planted_features(generator, config.query, sizes["query"], num_rows, fields, full=whole)
    if config.context is not None:
        query |= _planted_features(generator, config.context, sizes["context"], num_rows, fields, "context.")
    places = None
    if whole:
        history = query[config.query.histories[0].name]
        places = np.flatnonzero(history).astype(np.int32)
        num_rows = len(places)
    rows = generator.integers(0, NUM_CANDIDATES, num_rows).astype(np.int32)
    return Batch(
        query_features=query,
        candidate_features={name: values[rows] for name, values in catalogue.items()},
        query_rows=np.arange(num_rows, dtype=np.int32),
        candidate_rows=rows,
        log_q=np.log(generator.uniform(0.05, 0.3, NUM_CANDIDATES)).astype(np.float32)[rows],
        weights=generator.uniform(0.5, 2, num_rows).astype(np.float32),
        places=places,
        **_planted_extras(generator, config.negatives, catalogue, num_rows),
    )


def _planted_extras(generator, negatives, catalogue, num_rows):
    extras = {}
    for name, shape in (("sampled", (negatives.sampled,)), ("impressions", (num_rows, negatives.impressions))):
        if shape[-1]:
            rows = generator.integers(0, NUM_CANDIDATES, shape).astype(np.int32)
            features = {feature: values[rows.ravel()] for feature, values in catalogue.items()}
            extras[name] = {"features": features, "rows": rows, "log_q": np.full(shape, -2, np.float32)}
    found = {}
    if "sampled" in extras:
        found["sampled"] = SampledColumns(**extras["sampled"])
    if "impressions" in extras:
        allowed = generator.random(extras["impressions"]["rows"].shape) < 0.7
        found["impressions"] = Impressions(**extras["impressions"], allowed=allowed)
    return found

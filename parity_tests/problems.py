"""Small problems with every awkward corner in the batch, one per configuration option and some with all of them.

The batch has duplicate queries, duplicate candidates (accidental hits), two different candidates that share the unknown
row, empty and full lists, a list that holds a value twice, and weights that are not one. Weights and dense biases are
drawn away from 0, so that no activation stands on its kink.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Batch, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.weights.names import Parameter, VocabularySizes, parameter_table

NUM_ROWS = 6
CANDIDATE_ROWS = (3, 1, 3, 4, 5, 1)
QUERY_ROWS = (2, 0, 2, 1, 3, 0)
CANDIDATE_IDS = np.array([2, 3, 4, 5, 1, 1, 6], np.int32)
"""Vocabulary row of each candidate: entity rows 4 and 5 are different, unknown both, and no accidental hit."""
QUERY_IDS = np.array([2, 3, 4, 1, 5], np.int32)
"""Vocabulary row of each query."""
SIZES: VocabularySizes = {
    "query": {"query_id": 6, "occupation": 4, "tags": 5, "history": 7},
    "candidate": {"candidate_id": 7, "genres": 5, "year": 4},
}

QUERY_ID = {"name": "query_id", "kind": "id", "width": 4}
CANDIDATE_ID = {"name": "candidate_id", "kind": "id", "width": 4}
OCCUPATION = {"name": "occupation", "kind": "categorical", "width": 3}
YEAR = {"name": "year", "kind": "categorical", "width": 2}
TAGS = {"name": "tags", "kind": "multivalent", "width": 3, "max_length": 3}
GENRES = {"name": "genres", "kind": "multivalent", "width": 4, "max_length": 3}
AGE = {"name": "age", "kind": "numeric"}
PRICE = {"name": "price", "kind": "numeric"}
HISTORY = {"name": "history", "kind": "history", "width": 4, "max_length": 4}

RICH_QUERY: list[dict[str, Any]] = [QUERY_ID, OCCUPATION, TAGS, AGE, HISTORY]
RICH_CANDIDATE: list[dict[str, Any]] = [CANDIDATE_ID, GENRES, PRICE, YEAR]
EVERYTHING: dict[str, Any] = {
    "query": {"features": RICH_QUERY, "hidden_dims": [5, 3], "activation": "gelu"},
    "candidate": {"features": RICH_CANDIDATE, "hidden_dims": [6], "activation": "silu"},
    "model": {"dim": 4, "normalize": True, "candidate_bias": True},
    "loss": {"temperature": 0.3},
}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "temperature": {"loss": {"temperature": 0.2}},
    "no_log_q": {"loss": {"log_q": "none"}},
    "accidental_hits_kept": {"loss": {"remove_accidental_hits": False}},
    "normalize": {"model": {"dim": 4, "normalize": True}, "loss": {"temperature": 0.1}},
    "candidate_bias": {"model": {"dim": 4, "candidate_bias": True}, "loss": {"temperature": 0.5}},
    "hidden_relu": {"query": {"features": [QUERY_ID], "hidden_dims": [4, 5], "activation": "relu"}},
    "hidden_gelu": {"candidate": {"features": [CANDIDATE_ID], "hidden_dims": [5], "activation": "gelu"}},
    "hidden_silu": {"query": {"features": [QUERY_ID], "hidden_dims": [5], "activation": "silu"}},
    "hidden_tanh": {"candidate": {"features": [CANDIDATE_ID], "hidden_dims": [4, 3], "activation": "tanh"}},
    "projection_only": {"model": {"dim": 3}},
    "multivalent": {"candidate": {"features": [CANDIDATE_ID, GENRES]}},
    "numeric": {"query": {"features": [QUERY_ID, AGE]}, "candidate": {"features": [PRICE, CANDIDATE_ID]}},
    "history": {"query": {"features": [HISTORY]}},
    "sum": {
        "query": {"features": [QUERY_ID, HISTORY], "combine": "sum"},
        "candidate": {"features": [GENRES, CANDIDATE_ID], "combine": "sum"},
    },
    "every_parameter": {
        "query": {"features": [QUERY_ID, HISTORY], "hidden_dims": [5], "activation": "gelu"},
        "candidate": {"features": [CANDIDATE_ID, GENRES, PRICE]},
        "model": {"dim": 4, "normalize": True, "candidate_bias": True},
        "loss": {"temperature": 0.3},
    },
    "everything": EVERYTHING,
}
"""Configuration by name, each a change of `plain`: two id embeddings, exact log_q, accidental hits removed."""

NUM_DRAWN = 24


def _drawn(seed: int) -> dict[str, Any]:
    """A configuration drawn at random over all options at once, for what no one thought of combining."""
    generator = np.random.default_rng([seed, 2])

    def one_of(*choices: Any) -> Any:
        return choices[generator.integers(len(choices))]

    def tower(own: dict[str, Any], summable: dict[str, Any], rest: list[dict[str, Any]]) -> dict[str, Any]:
        sums = generator.random() < 0.25
        others = [summable] if sums else [feature for feature in rest if generator.random() < 0.5]
        return {
            "features": [own, *others] if generator.random() < 0.5 else [*others, own],
            "combine": "sum" if sums else "concat",
            "hidden_dims": one_of([], [], [5], [4, 3]),
            "activation": one_of("relu", "gelu", "silu", "tanh"),
        }

    return {
        "query": tower(QUERY_ID, HISTORY, RICH_QUERY[1:]),
        "candidate": tower(CANDIDATE_ID, GENRES, RICH_CANDIDATE[1:]),
        "model": {"dim": one_of(3, 4), "normalize": one_of(True, False), "candidate_bias": one_of(True, False)},
        "loss": {
            "temperature": one_of(1.0, 0.3, 2.0),
            "log_q": one_of("none", "exact"),
            "remove_accidental_hits": one_of(True, False),
        },
    }


DRAWN: dict[str, dict[str, Any]] = {f"drawn_{seed}": _drawn(seed) for seed in range(NUM_DRAWN)}
"""More cases, by number."""

WEIGHTS = {
    "varied": (1.0, 0.5, 2.0, 1.5, 0.25, 3.0),
    "some_zero": (0.0, 0.5, 2.0, 0.0, 1.0, 1.0),
    "all_zero": (0.0,) * NUM_ROWS,
}
"""Sample weights by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A model at given weights and a batch for it."""

    config: RunConfig
    sizes: VocabularySizes
    weights: dict[str, Float32Array]
    batch: Batch

    @property
    def table(self) -> dict[str, Parameter]:
        """Canonical parameters."""
        return parameter_table(self.config, self.sizes)


def problem(case: str, *, weights: str = "varied", seed: int = 0, optimizer: dict[str, Any] | None = None) -> Problem:
    """Build the problem of a case.

    Args:
        case: a name in `CASES` or `DRAWN`.
        weights: a name in `WEIGHTS`.
        seed: of the weights and of the numbers in the batch.
        optimizer: settings of the optimiser that differ from the defaults.
    """
    config = config_of(case, optimizer or {})
    table = parameter_table(config, SIZES)
    generator = np.random.default_rng([seed, len(case)])
    arrays = {name: _start(generator, name, parameter) for name, parameter in table.items()}
    return Problem(config=config, sizes=SIZES, weights=arrays, batch=make_batch(config, seed=seed, weights=weights))


def config_of(case: str, optimizer: dict[str, Any]) -> RunConfig:
    """The configuration of a case."""
    tree: dict[str, Any] = {
        "query": {"features": [QUERY_ID]},
        "candidate": {"features": [CANDIDATE_ID]},
        "model": {"dim": 4},
        "training": {"batch_size": NUM_ROWS, "device": "cpu"},
    }
    return config_from_tree(tree | (CASES | DRAWN)[case] | {"optimizer": optimizer}, where=case)


def make_batch(config: RunConfig, *, seed: int, weights: str = "varied") -> Batch:
    """A batch for a configuration: seed 0 has every awkward corner, others have a few entities of the seed's choice."""
    generator = np.random.default_rng([seed, 1])
    query_rows, candidate_rows = np.array(QUERY_ROWS, np.int32), np.array(CANDIDATE_ROWS, np.int32)
    if seed:
        query_rows = generator.choice(len(QUERY_IDS), 2)[generator.integers(0, 2, NUM_ROWS)].astype(np.int32)
        candidate_rows = generator.choice(len(CANDIDATE_IDS), 4)[generator.integers(0, 4, NUM_ROWS)].astype(np.int32)
    query, candidate = _query_features(query_rows, generator), _candidate_features(candidate_rows)
    log_q = -np.log(np.arange(2, 2 + len(CANDIDATE_IDS)) * 3.0)[candidate_rows]
    return Batch(
        query_features={feature.name: query[feature.name] for feature in config.query.features},
        candidate_features={feature.name: candidate[feature.name] for feature in config.candidate.features},
        query_rows=query_rows,
        candidate_rows=candidate_rows,
        log_q=(log_q * (config.loss.log_q != "none")).astype(np.float32),
        weights=np.array(WEIGHTS[weights], np.float32),
    )


def with_log_q(batch: Batch, log_q: NDArray[Any]) -> Batch:
    """The same batch with another log_q."""
    return replace(batch, log_q=log_q.astype(np.float32))


def _query_features(rows_B: NDArray[Any], generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Features of queries; age and history belong to the moment and are drawn, but for fixed lists of six rows."""
    tags = np.array([[0, 0, 0], [3, 3, 0], [2, 3, 4], [1, 0, 0], [4, 2, 0]], np.int32)
    histories = [[2, 6, 3, 5], [4, 0, 0, 0], [2, 6, 0, 0], [0, 0, 0, 0], [1, 1, 2, 0], [4, 0, 0, 0]]
    return {
        "query_id": QUERY_IDS[rows_B],
        "occupation": np.array([3, 1, 2, 1, 2], np.int32)[rows_B],
        "tags": tags[rows_B],
        "age": generator.standard_normal(len(rows_B)).astype(np.float32),
        "history": np.array(histories, np.int32),
    }


def _candidate_features(rows_B: NDArray[Any]) -> dict[str, NDArray[Any]]:
    genres = np.array([[2, 0, 0], [3, 0, 0], [4, 1, 0], [2, 4, 0], [0, 0, 0], [4, 3, 2], [3, 3, 1]], np.int32)
    return {
        "candidate_id": CANDIDATE_IDS[rows_B],
        "genres": genres[rows_B],
        "price": np.array([0.25, -1.25, 1.5, 0.5, 0.0, 2.0, -0.75], np.float32)[rows_B],
        "year": np.array([1, 3, 2, 2, 1, 1, 3], np.int32)[rows_B],
    }


def _start(generator: np.random.Generator, name: str, parameter: Parameter) -> Float32Array:
    """Normal values of size 1/2, the padding row of an embedding zero."""
    values = (generator.standard_normal(parameter.shape) / 2).astype(np.float32)
    if ".embedding." in name:
        values[0] = 0
    return values

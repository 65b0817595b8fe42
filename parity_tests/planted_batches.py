"""Batches with every awkward corner: what a problem's configuration asks for, and nothing else.

Seed 0 has duplicate queries, duplicate candidates (accidental hits), two different candidates that share the unknown
row, empty and full lists, a list that holds a value twice, and weights that are not one. Its sampled columns repeat
positives and themselves; row 1 has no impression, row 0's are its own positive and another's; the query of rows 0 and 2
knows every candidate; row 4 may use none but its own. Other seeds have a few entities of the seed's choice.

Letters: B rows of the batch, E sampled columns, X impressions of a row, S entries of a bank, D vector width.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.cases import NUM_ROWS
from parity_tests.planted_features import PLACES, drawn, history_arrays, table_sizes
from retrieval_contract.arrays import (
    BankColumns,
    Batch,
    BoolArray,
    FeatureArrays,
    Float32Array,
    Impressions,
    KnownPositives,
    SampledColumns,
)
from retrieval_contract.config import HistoryFeature, RunConfig
from retrieval_contract.weights.names import VocabularySizes

CANDIDATE_ROWS = (3, 1, 3, 4, 5, 1)
QUERY_ROWS = (2, 0, 2, 1, 3, 0)
SAMPLED_ROWS = (3, 6, 1, 6, 0)
SHOWN_ROWS = ((3, 1), (0, 0), (6, 2), (4, 4), (2, 6), (5, 0))
ROW_WITHOUT_IMPRESSION = 1
QUERY_THAT_KNOWS_ALL = 2
ROW_ALLOWED_NOTHING = 4
CANDIDATE_IDS = np.array([2, 3, 4, 5, 1, 1, 6], np.int32)
"""Vocabulary row of each candidate: entity rows 4 and 5 are different, unknown both, and no accidental hit."""
QUERY_IDS = np.array([2, 3, 4, 1, 5], np.int32)
"""Vocabulary row of each query."""
NUM_CANDIDATES = len(CANDIDATE_IDS)
SIZES: VocabularySizes = {
    "query": {"query_id": 6, "occupation": 4, "tags": 5, "history": 7},
    "candidate": {"candidate_id": 7, "genres": 5, "year": 4},
}
WEIGHTS = {
    "varied": (1.0, 0.5, 2.0, 1.5, 0.25, 3.0),
    "some_zero": (0.0, 0.5, 2.0, 0.0, 1.0, 1.0),
    "all_zero": (0.0,) * NUM_ROWS,
}
"""Sample weights by name."""


def make_batch(config: RunConfig, *, seed: int, weights: str = "varied") -> Batch:
    """A batch with the optional parts that the configuration asks for.

    Args:
        config: the run.
        seed: of the entities and of all numbers; 0 has every awkward corner.
        weights: a name in `WEIGHTS`.
    """
    generator = np.random.default_rng([seed, 1])
    query_rows, candidate_rows = np.array(QUERY_ROWS, np.int32), np.array(CANDIDATE_ROWS, np.int32)
    whole_sequences = config.training.positions == "all"
    if seed:
        query_rows = generator.choice(len(QUERY_IDS), 2)[generator.integers(0, 2, NUM_ROWS)].astype(np.int32)
        candidate_rows = generator.choice(NUM_CANDIDATES, 4)[generator.integers(0, 4, NUM_ROWS)].astype(np.int32)
    query = _query_features(config, seed, query_rows, generator)
    sampled = _sampled(config, seed, generator)
    return Batch(
        query_features=query,
        candidate_features=candidate_features(config, candidate_rows),
        query_rows=query_rows,
        candidate_rows=candidate_rows,
        log_q=log_q_of(config, candidate_rows),
        weights=np.array(WEIGHTS[weights], np.float32),
        places=np.array(PLACES, np.int32) if whole_sequences else None,
        sampled=sampled,
        impressions=_impressions(config, seed, generator),
        known_positives=_known_positives(config, query_rows, candidate_rows),
        allowed=_allowed(config, 0 if sampled is None else len(sampled.rows), generator),
    )


def sizes_of(config: RunConfig) -> VocabularySizes:
    """Rows of every table that the configuration looks up, and of those with fixed arrays."""
    return {side: {**sizes, **SIZES.get(side, {})} for side, sizes in table_sizes(config).items()}


def make_bank(config: RunConfig, *, seed: int, num_entries: int = 7) -> BankColumns:
    """A bank whose entries are no vectors of today: of any candidate, each with a log_q and a bias of its own."""
    generator = np.random.default_rng([seed, 4])
    corrected = config.loss.log_q != "none"
    return BankColumns(
        vectors=generator.standard_normal((num_entries, config.model.dim)).astype(np.float32),
        rows=generator.integers(0, NUM_CANDIDATES, num_entries).astype(np.int32),
        log_q=(corrected * np.log(generator.uniform(0.01, 0.3, num_entries))).astype(np.float32),
        bias=generator.standard_normal(num_entries).astype(np.float32) if config.model.candidate_bias else None,
    )


def rows_of(batch: Batch, part: slice | NDArray[Any]) -> Batch:
    """Some rows of a batch as a batch of their own, without the optional parts."""
    return Batch(
        query_features={name: array[part] for name, array in batch.query_features.items()},
        candidate_features={name: array[part] for name, array in batch.candidate_features.items()},
        query_rows=batch.query_rows[part],
        candidate_rows=batch.candidate_rows[part],
        log_q=batch.log_q[part],
        weights=batch.weights[part],
    )


def repeated(batch: Batch, num_rows: int) -> Batch:
    """The batch over and over, up to so many rows, known positives included; without the other optional parts."""
    places = np.resize(np.arange(len(batch.weights)), num_rows)
    known = batch.known_positives
    if known is not None:
        copies, pairs = np.nonzero(places[:, None] == known.places[None, :])
        known = KnownPositives(places=copies.astype(np.int32), rows=known.rows[pairs])
    return replace(rows_of(batch, places), known_positives=known)


def catalogue_features(config: RunConfig) -> FeatureArrays:
    """Encoded features of all candidates."""
    return candidate_features(config, np.arange(NUM_CANDIDATES))


def log_q_of(config: RunConfig, candidate_rows: NDArray[Any]) -> Float32Array:
    """log_q of candidates, a probability for each; zeros without a correction."""
    log_q_N = -np.log(np.arange(2, 2 + NUM_CANDIDATES) * 3.0) * (config.loss.log_q != "none")
    return log_q_N.astype(np.float32)[candidate_rows]


def candidate_features(config: RunConfig, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Encoded features of candidates, those of the configuration."""
    genres = np.array([[2, 0, 0], [3, 0, 0], [4, 1, 0], [2, 4, 0], [0, 0, 0], [4, 3, 2], [3, 3, 1]], np.int32)
    every: dict[str, NDArray[Any]] = {
        "candidate_id": CANDIDATE_IDS,
        "genres": genres,
        "price": np.array([0.25, -1.25, 1.5, 0.5, 0.0, 2.0, -0.75], np.float32),
        "year": np.array([1, 3, 2, 2, 1, 1, 3], np.int32),
    }
    found: dict[str, NDArray[Any]] = {}
    for feature in config.candidate.features:
        if feature.name in every:
            found[feature.name] = every[feature.name]
        else:
            found |= drawn(feature, NUM_CANDIDATES, np.random.default_rng([*feature.name.encode()]))
    return {name: array[rows] for name, array in found.items()}


def _query_features(
    config: RunConfig, seed: int, rows_B: NDArray[Any], generator: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Features of queries and of their requests: some fixed, the others drawn by seed and name."""
    fixed = _fixed_query_features(rows_B, generator)
    candidates = candidate_features(config, np.arange(NUM_CANDIDATES))
    known = {feature.name: feature for feature in config.candidate.features}
    found: dict[str, NDArray[Any]] = {}
    for side, tower in config.towers.items():
        prefix = "context." if side == "context" else ""
        for feature in tower.features if side != "candidate" else ():
            own = np.random.default_rng([seed, 5, *f"{prefix}{feature.name}".encode()])
            if isinstance(feature, HistoryFeature):
                whole_sequences = config.training.positions == "all"
                found |= history_arrays(
                    config, feature, candidates, own, whole_sequences=whole_sequences, mixed=seed > 0
                )
            elif feature.name in fixed and not prefix:
                found[feature.name] = fixed[feature.name]
            else:
                target = known.get(getattr(feature, "shares", None) or "")
                rows = None if target is None else sizes_of(config)["candidate"][target.name]
                arrays = drawn(feature, NUM_ROWS, own, rows=rows)
                found |= {f"{prefix}{name}": array for name, array in arrays.items()}
    return found


def _fixed_query_features(rows_B: NDArray[Any], generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Features of queries, but for the age, which belongs to the moment and is drawn."""
    tags = np.array([[0, 0, 0], [3, 3, 0], [2, 3, 4], [1, 0, 0], [4, 2, 0]], np.int32)
    return {
        "query_id": QUERY_IDS[rows_B],
        "occupation": np.array([3, 1, 2, 1, 2], np.int32)[rows_B],
        "tags": tags[rows_B],
        "age": generator.standard_normal(len(rows_B)).astype(np.float32),
    }


def _sampled(config: RunConfig, seed: int, generator: np.random.Generator) -> SampledColumns | None:
    num_columns = config.negatives.sampled + config.negatives.mined.per_example * NUM_ROWS
    if not num_columns:
        return None
    rows_E = np.resize(np.array(SAMPLED_ROWS, np.int32), num_columns)
    if seed:
        rows_E = generator.integers(0, NUM_CANDIDATES, num_columns).astype(np.int32)
    return SampledColumns(features=candidate_features(config, rows_E), rows=rows_E, log_q=log_q_of(config, rows_E))


def _impressions(config: RunConfig, seed: int, generator: np.random.Generator) -> Impressions | None:
    if not config.negatives.impressions:
        return None
    rows_BX = np.array(SHOWN_ROWS, np.int32)
    if seed:
        rows_BX = generator.integers(0, NUM_CANDIDATES, rows_BX.shape).astype(np.int32)
    allowed_BX = np.ones(rows_BX.shape, bool)
    allowed_BX[ROW_WITHOUT_IMPRESSION] = False
    return Impressions(
        features=candidate_features(config, rows_BX.reshape(-1)),
        rows=rows_BX,
        log_q=log_q_of(config, rows_BX),
        allowed=allowed_BX,
    )


def _known_positives(
    config: RunConfig, query_rows: NDArray[Any], candidate_rows: NDArray[Any]
) -> KnownPositives | None:
    """The own positive and two candidates more; for one query all there are."""
    if not config.negatives.mask_known_positives:
        return None
    known_BV = np.zeros((NUM_ROWS, NUM_CANDIDATES), bool)
    known_BV[np.arange(NUM_ROWS), candidate_rows] = True
    known_BV[np.arange(NUM_ROWS), (query_rows + 4) % NUM_CANDIDATES] = True
    known_BV[np.arange(NUM_ROWS), (3 * query_rows + 1) % NUM_CANDIDATES] = True
    known_BV[query_rows == QUERY_THAT_KNOWS_ALL] = True
    places, rows = np.nonzero(known_BV)
    return KnownPositives(places=places.astype(np.int32), rows=rows.astype(np.int32))


def _allowed(config: RunConfig, num_sampled: int, generator: np.random.Generator) -> BoolArray | None:
    if not config.negatives.mask_not_yet_seen:
        return None
    allowed_BN = generator.random((NUM_ROWS, NUM_ROWS + num_sampled)) < 0.7
    allowed_BN[ROW_ALLOWED_NOTHING] = False
    allowed_BN[np.arange(NUM_ROWS), np.arange(NUM_ROWS)] = True
    return allowed_BN

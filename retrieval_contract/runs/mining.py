"""Offline hard negatives: candidates that the present towers rank high for a query that never met them in training.

Letters: Q queries, N candidates, D vector width, M ranks taken, B queries of a chunk.
"""

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array, Vectors
from retrieval_contract.config import RunConfig
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.errors import RunError, UserError
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.stack import Encoders, Stack
from retrieval_contract.weights.archive import weights_digest

Weights = dict[str, Float32Array]
"""Canonical name -> array."""

CHUNK_BYTES = 64_000_000
"""Bound on the search results of one chunk of queries."""
MOST_QUERIES = 8_192
"""Queries encoded and searched at once, at most."""


def check_mining(stack: Stack, config: RunConfig) -> None:
    """Refuse mining that could never happen, before anything is loaded.

    Raises:
        UserError: this stack, or this machine, lacks the index that is mined; or the run ends before the first mining.
    """
    mined = config.negatives.mined
    if not mined.per_example:
        return
    backend = config.index.backend
    if backend not in stack.indexes:
        raise UserError(
            f"hard negatives are mined from an index, and {stack.name} has no backend {backend!r} here",
            where="negatives.mined, index.backend",
            todo=f"set index.backend to one of {', '.join(stack.indexes)}, or negatives.mined.per_example=0",
        )
    if mined.every_epochs >= config.training.epochs:
        raise UserError(
            f"hard negatives are mined after every {mined.every_epochs} epochs, and the run ends after "
            f"{config.training.epochs}: it would never use them",
            where="negatives.mined.every_epochs, training.epochs",
            todo="mine more often, train for longer, or set negatives.mined.per_example=0",
        )


def build_mining_index(
    stack: Stack, config: RunConfig, prepared: PreparedData, encoders: Encoders, *, digest: str
) -> Index:
    """Build the configured index over the catalogue.

    Args:
        stack: the implementation, with the configured backend.
        config: the run.
        prepared: its data.
        encoders: the towers.
        digest: of their weights.

    Raises:
        UserError: settings that do not go with this catalogue.
    """
    values_ND = encoders.encode_candidates(prepared.candidate_features())
    vectors = Vectors(ids=prepared.candidates.ids, values=values_ND, weights_digest=digest)
    return stack.indexes[config.index.backend].build(vectors, config.index)


def mine(stack: Stack, config: RunConfig, prepared: PreparedData, weights: Weights) -> Int32Array:
    """Search the index of these weights with every query of the train positives, and keep the configured ranks.

    A query's vector is the one of after training (its history holds every train positive, of its request nothing is
    known); of a query with several, the largest score counts. Its known train positives
    are left out before ranks are counted. Deterministic where building the index is.

    Args:
        stack: the implementation.
        config: the run; read are negatives.mined and index.
        prepared: its data.
        weights: canonical weights of the towers.

    Returns:
        Entity rows of candidates [Q, M], better ones first; -1 where a query has no train positive, or not that many
        candidates that are none of its positives.

    Raises:
        RunError: the vectors cannot be searched (not finite, or so long that scores overflow).
    """
    digest = weights_digest(weights)
    encoders = stack.encoders(config, prepared.features.sizes, weights)
    try:
        index = build_mining_index(stack, config, prepared, encoders, digest=digest)
        return _searched(index, config, prepared, encoders)
    except UserError as error:
        raise RunError(f"hard negatives could not be mined: {error}") from error


def _searched(index: Index, config: RunConfig, prepared: PreparedData, encoders: Encoders) -> Int32Array:
    mined = config.negatives.mined
    known = prepared.known_positives()
    rows_QM = np.full((known.shape[0], mined.last_rank - mined.first_rank + 1), -1, np.int32)
    query_rows = np.flatnonzero(np.diff(known.indptr)).astype(np.int32)
    chunk = max(1, min(MOST_QUERIES, CHUNK_BYTES // (8 * mined.last_rank * config.num_interests)))
    for start in range(0, len(query_rows), chunk):
        rows_B = query_rows[start : start + chunk]
        queries = encoders.encode_queries(prepared.query_features(rows_B, None))
        # Queries between those of a chunk have no positive, so the chunk's lists follow one another without a gap.
        first, ends_B = known.indptr[rows_B[0]], known.indptr[rows_B + 1]
        excluded = np.split(known.indices[first : ends_B[-1]].astype(np.int32), ends_B[:-1] - first)
        found = index.search(queries, mined.last_rank, weights_digest=index.weights_digest, excluded=excluded)
        rows_QM[rows_B] = found.rows[:, mined.first_rank - 1 :]
    return rows_QM

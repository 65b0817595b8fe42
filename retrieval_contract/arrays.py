"""Named bundles of NumPy arrays: what travels between rooms, and the legend of the shape letters.

Letters in array names: B queries in the batch, N candidates scored, D vector width, L history length, M values of a
multi-valent feature, K results, V vocabulary rows, R raw rows, E entities (queries or candidates) known to a data set.

Two integers must not be confused. An *entity row* (`query_rows`, `candidate_rows`) is the place of a query or a
candidate in its table, 0 to E-1: metrics, ties, accidental hits and counts use it. A *vocabulary row* is the place in
an embedding table, where 0 is padding and 1 is unknown: feature arrays hold those. A candidate never seen in training
has an entity row of its own and the vocabulary row 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[np.generic]
FeatureArrays = Mapping[str, AnyArray]
"""Encoded features by name: int32 [B] (categorical), int32 [B, M] or [B, L] padded with 0 behind, float32 [B]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """All queries, or all candidates, of a data set: raw ids and their attribute table, in entity-row order."""

    ids: tuple[str, ...]
    """Raw ids [E], distinct, strings from file to answer."""
    table: pa.Table
    """Attributes, E rows in the same order; a column `title` is shown to people where it exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """Who met what, when: one entry per raw row, sorted by nothing (source order)."""

    query_rows: Int32Array
    """Entity row of the query [R]."""
    candidate_rows: Int32Array
    """Entity row of the candidate [R]."""
    times: Int64Array
    """Unix seconds [R], or the order column's value where a source has no timestamps."""
    positive: BoolArray
    """True where the row counts as a positive under the configured rule [R]."""
    weights: Float32Array
    """Sample weight, finite and not negative [R]."""
    table: pa.Table
    """Every other raw column, R rows."""
    has_timestamps: bool
    """False where `times` is only an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Places in `Interactions` that belong to each part; the three are disjoint, each sorted ascending."""

    train: Int64Array
    validation: Int64Array
    test: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One training batch, equal to the byte in both stacks (parity rung 1)."""

    query_features: FeatureArrays
    """Encoded query features, leading dimension B."""
    candidate_features: FeatureArrays
    """Encoded features of each query's positive candidate, leading dimension B."""
    query_rows: Int32Array
    """Entity rows of the queries [B]."""
    candidate_rows: Int32Array
    """Entity rows of the positive candidates [B]."""
    log_q: Float32Array
    """Natural log of each candidate's sampling probability [B]; zeros where no correction is configured."""
    weights: Float32Array
    """Sample weights [B]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Candidate embeddings that have left a framework, with the digest of the weights that made them."""

    ids: tuple[str, ...]
    """Candidate ids [N]."""
    values: Float32Array
    """Vectors [N, D], finite; inner product with a query vector is the score."""
    weights_digest: str
    """SHA-256 digest of the weights archive that made the vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """Search results: best first, ties by the smaller row; a place with no result has row -1 and score -inf."""

    rows: Int32Array
    """Rows in the `Vectors` that the index was built from [B, K]."""
    scores: Float32Array
    """Inner products [B, K], larger is better."""

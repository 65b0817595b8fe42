"""Named bundles of NumPy arrays: what travels between rooms, and the legend of the shape letters.

Letters in array names: B queries in the batch, N candidates scored, D vector width, L history length, M values of a
multi-valent feature, K results, V vocabulary rows, R raw rows, E entities (queries or candidates) known to a data set,
S sequences and P places in them that are predicted (training.positions=all), I interests (vectors of one query).

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
"""Encoded features by name; an array of another leading dimension than the others' is refused.

* int32 [B], vocabulary rows: id, categorical (one-hot too), bucketised numbers, hour and weekday, cross.
* int32 [B, M] padded with 0 behind: multivalent, text. Its weights, where configured: `<name>.weights` float32 [B, M].
* float32 [B]: numeric of one number, age. float32 [B, n]: numeric with its missing flag behind, cycles (sine, cosine),
  dense, affinity.
* a history: `<name>` int32 [B, L] padded with 0 behind, oldest first: vocabulary rows of the ids (with ids=False: 1
  where there is an item). Beside it, each padded alike with 0: `<name>.<field>`, what the field is for each item
  ([B, L] or [B, L, n], its type as above; a multivalent field's weights `<name>.<field>.weights`); `<name>.ages` int32
  [B, L], 1 + age bucket; `<name>.weights` float32 [B, L], what a weighted mean weighs by, half-life included.
* features of the context tower stand among the query's, as `context.<name>`.
"""


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
class SampledColumns:
    """Candidates drawn from the catalogue (sampled or mined): columns of every row of a batch, behind its positives."""

    features: FeatureArrays
    """Encoded features, leading dimension E."""
    rows: Int32Array
    """Entity rows [E]; a candidate may stand in several columns."""
    log_q: Float32Array
    """Natural log of the mixture's probability [E]; zeros where no correction is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impressions:
    """Candidates shown to a query and not taken: each row's own negatives, invisible to other rows."""

    features: FeatureArrays
    """Encoded features, leading dimension B X: row 0's X impressions, then row 1's."""
    rows: Int32Array
    """Entity rows [B, X]."""
    log_q: Float32Array
    """Natural log of the mixture's probability [B, X]; zeros where no correction is configured."""
    allowed: BoolArray
    """False in the places of a row that has no impression [B, X]; features there are some candidate's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPositives:
    """What the queries of a batch have met as train positives, the batch's own positives among them."""

    places: Int32Array
    """Row of the batch, 0 to B - 1, of each pair [M], ascending."""
    rows: Int32Array
    """Entity row of the candidate of each pair [M]; distinct within a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankColumns:
    """Candidate vectors of earlier batches: columns of every row, behind all others, without gradient."""

    vectors: Float32Array
    """Vectors [S, D], as the candidate tower gave them, without the bias dimension."""
    rows: Int32Array
    """Entity rows [S]."""
    log_q: Float32Array
    """log_q of the time at which each was enqueued [S]."""
    bias: Float32Array | None
    """Candidate bias of that time [S]; None where the model has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One training batch, equal to the byte in both stacks (parity rung 1)."""

    query_features: FeatureArrays
    """Encoded query features, leading dimension B; with `places` S, whole sequences."""
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
    places: Int32Array | None = None
    """With training.positions=all: which place of which sequence each of the B = P rows is, sequence * L + place [P],
    ascending, where L is the length of the history array; the vector there predicts the row's candidate. None where
    each query has one row."""
    sampled: SampledColumns | None = None
    """Columns beside the positives; None where none are configured, as below."""
    impressions: Impressions | None = None
    """Each row's own negatives."""
    known_positives: KnownPositives | None = None
    """Pairs to mask in whatever columns."""
    allowed: BoolArray | None = None
    """The explicit mask [B, B + E]: True where a column, of the positives and then the sampled ones, counts for a row;
    the positive's own always does."""


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

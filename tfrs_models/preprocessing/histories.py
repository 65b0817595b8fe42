"""A query's past, in the graph: from raw candidate ids, weights and moments to histories and affinities.

Letters: B examples, L history length, N candidates, M values of a candidate's list, W places of an affinity.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import tensorflow as tf

from retrieval_contract.arrays import FeatureArrays
from retrieval_contract.config import AffinityFeature, HistoryFeature, WeightedMeanPooling
from retrieval_contract.data.encoding import weights_name
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.times import DAY, HOUR
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW
from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_inputs import (
    HISTORY_IDS,
    HISTORY_TIMES,
    HISTORY_WEIGHTS,
    REQUEST_TIME,
    RawInput,
    looked_up,
    need_catalogue,
    past_inputs,
)
from retrieval_contract.serving.raw_rows import MISSING_MOMENT
from tfrs_models.preprocessing.encoding import list_weights
from tfrs_models.preprocessing.inputs import RawRows
from tfrs_models.preprocessing.lists import at_windows, windows
from tfrs_models.preprocessing.rows import HashedRows, VocabularyTable


@dataclass(frozen=True, slots=True)
class Past:
    """What came of the queries' pasts: lists of ids, and what belongs to them, end to end."""

    ids: Any
    """Candidate ids, oldest first, ragged [B, any length]."""
    rows: tf.Tensor | None
    """Rows of the catalogue's tables: 1 for a candidate that is not in it; None without a catalogue."""
    weights: tf.Tensor
    """float32."""
    ages: tf.Tensor
    """Seconds to the request, int64, 0 or more."""


@final
class PastEncoder(tf.Module):
    """Encodes the histories and affinities of one query tower."""

    def __init__(
        self,
        fitted: FittedFeatures,
        candidate_ids: Sequence[str] | None,
        candidate_features: FeatureArrays | None,
        unknown: Mapping[str, tf.Tensor],
    ) -> None:
        """Build the tables, of which row 0 is padding, row 1 an unknown candidate, row 2 + n the n-th of the catalogue.

        Args:
            fitted: the run's fitted features.
            candidate_ids: ids of the catalogue [N].
            candidate_features: their encoded features, leading dimension N.
            unknown: encoded features, leading dimension 1, of a candidate of which nothing is known.

        Raises:
            UserError: fields or affinities are to be encoded, and the catalogue is not given or lacks them.
        """
        super().__init__()
        self._fitted = fitted
        self._ids = {
            feature.name: lookup for feature in fitted.histories if (lookup := _id_lookup(feature)) is not None
        }
        self._catalogue: VocabularyTable | None = None
        self._tables: dict[str, tf.Variable] = {}
        wanted = looked_up(fitted)
        if not wanted:
            return
        if candidate_ids is None or candidate_features is None:
            need_catalogue(wanted)
        self._catalogue = VocabularyTable(candidate_ids)
        names = [name for field in wanted for name in (field, weights_name(field)) if name in unknown]
        self._tables = {name: _table(name, candidate_features, unknown[name], len(candidate_ids)) for name in names}

    @property
    def inputs(self) -> tuple[RawInput, ...]:
        """What is read."""
        return past_inputs(self._fitted)

    def __call__(self, rows: RawRows) -> dict[str, tf.Tensor]:
        """Encode the pasts of B queries: histories [B, L], L as configured, and affinities [B, W]."""
        past = self._past(rows)
        encoded: dict[str, tf.Tensor] = {}
        for spec in self._specs():
            encoded |= self._history(spec, past)
        for feature in self._fitted.affinities:
            assert isinstance(feature.spec, AffinityFeature)
            encoded[feature.name] = self._affinity(feature.spec, past)
        return encoded

    def _specs(self) -> Iterator[HistoryFeature]:
        for feature in self._fitted.histories:
            assert isinstance(feature.spec, HistoryFeature)
            yield feature.spec

    def _past(self, rows: RawRows) -> Past:
        given = self.inputs
        beside = [raw for raw in (HISTORY_WEIGHTS, HISTORY_TIMES) if raw in given]
        ids, *others = rows.lists(HISTORY_IDS, *beside)
        of = dict(zip(beside, others, strict=True))
        times = of.get(HISTORY_TIMES)
        return Past(
            ids=ids,
            rows=None if self._catalogue is None else self._catalogue(ids.flat_values),
            weights=list_weights(ids, of.get(HISTORY_WEIGHTS)).flat_values,
            ages=_no_ages(ids.flat_values) if times is None else _ages(times, rows.column(REQUEST_TIME)),
        )

    def _history(self, spec: HistoryFeature, past: Past) -> dict[str, tf.Tensor]:
        windows_BL = windows(past.ids, spec.max_length)
        lookup = self._ids.get(spec.name)
        rows = lookup(past.ids.flat_values) if lookup is not None else _unknown_rows(past.ids.flat_values)
        encoded = {spec.name: at_windows(rows, windows_BL)}
        if spec.fields:
            rows_BL = at_windows(past.rows, windows_BL)
            names = [name for field in spec.fields for name in (field, weights_name(field)) if name in self._tables]
            encoded |= {f"{spec.name}.{name}": tf.gather(self._tables[name], rows_BL) for name in names}
        if spec.age_buckets:
            encoded[f"{spec.name}.ages"] = at_windows(_age_rows(past.ages, spec.age_buckets), windows_BL)
        if isinstance(spec.pooling, WeightedMeanPooling):
            weights = _decayed(past.weights, past.ages, spec.pooling.half_life_days)
            encoded[f"{spec.name}.weights"] = at_windows(weights, windows_BL)
        return encoded

    def _affinity(self, spec: AffinityFeature, past: Past) -> tf.Tensor:
        windows_BL = windows(past.ids, spec.max_length)
        values_BLM = tf.gather(self._tables[spec.of], at_windows(past.rows, windows_BL))
        values_BLM = values_BLM if values_BLM.shape.rank == 3 else values_BLM[:, :, None]
        return _shares(values_BLM, tf.cast(at_windows(past.weights, windows_BL), tf.float64), spec.width)


def _shares(values_BLM: tf.Tensor, weights_BL: tf.Tensor, width: int) -> tf.Tensor:
    """Shares [B, W] of each place: weights split evenly over the known values; zeros where nothing counts."""
    known_BLM = values_BLM >= FIRST_ROW
    num_known_BL = tf.reduce_sum(tf.cast(known_BLM, tf.float64), axis=2)
    each_BL = tf.math.divide_no_nan(weights_BL, num_known_BL)
    parts_BLM = tf.where(known_BLM, each_BL[:, :, None], tf.zeros([], tf.float64))
    num_rows = tf.shape(values_BLM)[0]
    places_BLM = tf.where(known_BLM, values_BLM - FIRST_ROW, 0) + width * tf.range(num_rows)[:, None, None]
    sums = tf.math.unsorted_segment_sum(tf.reshape(parts_BLM, [-1]), tf.reshape(places_BLM, [-1]), num_rows * width)
    sums_BW = tf.reshape(sums, [-1, width])
    return tf.cast(tf.math.divide_no_nan(sums_BW, tf.reduce_sum(sums_BW, axis=1, keepdims=True)), tf.float32)


def _age_rows(ages: tf.Tensor, num_buckets: int) -> tf.Tensor:
    """1 + min(floor(log2(1 + hours)), buckets - 1): bucket b begins at 3,600 (2^b - 1) seconds, exactly."""
    begins = [int(HOUR) * (2**bucket - 1) for bucket in range(1, num_buckets)]
    edges = tf.constant([begin for begin in begins if begin <= tf.int64.max], tf.int64)
    return tf.searchsorted(edges, ages, side="right") + 1


def _decayed(weights: tf.Tensor, ages: tf.Tensor, half_life_days: float | None) -> tf.Tensor:
    """Weights times 0.5^(age / half-life), in float64, rounded once."""
    if half_life_days is None:
        return weights
    factors = tf.pow(tf.constant(0.5, tf.float64), tf.cast(ages, tf.float64) / (DAY * half_life_days))
    return tf.cast(tf.cast(weights, tf.float64) * factors, tf.float32)


def _ages(times: Any, moments_B: tf.Tensor) -> tf.Tensor:
    """Seconds from each item to its request, or to the last item where the request's moment is missing."""
    newest_B = at_windows(times.flat_values, windows(times, 1))[:, 0]
    moments_B = tf.where(moments_B == MISSING_MOMENT, newest_B, moments_B)
    moments = tf.gather(moments_B, times.value_rowids())
    known = tf.logical_and(moments != MISSING_MOMENT, times.flat_values != MISSING_MOMENT)
    seconds = tf.maximum(moments - times.flat_values, 0)
    return tf.where(known, seconds, tf.zeros_like(seconds))


def _no_ages(ids: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(ids, tf.int64)


def _unknown_rows(values: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(values), UNKNOWN_ROW)


def _id_lookup(feature: FittedFeature) -> VocabularyTable | HashedRows | None:
    if feature.num_buckets is not None:
        return HashedRows(feature.num_buckets)
    return None if feature.values is None else VocabularyTable(feature.values)


def _table(name: str, candidate_features: FeatureArrays, unknown: tf.Tensor, num_candidates: int) -> tf.Variable:
    """Rows [N + 2, ...] of a candidate feature; a variable, because a graph holds 2 GB of constants at most."""
    if name not in candidate_features:
        todo = f"there are: {', '.join(candidate_features)}"
        raise UserError(f"candidate_features lacks {name!r}, which a history or an affinity looks up", todo=todo)
    known = tf.convert_to_tensor(candidate_features[name])
    if len(known) != num_candidates:
        what = f"candidate_features has {len(known)} rows of {name!r} for {num_candidates} candidate_ids"
        raise UserError(what, todo="give every candidate one row")
    # Lists are as wide as the catalogue's longest one; an unknown candidate's is empty.
    wider = [[0, have - need] for have, need in zip(known.shape[1:], unknown.shape[1:], strict=True)]
    unknown = tf.pad(unknown, [[0, 0], *wider])
    return tf.Variable(tf.concat([tf.zeros_like(unknown), unknown, known], axis=0), trainable=False)

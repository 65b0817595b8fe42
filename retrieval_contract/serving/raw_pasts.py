"""Pasts of requests: histories and affinities from raw candidate ids, weights and moments.

The arrays are those of `data.items` and `data.affinity`, over rows that the request brings along instead of the run's.
Letters: B requests, T items of all pasts, L history length, N candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from retrieval_contract.arrays import AnyArray, FeatureArrays, Float32Array, Int32Array, Int64Array
from retrieval_contract.data.affinity import Affinity
from retrieval_contract.data.encoding import weights_name
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.histories import Windows
from retrieval_contract.data.items import HistoryItems
from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_inputs import (
    HISTORY_IDS,
    HISTORY_TIMES,
    HISTORY_WEIGHTS,
    RawInput,
    looked_up,
    need_catalogue,
)
from retrieval_contract.serving.raw_rows import MISSING_MOMENT, RawRows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Items:
    """The last items of the pasts, end to end, with room behind: what `PastRows` asks for."""

    candidate_rows: Int32Array
    """Every item is a candidate of its own: 0 to T - 1, and T, of which nothing is known, in the room."""
    times: Int64Array
    """Seconds from the request to each, 0 or less."""
    weights: Float32Array


@final
class RawPasts:
    """Encodes the histories and affinities of one query tower."""

    def __init__(
        self,
        fitted: FittedFeatures,
        candidate_ids: Sequence[str] | None,
        candidate_features: FeatureArrays | None,
        unknown: FeatureArrays,
    ) -> None:
        """Build the tables of what items carry.

        Args:
            fitted: the run's fitted features.
            candidate_ids: ids of the catalogue [N].
            candidate_features: their encoded features, leading dimension N.
            unknown: encoded features, leading dimension 1, of a candidate of which nothing is known.

        Raises:
            UserError: fields or affinities are to be encoded, and the catalogue is not given or lacks them.
        """
        self._fitted = fitted
        lengths = [feature.max_length for feature in (*fitted.histories, *fitted.affinities)]
        self._room = max(lengths, default=1)
        self._row_of: dict[str, int] = {}
        self._tables: dict[str, AnyArray] = {}
        wanted = looked_up(fitted)
        if not wanted:
            return
        if candidate_ids is None or candidate_features is None:
            need_catalogue(wanted)
        self._row_of = {id_: row for row, id_ in enumerate(candidate_ids)}
        names = [name for field in wanted for name in (field, weights_name(field)) if name in unknown]
        self._tables = {name: _table(name, candidate_features, unknown[name], len(candidate_ids)) for name in names}

    def encode(self, rows: RawRows, names: dict[RawInput, str], moments_B: Int64Array) -> dict[str, AnyArray]:
        """Encode the pasts of B queries: histories [B, L], L as configured, and affinities.

        Args:
            rows: the request.
            names: of the inputs; weights and moments are read where they are among them.
            moments_B: of the requests, `MISSING_MOMENT` where one is missing.

        Raises:
            UserError: a field of another type, or lists that belong together and differ in length.
        """
        ids, lengths_B, items = self._last_items(rows, names, moments_B)
        carried = {name: np.take(table, self._rows_of(ids), axis=0) for name, table in self._tables.items()}
        nobody = [*ids, None]
        begins_B = np.cumsum(lengths_B) - lengths_B
        now_B = np.zeros(len(lengths_B), np.int64)
        encoded: dict[str, AnyArray] = {}
        for feature in self._fitted.histories:
            windows = _windows(begins_B, lengths_B, feature.max_length)
            encoded |= HistoryItems(feature, items, nobody, carried).encode(windows, now_B)
        for feature in self._fitted.affinities:
            windows = _windows(begins_B, lengths_B, feature.max_length)
            encoded[feature.name] = Affinity(feature, items, carried).encode(windows)
        return encoded

    def _rows_of(self, ids: Sequence[str | None]) -> Int64Array:
        """Table rows of some items, and of one more of which nothing is known [T + 1]."""
        unknown = len(self._row_of)
        found = (self._row_of.get(id_, unknown) for id_ in (*ids, None))  # type: ignore[arg-type]
        return np.fromiter(found, np.int64, len(ids) + 1)

    def _last_items(
        self, rows: RawRows, names: dict[RawInput, str], moments_B: Int64Array
    ) -> tuple[list[str | None], Int64Array, _Items]:
        """Ids of the items that some window may hold [T], how many each query has [B], and the items."""
        beside = [raw for raw in (HISTORY_WEIGHTS, HISTORY_TIMES) if raw in names]
        given = rows.lists(names[HISTORY_IDS], *(names[raw] for raw in beside))
        of = dict(zip(beside, given.beside, strict=True))
        ages_T = _ages(of.get(HISTORY_TIMES), given.lengths, moments_B)
        weights_T = of.get(HISTORY_WEIGHTS)
        weights_T = np.ones(len(given.values)) if weights_T is None else np.where(np.isnan(weights_T), 1, weights_T)
        lengths_B, ids = np.minimum(given.lengths, self._room), given.values
        if (lengths_B < given.lengths).any():
            kept = np.flatnonzero(_steps_back(given.lengths) < self._room)
            ids, ages_T, weights_T = [ids[place] for place in kept.tolist()], ages_T[kept], weights_T[kept]
        return ids, lengths_B, self._laid_out(ages_T, weights_T.astype(np.float32))

    def _laid_out(self, ages_T: Int64Array, weights_T: Float32Array) -> _Items:
        num_items = len(ages_T)
        return _Items(
            candidate_rows=np.minimum(np.arange(num_items + self._room), num_items).astype(np.int32),
            times=np.append(-ages_T, np.zeros(self._room, np.int64)),
            weights=np.append(weights_T, np.zeros(self._room, np.float32)),
        )


def _windows(begins_B: Int64Array, lengths_B: Int64Array, max_length: int) -> Windows:
    """Where the last items of each past lie."""
    ends_B = begins_B + lengths_B
    begins_B = np.maximum(begins_B, ends_B - max_length)
    return Windows(begins=begins_B, max_length=max_length, real=np.arange(max_length) < (ends_B - begins_B)[:, None])


def _steps_back(lengths_B: Int64Array) -> Int64Array:
    """How many items of the same past come after each [T]."""
    return np.repeat(np.cumsum(lengths_B), lengths_B) - 1 - np.arange(lengths_B.sum())


def _ages(times_T: Int64Array | None, lengths_B: Int64Array, moments_B: Int64Array) -> Int64Array:
    """Seconds from each item to its request, or to the newest item where the request's moment is missing [T]."""
    if times_T is None:
        return np.zeros(lengths_B.sum(), np.int64)
    newest_B = np.append(times_T, MISSING_MOMENT)[np.where(lengths_B > 0, np.cumsum(lengths_B) - 1, len(times_T))]
    moments_T = np.repeat(np.where(moments_B == MISSING_MOMENT, newest_B, moments_B), lengths_B)
    known_T = (moments_T != MISSING_MOMENT) & (times_T != MISSING_MOMENT)
    # Never subtracted where one is missing: the least int64 would wrap.
    return np.where(known_T, np.maximum(np.where(known_T, moments_T, 0) - np.where(known_T, times_T, 0), 0), 0)


def _table(name: str, candidate_features: FeatureArrays, unknown: AnyArray, num_candidates: int) -> AnyArray:
    """Values of a candidate feature [N + 1, ...], those of an unknown candidate last."""
    if name not in candidate_features:
        todo = f"there are: {', '.join(candidate_features)}"
        raise UserError(f"candidate_features lacks {name!r}, which a history or an affinity looks up", todo=todo)
    known = np.asarray(candidate_features[name])
    if len(known) != num_candidates:
        what = f"candidate_features has {len(known)} rows of {name!r} for {num_candidates} candidate_ids"
        raise UserError(what, todo="give every candidate one row")
    # Lists are as wide as the catalogue's longest one; an unknown candidate's is empty.
    wider = [(0, have - need) for have, need in zip(known.shape[1:], unknown.shape[1:], strict=True)]
    return np.concatenate([known, np.pad(unknown, [(0, 0), *wider])])

"""A configured run's data, ready: entities, split, fitted features, and what evaluation asks about them.

Letters: B targets or queries asked for, N candidates (the catalogue), L history length.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse

from retrieval_contract.arrays import Entities, FeatureArrays, Int32Array, Int64Array, Interactions, Split
from retrieval_contract.config import RunConfig
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.features import FittedFeatures, fit_features
from retrieval_contract.data.histories import NOBODY, Histories
from retrieval_contract.data.sources import load
from retrieval_contract.data.sources.raw import RawData, Truth
from retrieval_contract.data.split import split_interactions
from retrieval_contract.data.vocabulary import PADDING_ROW
from retrieval_contract.errors import UserError

Part = Literal["validation", "test"]
MOST_COMPARED = 20_000
"""Ids that an unknown one is compared with, so that naming the nearest takes no longer than a blink."""


def prepare(config: RunConfig, *, features_json: str | None = None) -> "PreparedData":
    """Load the configured source and make it ready for training and evaluation.

    The same config gives the same data whatever the run's seed: sources and splits are keyed by `split.seed`.

    Args:
        config: the run.
        features_json: state of fitted features (`FittedFeatures.to_json`); None fits them on the train positives.

    Raises:
        UserError: whatever is wrong with the source, its columns, the split, or features of another run.
    """
    return prepare_raw(load(config.source, seed=config.split.seed), config, features_json=features_json)


def prepare_raw(raw: RawData, config: RunConfig, *, features_json: str | None = None) -> "PreparedData":
    """Do what `prepare` does with a source already read."""
    fitted = None if features_json is None else FittedFeatures.from_json(features_json)
    if fitted is not None:
        fitted.check_fits(config)
    interactions, queries, candidates = build_entities(raw, config.positives)
    assert raw.truth is None or raw.truth.candidate_ids == candidates.ids, "truth and table differ in order"
    split = split_interactions(interactions, config.split)
    _check_parts(interactions, split, config)
    features = fit_features(config, interactions, queries, candidates, split) if fitted is None else fitted
    return PreparedData(
        interactions=interactions,
        queries=queries,
        candidates=candidates,
        split=split,
        features=features,
        truth=raw.truth,
        has_timestamps=raw.has_timestamps,
        notes=raw.notes,
    )


def _check_parts(interactions: Interactions, split: Split, config: RunConfig) -> None:
    """Make sure that there is something to train on and something to evaluate."""
    train = split.train[interactions.positive[split.train]]
    if len(train) < 2:
        raise UserError(
            f"{len(train)} train positives, and in-batch negatives need 2 or more",
            where=f"train part of {len(split.train):,} rows",
            todo="change the split or the rule of positives, or give more rows",
        )
    if not interactions.weights[train].any():
        raise UserError(
            f"all {len(train):,} train positives weigh 0",
            where=f"interactions, column {config.positives.weight_column}",
            todo="give some row a weight above 0",
        )
    part = config.evaluation.part
    held_out: Int64Array = getattr(split, part)
    if not interactions.positive[held_out].any():
        raise UserError(
            f"no positive to evaluate among {len(held_out):,} {part} rows",
            where="evaluation.part",
            todo="change the split, the rule of positives or evaluation.part",
        )


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Everything that a run knows about its data; arrays are computed when first asked for and kept."""

    interactions: Interactions
    """All rows."""
    queries: Entities
    """All queries."""
    candidates: Entities
    """The catalogue."""
    split: Split
    """Which rows train, validate, test."""
    features: FittedFeatures
    """Fitted inputs of both towers."""
    truth: Truth | None
    """The true probabilities where the source knows them, columns in the order of `candidates`."""
    has_timestamps: bool
    """False where times are only an order."""
    notes: tuple[str, ...]
    """Lines for the report's reader."""

    # ------------------------------------------------------------ training rows

    @cached_property
    def train_positives(self) -> Int64Array:
        """Places in `interactions` of the training examples [T], ascending."""
        return self._positives_of("train")

    @cached_property
    def histories(self) -> Histories:
        """Histories over the train positives, the only rows that any history holds."""
        train, rows = self.train_positives, self.interactions
        return Histories(
            rows.query_rows[train], rows.candidate_rows[train], rows.times[train], num_queries=len(self.queries.ids)
        )

    def candidate_counts(self) -> Int64Array:
        """Train positives of each candidate [N], unweighted."""
        return np.bincount(self.interactions.candidate_rows[self.train_positives], minlength=len(self.candidates.ids))

    def known_positives(self) -> scipy.sparse.csr_matrix:
        """True where the query met the candidate as a train positive [num queries, N]; read only."""
        return self._known_positives

    @cached_property
    def _known_positives(self) -> scipy.sparse.csr_matrix:
        return self._matrix(self._pairs(self.train_positives))

    # ------------------------------------------------------------ features

    def candidate_features(self) -> FeatureArrays:
        """Encoded features of the whole catalogue, leading dimension N."""
        return self._encoded_candidates

    def query_features(self, query_rows: Int32Array, times: Int64Array | None) -> FeatureArrays:
        """Encoded features of some queries, leading dimension B, in the config's order.

        Args:
            query_rows: entity rows [B], repeated as may be.
            times: moments [B] that histories end before, for evaluation; None lets them hold every train positive, for
                recommending now.

        Returns:
            Features by name. A query without a history has all padding there.
        """
        if not self.features.histories:
            return self.query_features_at(query_rows, None)
        ends = self.histories.ends(query_rows) if times is None else self.histories.ends_before(query_rows, times)
        return self.query_features_at(query_rows, ends)

    def query_features_at(self, query_rows: Int32Array, history_ends: Int64Array | None) -> FeatureArrays:
        """Encoded features of some queries whose histories end at known places (`Histories.ends_before`) [B].

        The places may be None where no feature is a history: sorting all rows is then not paid for.
        """
        encoded = {name: np.take(values, query_rows, axis=0) for name, values in self._encoded_queries.items()}
        for feature in self.features.histories:
            assert history_ends is not None
            history_BL = self.histories.window(query_rows, history_ends, feature.max_length)
            encoded[feature.name] = self._history_rows[feature.name][history_BL]
        return {feature.name: encoded[feature.name] for feature in self.features.query}

    @cached_property
    def _encoded_queries(self) -> FeatureArrays:
        return self.features.encode_entities("query", self.queries)

    @cached_property
    def _encoded_candidates(self) -> FeatureArrays:
        return self.features.encode_entities("candidate", self.candidates)

    @cached_property
    def _history_rows(self) -> dict[str, Int32Array]:
        """Vocabulary row of each candidate [N + 1] by history feature; the last place is what row -1 looks up."""
        assert NOBODY == -1
        ids = pa.array(self.candidates.ids, pa.string())
        return {
            feature.name: np.append(feature.vocabulary.encode(ids), np.int32(PADDING_ROW))
            for feature in self.features.histories
        }

    # ------------------------------------------------------------ evaluation

    def held_out_rows(self, part: Part) -> tuple[Int32Array, Int32Array]:
        """Query and candidate rows of the part's positives, in source order, duplicates kept."""
        held_out = self._positives_of(part)
        return self.interactions.query_rows[held_out], self.interactions.candidate_rows[held_out]

    def evaluation_times(self, part: Part) -> tuple[Int32Array, Int64Array]:
        """The queries to evaluate and the moment each is asked at.

        Returns:
            Entity rows of queries with a held-out positive, ascending, and the time of each one's earliest.
        """
        held_out = self._positives_of(part)
        rows, times = self.interactions.query_rows[held_out], self.interactions.times[held_out]
        order = np.lexsort((times, rows))
        query_rows, first = np.unique(rows[order], return_index=True)
        return query_rows, times[order][first]

    def seen(self) -> scipy.sparse.csr_matrix:
        """True where the query met the candidate in a train row, positive or not [num queries, N]; read only."""
        return self._seen

    @cached_property
    def _seen(self) -> scipy.sparse.csr_matrix:
        return self._matrix(self._pairs(self.split.train))

    def relevant(self, part: Part, *, exclude_seen: bool) -> scipy.sparse.csr_matrix:
        """True where the candidate is a held-out positive of the query [num queries, N].

        Args:
            part: which held-out rows.
            exclude_seen: leave out what the query met in a train row, as the ranking then does.

        Returns:
            Duplicates counted once, rows sorted; a query may be left with nothing.
        """
        pairs = self._pairs(self._positives_of(part))
        if exclude_seen:
            pairs = np.setdiff1d(pairs, self._pairs(self.split.train), assume_unique=True)
        return self._matrix(pairs)

    def _positives_of(self, part: Literal["train", "validation", "test"]) -> Int64Array:
        places: Int64Array = getattr(self.split, part)
        return places[self.interactions.positive[places]]

    def _pairs(self, places: Int64Array) -> Int64Array:
        """Distinct (query, candidate) of some rows as one number each, ascending."""
        rows = self.interactions
        pairs = rows.query_rows[places].astype(np.int64) * len(self.candidates.ids) + rows.candidate_rows[places]
        # Not np.unique: its hash table takes several times as long as sorting.
        pairs.sort()
        return pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]

    def _matrix(self, pairs: Int64Array) -> scipy.sparse.csr_matrix:
        num_queries, num_candidates = len(self.queries.ids), len(self.candidates.ids)
        query_rows, candidate_rows = np.divmod(pairs, num_candidates)
        starts = np.concatenate([[0], np.cumsum(np.bincount(query_rows, minlength=num_queries))])
        values = np.ones(len(pairs), np.bool_)
        return scipy.sparse.csr_matrix((values, candidate_rows, starts), shape=(num_queries, num_candidates))

    # ------------------------------------------------------------ ids and titles

    @cached_property
    def titles(self) -> tuple[str, ...] | None:
        """Candidate titles [N], empty where one is missing; None where the table has none."""
        if "title" not in self.candidates.table.column_names:
            return None
        return tuple(pc.fill_null(pc.cast(self.candidates.table.column("title"), pa.string()), "").to_pylist())

    def query_rows_of(self, ids: Sequence[str]) -> Int32Array:
        """Entity rows of queries by raw id [B].

        Raises:
            UserError: an id that is none of the data set's; the nearest are named.
        """
        rows = pc.index_in(pa.array(ids, pa.string()), value_set=pa.array(self.queries.ids, pa.string()))
        unknown = np.flatnonzero(pc.is_null(rows).to_numpy(zero_copy_only=False))
        if unknown.size:
            wrong = ids[int(unknown[0])]
            more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
            raise UserError(
                f"unknown query id {wrong!r}{more}",
                where=f"{len(self.queries.ids):,} queries",
                todo=f"nearest: {', '.join(self._nearest_queries(wrong))}",
            )
        return rows.to_numpy(zero_copy_only=False).astype(np.int32)

    def _nearest_queries(self, wrong: str) -> list[str]:
        alike = (known for known in self.queries.ids if abs(len(known) - len(wrong)) <= 1)
        close = difflib.get_close_matches(wrong, list(islice(alike, MOST_COMPARED)), n=3, cutoff=0.3)
        return close or list(self.queries.ids[:3])

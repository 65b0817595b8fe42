"""Everything that a run knows about its data, and what evaluation asks about it.

Letters: B targets or queries asked for, N candidates (the catalogue), T train positives.
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

from retrieval_contract.arrays import AnyArray, Entities, FeatureArrays, Int32Array, Int64Array, Interactions, Split
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.histories import Histories
from retrieval_contract.data.past import Past
from retrieval_contract.data.requests import CONTEXT, Requests
from retrieval_contract.data.sources.raw import Truth
from retrieval_contract.errors import UserError

Part = Literal["validation", "test"]
MOST_COMPARED = 20_000
"""Ids that an unknown one is compared with, so that naming the nearest takes no longer than a blink."""


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
    known: Literal["train", "train_and_validation"] = "train"
    """Rows that queries are known by when test rows are asked about."""
    data_dir: str = ""
    """Folder that files of features are relative to."""

    # ------------------------------------------------------------ training rows

    @cached_property
    def train_positives(self) -> Int64Array:
        """Places in `interactions` of the training examples [T], ascending."""
        return self._positives_of("train")

    @property
    def histories(self) -> Histories:
        """Histories over the train positives, the only rows that any history of training holds."""
        return self.past(None).rows

    def past(self, part: Part | None) -> Past:
        """Positives that queries are known by when a part's rows are asked about (`known`); train ones for None."""
        return self._test_past if self.knows_validation(part) else self._train_past

    @cached_property
    def _train_past(self) -> Past:
        return self._past_of(self.train_positives)

    @cached_property
    def _test_past(self) -> Past:
        return self._past_of(self.known_positive_rows("test"))

    def _past_of(self, places: Int64Array) -> Past:
        return Past(
            self.features,
            self.interactions,
            places,
            num_queries=len(self.queries.ids),
            candidate_ids=self.candidates.ids,
            catalogue=self.candidate_features(),
        )

    def known_positive_rows(self, part: Part | None) -> Int64Array:
        """Places in `interactions` of the positives that queries are known by [any], ascending."""
        return self._positive(self._known_rows(part))

    def knows_validation(self, part: Part | None) -> bool:
        """True where validation rows are known when a part's rows are asked about."""
        return part == "test" and self.known == "train_and_validation"

    def _known_rows(self, part: Part | None) -> Int64Array:
        """Places of the rows, positive or not, that queries are known by [any], ascending."""
        if not self.knows_validation(part):
            return self.split.train
        return np.sort(np.concatenate([self.split.train, self.split.validation]))

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

    def query_features(
        self,
        query_rows: Int32Array,
        times: Int64Array | None,
        requests: Int64Array | None = None,
        *,
        part: Part | None = None,
    ) -> dict[str, AnyArray]:
        """Encoded features of some queries, leading dimension B, in the config's order.

        Args:
            query_rows: entity rows [B], repeated as may be.
            times: moments [B] that histories end before, for evaluation; None lets them hold every known row, for
                recommending now, which is the time of the last known row.
            requests: places in `interactions` whose request is each query's [B]; None knows nothing of the requests but
                their times.
            part: whose rows are asked about, which decides what is known (`known`); None knows train rows.

        Returns:
            Features by name, the context tower's with the prefix `context.` behind the query's. A query without a
            history has all padding there.
        """
        if not self.reads_past:
            return self.query_features_at(query_rows, None, times, requests)
        past = self.past(part)
        ends = past.rows.ends(query_rows) if times is None else past.rows.ends_before(query_rows, times)
        return self.query_features_at(query_rows, ends, times, requests, past=past)

    @property
    def reads_past(self) -> bool:
        """True where a feature is read from rows before the target."""
        return bool(self.features.histories or self.features.affinities)

    def query_features_at(
        self,
        query_rows: Int32Array,
        ends: Int64Array | None,
        times: Int64Array | None,
        requests: Int64Array | None,
        *,
        past: Past | None = None,
        longest: int | None = None,
    ) -> dict[str, AnyArray]:
        """Do what `query_features` does for pasts that end at known places.

        Args:
            query_rows: entity rows [B].
            ends: from `Histories.ends_before` or `ends` [B]; may be None where nothing is read from the past: sorting
                all rows is then not paid for.
            times: moments [B], or None for now.
            requests: places in `interactions` [B], or None.
            past: what is known; None knows train rows.
            longest: length of the histories instead of the configured one.
        """
        encoded = {name: np.take(values, query_rows, axis=0) for name, values in self._encoded_queries.items()}
        if requests is None:
            encoded |= self._requests.unknown(query_rows, times)
        else:
            encoded |= self._requests.known(requests)
        if self.reads_past:
            assert ends is not None
            known = past or self.past(None)
            moments = np.full(len(query_rows), known.rows.last_time) if times is None else times
            encoded |= known.encode(query_rows, ends, moments, longest=longest)
        return {name: encoded[name] for name in self._query_order(tuple(encoded))}

    def _query_order(self, names: tuple[str, ...]) -> list[str]:
        """Names in the config's order, what belongs to a feature behind it, the context tower's last."""
        if names not in self._orders:
            places = {feature.name: place for place, feature in enumerate(self.features.query)}
            places[CONTEXT[:-1]] = len(places)
            self._orders[names] = sorted(names, key=lambda name: places[name.partition(".")[0]])
        return self._orders[names]

    @cached_property
    def _orders(self) -> dict[tuple[str, ...], list[str]]:
        """Orders found already: every batch asks."""
        return {}

    @cached_property
    def _requests(self) -> Requests:
        return Requests(self.features, self.interactions, self._encoded_queries)

    def candidate_features(self) -> FeatureArrays:
        """Encoded features of the whole catalogue, leading dimension N."""
        return self._encoded_candidates

    @cached_property
    def _encoded_queries(self) -> FeatureArrays:
        return self.features.encode_entities("query", self.queries, data_dir=self.data_dir)

    @cached_property
    def _encoded_candidates(self) -> FeatureArrays:
        return self.features.encode_entities("candidate", self.candidates, data_dir=self.data_dir)

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
        places = self.evaluation_requests(part)
        return self.interactions.query_rows[places], self.interactions.times[places]

    def evaluation_requests(self, part: Part) -> Int64Array:
        """Place in `interactions` of each evaluated query's earliest held-out positive, by ascending query.

        Its request is the one that the query is asked with; of several in one moment it is the source's first.
        """
        held_out = self._positives_of(part)
        rows, times = self.interactions.query_rows[held_out], self.interactions.times[held_out]
        order = np.lexsort((times, rows))
        _, first = np.unique(rows[order], return_index=True)
        return held_out[order][first]

    def seen(self, part: Part | None = None) -> scipy.sparse.csr_matrix:
        """True where the query met the candidate in a known row, positive or not [num queries, N]; read only.

        Args:
            part: whose rows are asked about, which decides what is known (`known`); None knows train rows.
        """
        return self._seen_by_test if self.knows_validation(part) else self._seen

    @cached_property
    def _seen(self) -> scipy.sparse.csr_matrix:
        return self._matrix(self._pairs(self.split.train))

    @cached_property
    def _seen_by_test(self) -> scipy.sparse.csr_matrix:
        return self._matrix(self._pairs(self._known_rows("test")))

    def relevant(self, part: Part, *, exclude_seen: bool) -> scipy.sparse.csr_matrix:
        """True where the candidate is a held-out positive of the query [num queries, N].

        Args:
            part: which held-out rows.
            exclude_seen: leave out what the query met in a known row, as the ranking then does.

        Returns:
            Duplicates counted once, rows sorted; a query may be left with nothing.
        """
        pairs = self._pairs(self._positives_of(part))
        if exclude_seen:
            pairs = np.setdiff1d(pairs, self._pairs(self._known_rows(part)), assume_unique=True)
        return self._matrix(pairs)

    def _positives_of(self, part: Literal["train", "validation", "test"]) -> Int64Array:
        places: Int64Array = getattr(self.split, part)
        return self._positive(places)

    def _positive(self, places: Int64Array) -> Int64Array:
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

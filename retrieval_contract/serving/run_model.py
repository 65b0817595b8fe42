"""A finished run as a served model: its towers, its index, and what its data says of queries and candidates.

Letters: B queries, N candidates, D width, I interests, K results.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array
from retrieval_contract.data.sources.raw import QUERY_ID
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Attributes, Filter
from retrieval_contract.indexes.live_state import Found
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.serving.model import Changeable, Columns, Searcher
from retrieval_contract.serving.raw_features import RawCandidateEncoder, RawQueryEncoder
from retrieval_contract.serving.searchers import IndexSearcher, LiveSearcher


@final
class RunModel:
    """`serving.model.ServedModel` of an opened run and an index of its candidates."""

    def __init__(
        self, opened: OpenedRun, index: Index, *, shown: Sequence[str] | None = None, live: LiveSearcher | None = None
    ) -> None:
        """Put them together.

        Args:
            opened: the run.
            index: of its candidates, by its weights; the big one of `live` where candidates change.
            shown: columns of the candidates' table that answers show; None means the title, where there is one.
            live: what searches in place of the index, since its candidates change; None where they do not.

        Raises:
            UserError: the index is of other weights or attributes or of another catalogue, or a column to show is not
                there.
        """
        prepared = opened.prepared
        self._filterable = opened.attributes()
        _check_index(index, opened, self._filterable, same_catalogue=live is None)
        self.weights_digest, self.dim = opened.weights_digest, opened.config.vector_dim
        self.num_interests, self.num_queries = opened.config.num_interests, len(prepared.queries.ids)
        self._opened, self._queries = (
            opened,
            RawQueryEncoder(
                prepared.features,
                candidate_ids=prepared.candidates.ids,
                candidate_features=prepared.candidate_features(),
            ),
        )
        self._candidates = RawCandidateEncoder(prepared.features)
        self.query_inputs, self.candidate_inputs = self._queries.inputs, self._candidates.inputs
        self.attributes = index.attributes.names
        self._row_of_query = {id_: row for row, id_ in enumerate(prepared.queries.ids)}
        self._row_of = {id_: row for row, id_ in enumerate(prepared.candidates.ids)}
        self.changeable: Changeable | None = live
        self.searcher: Searcher = IndexSearcher(index, row_of=self._row_of) if live is None else live
        self._id_input = next((name for name, raw in self.query_inputs.items() if raw.column == QUERY_ID), None)
        self._shown = _columns(opened, shown)
        self._counts = prepared.candidate_counts()
        self._by_popularity = np.lexsort((np.arange(len(self._counts)), -self._counts))
        seen = prepared.seen()
        self._seen_starts, self._seen_rows = seen.indptr, seen.indices

    def encode_queries(self, columns: Columns, num_rows: int) -> tuple[Float32Array, BoolArray]:
        """Vectors of queries given by features, and which of them name a query that the run's data knows.

        Raises:
            UserError: as `RawQueryEncoder.encode`.
        """
        encoded = self._queries.encode(columns, num_rows=num_rows)
        ids = columns.get(self._id_input, ()) if self._id_input is not None else ()
        known_B = np.zeros(num_rows, np.bool_)
        for row, id_ in enumerate(ids):
            known_B[row] = id_ is not None and self.query_row(_text(id_)) is not None
        return self._opened.encoders.encode_queries(encoded), known_B

    def encode_known(self, query_rows: Sequence[int]) -> Float32Array:
        """Vectors of queries as they stand after all train rows."""
        return self._opened.query_vectors(np.asarray(query_rows, np.int32))

    def query_row(self, query_id: str) -> int | None:
        """Entity row of a query of the run's data."""
        return self._row_of_query.get(query_id)

    def seen(self, query_row: int) -> Sequence[str]:
        """Candidates that the query met in training."""
        ids = self._opened.prepared.candidates.ids
        rows = self._seen_rows[self._seen_starts[query_row] : self._seen_starts[query_row + 1]]
        return [ids[row] for row in rows.tolist()]

    def encode_candidates(self, columns: Columns, num_rows: int) -> Float32Array:
        """Vectors of candidates given by features.

        Raises:
            UserError: as `RawCandidateEncoder.encode`.
        """
        return self._opened.encoders.encode_candidates(self._candidates.encode(columns, num_rows=num_rows))

    def popular(self, k: int, excluded_ids: Sequence[str], wanted: Filter | None) -> Found:
        """Candidates of the run's data by their train positives, ties by the smaller row; removed ones are left out."""
        rows_N = self._by_popularity
        if wanted is not None:
            rows_N = rows_N[self._filterable.allowed(wanted)[rows_N]]
        ids, excluded = self._opened.prepared.candidates.ids, frozenset(excluded_ids)
        found: list[str] = []
        scores = np.full((1, k), -np.inf, np.float32)
        for row in rows_N:
            if len(found) == k:
                break
            if ids[row] not in excluded and ids[row] in self.searcher:
                scores[0, len(found)] = self._counts[row]
                found.append(ids[row])
        return Found(ids=[found + [""] * (k - len(found))], scores=scores)

    def fields(self, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Columns to show; nothing of candidates that came by updates."""
        rows = [self._row_of.get(id_) for id_ in ids]
        return [
            {} if row is None else {name: column[row].as_py() for name, column in self._shown.items()} for row in rows
        ]

    def close(self) -> None:
        """Take no more changes."""
        if self.changeable is not None:
            self.changeable.close()


def _check_index(index: Index, opened: OpenedRun, filterable: Attributes, *, same_catalogue: bool) -> None:
    if index.weights_digest != opened.weights_digest:
        where = f"index {index.weights_digest[:12]}, weights {opened.weights_digest[:12]}"
        raise UserError("the index was built from other weights", where=where, todo="build it again")
    if index.attributes.names != filterable.names:
        where = f"index {list(index.attributes.names)}, configuration {list(filterable.names)}"
        raise UserError("the index was built for other index.attributes", where=where, todo="build it again")
    if same_catalogue and index.ids != opened.prepared.candidates.ids:
        where = f"index {len(index.ids):,}, data {len(opened.prepared.candidates.ids):,} candidates"
        raise UserError("the index holds other candidates than the data", where=where, todo="build it again")


def _columns(opened: OpenedRun, shown: Sequence[str] | None) -> dict[str, Any]:
    """Columns to show, each in one piece, so that a row is found at once."""
    table = opened.prepared.candidates.table
    names = [name for name in ("title",) if name in table.column_names] if shown is None else shown
    for name in names:
        if name not in table.column_names:
            todo = f"there are: {', '.join(table.column_names)}"
            raise UserError(f"candidates have no column {name!r} to show", where="--fields", todo=todo)
    return {name: table.column(name).combine_chunks() for name in names}


def _text(value: Any) -> str:
    """An id as raw features may have it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

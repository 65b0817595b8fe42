"""Vectors of known queries and an index of candidates as a served model: no towers, no data, no workdir.

For measurements of the server itself, at any size, and for vectors that come from elsewhere. Letters: Q known queries,
D width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Filter
from retrieval_contract.indexes.live_state import Found
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.serving.model import Changeable, Columns, Searcher
from retrieval_contract.serving.raw_inputs import RawInput
from retrieval_contract.serving.searchers import IndexSearcher

NO_TOWERS = "the server has vectors alone, and no towers"


@final
class VectorModel:
    """`serving.model.ServedModel` of vectors."""

    def __init__(self, query_ids: Sequence[str], query_vectors: Float32Array, index: Index) -> None:
        """Take the vectors as they are.

        Args:
            query_ids: of the known queries [Q].
            query_vectors: [Q, D].
            index: of the candidates.
        """
        assert query_vectors.shape == (len(query_ids), index.dim), "one vector of the index's width a query"
        self.weights_digest, self.dim, self.num_interests = index.weights_digest, index.dim, 1
        self.num_queries, self.attributes = len(query_ids), index.attributes.names
        self.query_inputs: Mapping[str, RawInput] = {"query_id": RawInput("query_id", "text")}
        self.candidate_inputs: Mapping[str, RawInput] = {}
        self.searcher: Searcher = IndexSearcher(index)
        self.changeable: Changeable | None = None
        self._query_vectors, self._row_of = query_vectors, {id_: row for row, id_ in enumerate(query_ids)}

    def encode_queries(self, columns: Columns, num_rows: int) -> tuple[Float32Array, BoolArray]:
        """Vectors of known queries; zeros for others."""
        vectors, known = np.zeros((num_rows, self.dim), np.float32), np.zeros(num_rows, np.bool_)
        for place, id_ in enumerate(columns.get("query_id", ())):
            row = self.query_row(str(id_))
            if row is not None:
                vectors[place], known[place] = self._query_vectors[row], True
        return vectors, known

    def encode_known(self, query_rows: Sequence[int]) -> Float32Array:
        """Vectors by row."""
        return self._query_vectors[np.asarray(query_rows, np.int64)]

    def query_row(self, query_id: str) -> int | None:
        """Row of a known query."""
        return self._row_of.get(query_id)

    def seen(self, query_row: int) -> Sequence[str]:
        """Nothing is known of what queries have met."""
        return ()

    def encode_candidates(self, columns: Columns, num_rows: int) -> Float32Array:
        """Refused, but for the one candidate without features that warms a version up."""
        if columns:
            raise UserError(NO_TOWERS, where="features", todo="give vectors")
        return np.zeros((num_rows, self.dim), np.float32)

    def popular(self, k: int, excluded_ids: Sequence[str], wanted: Filter | None) -> Found:
        """Nobody knows what is popular: no results."""
        return Found(ids=[[""] * k], scores=np.full((1, k), -np.inf, np.float32))

    def fields(self, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Nothing is shown."""
        return [{} for _ in ids]

    def close(self) -> None:
        """Nothing is held that others may want."""

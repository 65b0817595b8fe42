"""An index as the server sees it: ids in, ids out.

Letters: B queries, N candidates, K results.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, final

import numpy as np

from retrieval_contract.arrays import Float32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Filter
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.live_state import Found
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.serving.refusal import Refusal

MANY_PENDING = 5_000
"""Changes that are searched beside the big index, at most, before they are moved into it."""


@final
class IndexSearcher:
    """Searches an index that does not change (`serving.model.Searcher`)."""

    def __init__(self, index: Index, *, row_of: Mapping[str, int] | None = None) -> None:
        """Put ids and rows together.

        Args:
            index: the candidates.
            row_of: the row of every id, where somebody has it already: of a million it takes 100 MB.
        """
        self._index = index
        # An array of objects, so that the ids of many rows are taken at once; the last is that of row -1.
        self._ids = np.array([*index.ids, ""], object)
        self._row_of = {id_: row for row, id_ in enumerate(index.ids)} if row_of is None else row_of

    @property
    def size(self) -> int:
        """Candidates N."""
        return self._index.size

    def __contains__(self, id_: str) -> bool:
        return id_ in self._row_of

    def search(
        self,
        queries: Float32Array,
        k: int,
        *,
        excluded_ids: Sequence[Sequence[str]] | None,
        filters: Sequence[Filter | None] | None,
    ) -> Found:
        """Find the best K of each query; ids that are no candidate's exclude nothing.

        Raises:
            UserError: as `Index.search`.
        """
        excluded = None if excluded_ids is None else [self._rows(ids) for ids in excluded_ids]
        top: TopK = self._index.search(
            queries, k, weights_digest=self._index.weights_digest, excluded=excluded, filters=filters
        )
        return Found(ids=self._ids[top.rows].tolist(), scores=top.scores)

    def _rows(self, ids: Sequence[str]) -> np.ndarray:
        rows = (self._row_of.get(id_) for id_ in ids)
        return np.fromiter((row for row in rows if row is not None), np.int32)


@final
class LiveSearcher:
    """Searches and changes a live index (`serving.model.Changeable`)."""

    def __init__(self, live: LiveIndex, *, many_pending: int = MANY_PENDING) -> None:
        """Take an open index.

        Args:
            live: closed by `close`.
            many_pending: changes from which on `tidy` moves them.
        """
        self._live, self._many_pending = live, many_pending
        self._digest = live.index.weights_digest
        self._closed = False

    @property
    def size(self) -> int:
        """Candidates N."""
        return self._live.size

    def __contains__(self, id_: str) -> bool:
        return id_ in self._live

    def search(
        self,
        queries: Float32Array,
        k: int,
        *,
        excluded_ids: Sequence[Sequence[str]] | None,
        filters: Sequence[Filter | None] | None,
    ) -> Found:
        """Find the best K of each query.

        Raises:
            UserError: as `LiveIndex.search`.
        """
        return self._live.search(queries, k, weights_digest=self._digest, excluded_ids=excluded_ids, filters=filters)

    def put(
        self, ids: Sequence[str], vectors: Float32Array, attributes: Mapping[str, Sequence[Any]] | None
    ) -> tuple[int, int]:
        """Add candidates, or replace those that are there, all or none (`Changeable.put`)."""
        self._check_open()
        if not np.isfinite(vectors).all():
            raise UserError("vectors hold NaN or infinity", where="candidates", todo="look at their features")
        there = [id_ in self._live for id_ in ids]
        self._live.put(ids, vectors, attributes)
        return there.count(False), self._live.size

    def drop(self, ids: Sequence[str]) -> tuple[list[str], int]:
        """Remove candidates (`Changeable.drop`)."""
        self._check_open()
        present = [id_ for id_ in ids if id_ in self._live]
        if present:
            self._live.remove(present)
        return [id_ for id_ in ids if id_ not in set(present)], self._live.size

    def tidy(self) -> None:
        """Move changes into the big index, where there are many."""
        if not self._closed and self._live.num_pending >= self._many_pending:
            self._live.rebalance()

    def close(self) -> None:
        """Take no more changes, so that another process can; called by the thread that changes."""
        self._closed = True
        self._live.close()

    def _check_open(self) -> None:
        if self._closed:
            what = "another version answers by now; send it again, to that one"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, what, headers={"Retry-After": "1"})

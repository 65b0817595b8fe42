"""An index as the server sees it: ids in, ids out.

Letters: B queries, N candidates, K results.
"""

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from retrieval_contract.arrays import Float32Array, TopK
from retrieval_contract.indexes.attributes import Filter
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.serving.model import Found


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

"""A model whose answers are known by construction, for tests of everything around it.

Query `u3` has the vector e_3, unknown ones the sum of what is given; candidate `c5` scores 5 / 8 for everybody, plus 1
where its number has the query's remainder by 4. No framework, no data, no disk.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_contract import config
from retrieval_contract.arrays import BoolArray, Float32Array, Vectors
from retrieval_contract.indexes.attributes import Attributes, Filter
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.live_state import Found
from retrieval_contract.serving.model import Columns, Version
from retrieval_contract.serving.raw_inputs import RawInput
from retrieval_contract.serving.raw_rows import RawRows
from retrieval_contract.serving.searchers import IndexSearcher, LiveSearcher

DIM = 5
"""Four tastes, and what everybody likes."""


class PlantedModel:
    """`serving.model.ServedModel` with `num_candidates` candidates; every second one is red, the others blue."""

    weights_digest = "0" * 64
    dim = DIM
    num_interests = 1
    attributes = ("colour",)

    def __init__(
        self, num_candidates: int = 40, *, first: int = 0, num_queries: int = 20, live: Path | None = None
    ) -> None:
        """Plant it.

        Args:
            num_candidates: N.
            first: number of the first candidate: ids are `c<first>` onwards, so that versions can be told apart.
            num_queries: known queries.
            live: folder of an index that takes updates, begun where it is not there; None takes none.
        """
        self.query_inputs = {
            "query_id": RawInput("query_id", "text"),
            "age": RawInput("age", "number"),
            "likes": RawInput("likes", "texts"),
        }
        self.candidate_inputs = {"taste": RawInput("taste", "number"), "colour": RawInput("colour", "text")}
        self._numbers = [first + place for place in range(num_candidates)]
        self._ids = tuple(f"c{number}" for number in self._numbers)
        self._colours = ["blue" if number % 2 else "red" for number in self._numbers]
        self.num_queries = num_queries
        values_ND = np.zeros((num_candidates, DIM), np.float32)
        values_ND[np.arange(num_candidates), np.array(self._numbers) % 4] = 1
        values_ND[:, 4] = np.arange(num_candidates) / 8
        self.table = Attributes(pa.table({"colour": self._colours}))
        vectors = Vectors(ids=self._ids, values=values_ND, weights_digest=self.weights_digest)
        index = ExactIndex.build(vectors, config.Index(), self.table)
        self.changeable = None
        self.searcher: Any = IndexSearcher(index)
        if live is not None:
            if not live.exists():
                index.save(live)
            self.searcher = self.changeable = LiveSearcher(LiveIndex.open(live, ExactIndex), many_pending=8)

    def encode_queries(self, columns: Columns, num_rows: int) -> tuple[Float32Array, BoolArray]:
        """The query's own vector where its id is known; else [0, 0, 0, 0, age], zeros without an age."""
        rows = RawRows(self.query_inputs, columns, num_rows=num_rows)
        rows.lists("likes")
        vectors, known = np.zeros((num_rows, DIM), np.float32), np.zeros(num_rows, np.bool_)
        vectors[:, 4] = np.nan_to_num(rows.numbers("age")).clip(-1e9, 1e9)
        for row, query_id in enumerate(rows.texts("query_id")):
            number = self.query_row(query_id)
            if number is not None:
                vectors[row], known[row] = self.encode_known([number])[0], True
        return vectors, known

    def encode_known(self, query_rows: Sequence[int]) -> Float32Array:
        """One taste, and a little of what everybody likes; row 0 is of no taste at all."""
        vectors = np.zeros((len(query_rows), DIM), np.float32)
        for place, row in enumerate(query_rows):
            if row:
                vectors[place, row % 4], vectors[place, 4] = 1, 1
        return vectors

    def query_row(self, query_id: str | None) -> int | None:
        """The number behind the `u`."""
        known = query_id is not None and query_id[:1] == "u" and query_id[1:].isdecimal()
        row = int(query_id[1:]) if known and query_id is not None else self.num_queries
        return row if row < self.num_queries else None

    def seen(self, query_row: int) -> Sequence[str]:
        """The last three candidates."""
        return self._ids[-3:]

    def encode_candidates(self, columns: Columns, num_rows: int) -> Float32Array:
        """The taste that is given; 100 in what everybody likes."""
        rows = RawRows(self.candidate_inputs, columns, num_rows=num_rows)
        rows.texts("colour")
        vectors = np.zeros((num_rows, DIM), np.float32)
        tastes = np.nan_to_num(rows.numbers("taste")).clip(-1e9, 1e9)
        vectors[np.arange(num_rows), tastes.astype(int) % 4], vectors[:, 4] = 1, 100
        return vectors

    def popular(self, k: int, excluded_ids: Sequence[str], wanted: Filter | None) -> Found:
        """The first candidates are the most popular."""
        allowed_N = np.ones(len(self._ids), np.bool_) if wanted is None else self.table.allowed(wanted)
        there = [id_ for id_, allowed in zip(self._ids, allowed_N, strict=True) if allowed and id_ in self.searcher]
        ids = [id_ for id_ in there if id_ not in excluded_ids]
        ids = [*ids, *[""] * k][:k]
        scores = [1000.0 - place if id_ else -np.inf for place, id_ in enumerate(ids)]
        return Found(ids=[ids], scores=np.array([scores], np.float32))

    def fields(self, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """A title."""
        return [{"title": f"Title of {id_}"} if id_ in self._ids else {} for id_ in ids]

    def close(self) -> None:
        """Take no more changes."""
        if self.changeable is not None:
            self.changeable.close()


def planted_version(number: int = 1, **how: Any) -> Version:
    """A planted model under a number."""
    return Version(number=number, model=PlantedModel(**how))

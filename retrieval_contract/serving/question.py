"""What a request asks of a version, once its message has been understood, and what it gets.

Letters: B queries, D width, I interests, K results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from retrieval_contract.arrays import Float32Array
from retrieval_contract.indexes.attributes import Filter
from retrieval_contract.serving.model import Columns, Version
from retrieval_contract.serving.signatures import Operation

Source = Literal["query", "content", "popularity"]
"""What an answer rests on: a query that the version knows; what is given of one that it does not know, or what all
queries share; or, where the vector of that is zero, the candidates' popularity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """B queries or candidates of one request; each of them is given by one of `columns`, `query_rows`, `vectors`."""

    version: Version
    operation: Operation
    num_rows: int
    """B."""
    columns: Columns | None = None
    """Raw features."""
    query_rows: Sequence[int] | None = None
    """Rows of known queries."""
    vectors: Float32Array | None = None
    """Query vectors [B, D] or [B, I, D]."""
    k: int = 0
    """Results for each, where candidates are searched for."""
    excluded: Sequence[Sequence[str]] | None = None
    """Ids not to return, for each query."""
    filters: Sequence[Filter | None] | None = None
    """What candidates must be, for each query."""
    falls_back: bool = False
    """Answer by popularity where a query's vector is zero."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a question gets: ids and scores, or vectors."""

    ids: list[list[str]] | None = None
    """[B, K], "" where there are fewer."""
    scores: Float32Array | None = None
    """[B, K], -inf where there are fewer."""
    vectors: Float32Array | None = None
    """[B, D] or [B, I, D]."""
    sources: list[Source] | None = None
    """What each query's answer rests on."""
    encode_ms: float = 0.0
    """Time of the encoder calls that it took part in."""
    search_ms: float = 0.0
    """Time of the search that it took part in."""

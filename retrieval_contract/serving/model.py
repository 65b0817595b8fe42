"""What the server needs of a model: everything that answers a request, frozen under one version's number.

A request holds on to the model that it began with, so tower, index and fields always belong together; what a version
has read from disk, or a benchmark has planted, is behind these protocols.

Letters: B queries, D width, I interests, K results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from retrieval_contract.arrays import BoolArray, Float32Array
from retrieval_contract.indexes.attributes import Filter
from retrieval_contract.indexes.live_state import Found
from retrieval_contract.serving.raw_inputs import RawInput

Columns = Mapping[str, Sequence[Any]]
"""Raw features by input name, one JSON value a row; an input that is left out is missing in every row."""


class Searcher(Protocol):
    """Candidates by id, searched by vector."""

    @property
    def size(self) -> int:
        """Candidates N."""
        ...

    def __contains__(self, id_: str) -> bool: ...

    def search(
        self,
        queries: Float32Array,
        k: int,
        *,
        excluded_ids: Sequence[Sequence[str]] | None,
        filters: Sequence[Filter | None] | None,
    ) -> Found:
        """Find the best K of each query's vector [B, D], or of its several [B, I, D]; unknown excluded ids are ignored.

        Raises:
            UserError: k outside 1 to N, another width, NaN, or a filter by no attribute of the candidates.
        """
        ...


class Changeable(Searcher, Protocol):
    """Candidates that can be added and removed, by one thread, while others are searched."""

    def put(
        self, ids: Sequence[str], vectors: Float32Array, attributes: Mapping[str, Sequence[Any]] | None
    ) -> tuple[int, int]:
        """Add candidates, or replace those whose ids are there; on the disk when it returns.

        Args:
            ids: distinct [B].
            vectors: [B, D].
            attributes: by name, for every candidate a text, a list of texts, or None; without any, those that are
                there keep theirs.

        Returns:
            How many were added, and how many candidates there are now.

        Raises:
            UserError: an id that is empty or stands twice, another width, NaN, an unknown attribute; nothing is done
                then. Refusal: these candidates are another version's by now.
        """
        ...

    def drop(self, ids: Sequence[str]) -> tuple[list[str], int]:
        """Remove candidates, all or none; returns the ids that were not there, and how many candidates there are now.

        Raises:
            Refusal: these candidates are another version's by now.
        """
        ...

    def tidy(self) -> None:
        """Move what has piled up into the big index, where it is much; searches and changes go on meanwhile."""
        ...

    def close(self) -> None:
        """Take no more changes, so that another process can; called by the thread that changes."""
        ...


class ServedModel(Protocol):
    """One version: towers, candidates, what is known of queries, and what is shown of candidates."""

    weights_digest: str
    """Of the weights behind every vector."""
    dim: int
    """Width D of a vector."""
    num_interests: int
    """Vectors I of one query."""
    num_queries: int
    """Queries that the version knows, by rows from 0."""
    query_inputs: Mapping[str, RawInput]
    """Raw features of a query by name."""
    candidate_inputs: Mapping[str, RawInput]
    """Raw features of a candidate by name."""
    attributes: tuple[str, ...]
    """What candidates may be filtered by."""
    searcher: Searcher
    """The candidates."""
    changeable: Changeable | None
    """The same candidates, where updates are taken."""

    def encode_queries(self, columns: Columns, num_rows: int) -> tuple[Float32Array, BoolArray]:
        """Vectors [B, D] or [B, I, D] of queries given by features, and True where the query's own id is known [B].

        Raises:
            UserError: a feature that is unknown, of another type, or not finite; the field is named.
        """
        ...

    def encode_known(self, query_rows: Sequence[int]) -> Float32Array:
        """Vectors of queries that the version knows, by their rows."""
        ...

    def query_row(self, query_id: str) -> int | None:
        """Row of a known query; None for others."""
        ...

    def seen(self, query_row: int) -> Sequence[str]:
        """Ids of the candidates that a known query has met."""
        ...

    def encode_candidates(self, columns: Columns, num_rows: int) -> Float32Array:
        """Vectors [B, D] of candidates given by features.

        Raises:
            UserError: as `encode_queries`.
        """
        ...

    def popular(self, k: int, excluded_ids: Sequence[str], wanted: Filter | None) -> Found:
        """The K most popular candidates [1, K] that are neither excluded nor filtered out; scores are their counts."""
        ...

    def fields(self, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """What is shown of candidates; nothing of unknown ones."""
        ...

    def close(self) -> None:
        """Let go of what others may want; called once, when another version answers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A model under its number."""

    number: int
    """As the folder is called, and as answers say."""
    model: ServedModel
    """What answers."""

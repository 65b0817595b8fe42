"""What every source hands over: three tables with canonical column names, and the truth where it is known.

Canonical columns of `interactions`: `query_id` (string), `candidate_id` (string), `time` (int64), and where the source
has them `rating`, `watched_fraction` (float32), `liked`, `shared` (bool); others keep their name. `queries` has
`query_id`, `candidates` has `candidate_id` and, where known, `title` (string) and `genres` (list of string); their ids
are distinct.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from retrieval_contract.arrays import Float32Array

QUERY_ID = "query_id"
CANDIDATE_ID = "candidate_id"
TIME = "time"


class Truth(Protocol):
    """The probabilities that interactions were drawn from; only a simulated source knows them."""

    @property
    def candidate_ids(self) -> tuple[str, ...]:
        """Candidate ids [N] in the order of the columns, which is that of the candidates table."""
        ...

    def log_probabilities(self, query_ids: Sequence[str], time: int) -> Float32Array:
        """Natural log of p(candidate | query) at a time.

        Args:
            query_ids: B query ids of the source.
            time: Unix seconds.

        Returns:
            [B, N], exp of each row sums to 1; -inf where a candidate does not exist yet.

        Raises:
            UserError: an id that the source does not have.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """A data set as read: checked row by row, but not yet divided, encoded or judged positive."""

    interactions: pa.Table
    """`query_id`, `candidate_id`, `time`, then whatever else the source has; source order, duplicates allowed."""
    queries: pa.Table | None
    """Query attributes, one row per query, all queries of `interactions` among them; None where the source has none."""
    candidates: pa.Table | None
    """Candidate attributes, one row per candidate: the whole catalogue; None where the source has no such table."""
    truth: Truth | None
    """The true probabilities, or None."""
    has_timestamps: bool
    """False where `time` is only an order."""
    notes: tuple[str, ...]
    """What a reader of the report should know: rows dropped, and why; one line each."""

"""Small data with every kind of column, and a config that uses them all: what tests and parity tests start from.

Nothing is learnable in it; the simulated source is for that.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_contract.config import (
    CategoricalFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    RunConfig,
    Tower,
)
from retrieval_contract.data.sources.raw import RawData

GENRES = ("Crime", "Drama", "Éros", "日本")
START = 1_000_000_000
"""Unix second of the first moment."""


def planted_raw(
    *, num_queries: int = 30, num_candidates: int = 20, num_rows: int = 600, num_moments: int = 200, seed: int = 0
) -> RawData:
    """Draw rows uniformly: ids `q7` and `c3`, ratings 1 to 5, signs, weights, several rows in one moment.

    Args:
        num_queries: queries in the table.
        num_candidates: candidates in the table.
        num_rows: interactions.
        num_moments: different times; fewer than rows, so that ties occur.
        seed: of everything drawn.

    Returns:
        Tables with categorical, multi-valent and numeric columns, some values missing.
    """
    draw = np.random.default_rng(seed)
    interactions = {
        "query_id": [f"q{row}" for row in draw.integers(num_queries, size=num_rows)],
        "candidate_id": [f"c{row}" for row in draw.integers(num_candidates, size=num_rows)],
        "time": START + draw.integers(num_moments, size=num_rows),
        "rating": draw.integers(1, 6, size=num_rows).astype(np.float64),
        "watched_fraction": draw.random(num_rows),
        "liked": draw.random(num_rows) < 0.1,
        "weight": draw.random(num_rows) + 0.5,
    }
    queries = {
        "query_id": [f"q{row}" for row in range(num_queries)],
        "country": [("de", "fr", None)[row % 3] for row in range(num_queries)],
        "age": [None if row % 7 == 6 else 20.0 + row for row in range(num_queries)],
    }
    candidates = {
        "candidate_id": [f"c{row}" for row in range(num_candidates)],
        "title": [f"Title {row}" for row in range(num_candidates)],
        "genres": [[GENRES[(row + i) % 4] for i in range(row % 4)] for row in range(num_candidates)],
        "year": [1950 + row for row in range(num_candidates)],
    }
    return RawData(
        interactions=pa.table(interactions),
        queries=pa.table(queries),
        candidates=pa.table(candidates),
        truth=None,
        has_timestamps=True,
        notes=(),
    )


def planted_config(**rooms: Any) -> RunConfig:
    """A run with a feature of every kind in its towers, and batches of 16; `rooms` replace branches of the config."""
    query = Tower(
        features=(
            IdFeature(name="query_id", width=8),
            HistoryFeature(name="history", width=8, max_length=5),
            CategoricalFeature(name="country", width=4),
            NumericFeature(name="age"),
        ),
        hidden_dims=(12,),
    )
    candidate = Tower(
        features=(
            IdFeature(name="candidate_id", width=8),
            MultivalentFeature(name="genres", width=4, max_length=2),
            NumericFeature(name="year"),
        ),
        hidden_dims=(12,),
    )
    base = RunConfig(query=query, candidate=candidate).model_dump()
    changed = {"model": {"dim": 8}, "training": {"batch_size": 16}, "query": query, "candidate": candidate, **rooms}
    return RunConfig.model_validate({**base, **changed})

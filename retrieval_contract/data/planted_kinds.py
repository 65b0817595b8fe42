"""Small data with a column for every kind of feature, and a config that has them all in three towers.

Nothing is learnable in it; values are missing, repeated and beyond ASCII here and there.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    RunConfig,
    TextFeature,
    TimeFeature,
    Tower,
)
from retrieval_contract.data.planted import GENRES, START, planted_config, planted_raw
from retrieval_contract.data.sources.raw import RawData

DAY = 86_400
DEVICES = ("phone", "tv", None, "日本")
WORDS = ("the", "big", "Été", "日本", "night", "-", "2001")


def kinds_raw(*, num_queries: int = 30, num_candidates: int = 20, num_rows: int = 600, seed: int = 0) -> RawData:
    """Draw what `planted_raw` draws, and columns of moments, texts, vectors, weights and requests."""
    raw = planted_raw(num_queries=num_queries, num_candidates=num_candidates, num_rows=num_rows, seed=seed)
    assert raw.queries is not None
    assert raw.candidates is not None
    draw = np.random.default_rng([seed, 1])
    likes = [[GENRES[i] for i in draw.permutation(4)[: row % 4]] if row % 5 else None for row in range(num_queries)]
    joined = [None if row % 8 == 7 else START - row * DAY for row in range(num_queries)]
    weights = [[float(w) for w in draw.random(row % 4)] for row in range(num_candidates)]
    texts = [" ".join(draw.choice(WORDS, row % 6)) if row % 7 else None for row in range(num_candidates)]
    vectors = [None if row == 3 else draw.standard_normal(3).tolist() for row in range(num_candidates)]
    creators = [None if row == 5 else f"creator {row % 6} é" for row in range(num_candidates)]
    uploaded = pa.array([(START - row * 3 * DAY) * 1_000 for row in range(num_candidates)], pa.timestamp("ms", "UTC"))
    loads = np.where(draw.random(num_rows) < 0.1, np.nan, draw.lognormal(size=num_rows))
    return replace(
        raw,
        queries=_with(raw.queries, likes=likes, joined=joined),
        candidates=_with(
            raw.candidates, genre_weights=weights, text=texts, vector=vectors, creator=creators, uploaded=uploaded
        ),
        interactions=_with(
            raw.interactions, device=[DEVICES[place] for place in draw.integers(4, size=num_rows)], load=loads
        ),
    )


def kinds_config(**rooms: Any) -> RunConfig:
    """A run with every kind of feature, every scaling and part of time, own and shared tables, and a context tower."""
    query = Tower(
        features=(
            IdFeature(name="query_id", width=4),
            CategoricalFeature(name="country", encoding="one_hot", width=3),
            NumericFeature(name="age_bucket", column="age", scaling="buckets", edges=(25.0, 35.0, 45.0)),
            NumericFeature(name="age", scaling="min_max", missing_flag=True),
            MultivalentFeature(name="likes", width=4, shares="genres", max_length=2, pooling="max"),
            TimeFeature(name="joined", part="weekday"),
            TimeFeature(name="joined_year", column="joined", part="year_cycle"),
            CrossFeature(name="country_age", of=("country", "age_bucket"), num_buckets=20),
            CategoricalFeature(name="device", at="request", width=2),
            TimeFeature(name="hour", at="request", part="hour", width=2),
            CrossFeature(name="device_hour", of=("device", "hour"), num_buckets=30),
            CrossFeature(name="country_device", of=("country", "device"), num_buckets=30),
            AffinityFeature(name="genre_affinity", of="genres", width=6, max_length=7),
            HistoryFeature(name="watched", width=4, max_length=5, fields=("genres", "creator"), shares=True),
            HistoryFeature(
                name="lately",
                width=4,
                max_length=3,
                fields=("genres", "creator", "year_bucket", "vector", "text", "views", "creator_year", "uploaded"),
                age_buckets=4,
                min_count=2,
            ),
        ),
        hidden_dims=(6,),
    )
    context = Tower(
        features=(
            CategoricalFeature(name="device", at="request", num_buckets=9, width=2),
            NumericFeature(name="load", at="request", scaling="log_z_score", missing_flag=True),
            TimeFeature(name="hour", at="request", part="hour_cycle"),
            TimeFeature(name="day", at="request", part="weekday", width=2),
            CrossFeature(name="device_day", of=("device", "day"), num_buckets=30, width=2),
        )
    )
    candidate = Tower(
        features=(
            IdFeature(name="candidate_id", width=4),
            CategoricalFeature(name="creator", num_buckets=50, width=4),
            MultivalentFeature(name="genres", width=4, weights_column="genre_weights", pooling="sqrt_n"),
            NumericFeature(name="year_bucket", column="year", scaling="quantiles", num_quantiles=4, width=4),
            NumericFeature(name="views", column="year", scaling="raw"),
            TimeFeature(name="uploaded", part="age"),
            TextFeature(name="text", num_buckets=40, width=4),
            TextFeature(name="letters", column="title", tokens="characters", ngrams=(3,), num_buckets=40, width=2),
            DenseFeature(name="vector", width=3, projection=2, missing="zeros"),
            CrossFeature(name="creator_year", of=("creator", "year_bucket"), num_buckets=25, width=4),
        ),
        hidden_dims=(6,),
    )
    return planted_config(**{"query": query, "context": context, "candidate": candidate, **rooms})


def _with(table: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    return table

"""Data whose requests, pasts and candidates carry every kind of thing, and a config that reads it all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_contract import config as c
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.sources.raw import RawData

DEVICES = ("phone", "tv", None, "tablet", "radio")
HALF_LIFE_DAYS = 0.25


def past_raw(*, seed: int = 0, num_rows: int = 600, hours: int = 200) -> RawData:
    """`planted_raw` over several days, with a device and a running average for each request and a tag for candidates.

    Args:
        seed: of everything drawn.
        num_rows: interactions.
        hours: that they are spread over; some share a moment.
    """
    raw = planted_raw(seed=seed, num_rows=num_rows)
    draw = np.random.default_rng(seed + 1_000)
    devices = [DEVICES[at] for at in draw.integers(len(DEVICES), size=num_rows)]
    averages = [None if value < 0.1 else value for value in draw.random(num_rows).tolist()]
    seconds = 1_600_000_000 + 1_800 * draw.integers(2 * hours, size=num_rows)
    table = raw.interactions.set_column(raw.interactions.column_names.index("time"), "time", pa.array(seconds))
    table = table.append_column("device", pa.array(devices)).append_column("average", pa.array(averages))
    assert raw.candidates is not None
    num_candidates = raw.candidates.num_rows
    tags = pa.array([("news", "film", None, "sport")[row % 4] for row in range(num_candidates)])
    shares = pa.array([[0.5 + row + i for i in range(row % 4)] for row in range(num_candidates)])
    candidates = raw.candidates.append_column("tag", tags).append_column("genre_shares", shares)
    return replace(raw, interactions=table, candidates=candidates)


def past_config(**rooms: Any) -> c.RunConfig:
    """Three histories, two affinities, requests in the query tower, a context tower, crosses of everything."""
    query = c.Tower(
        features=(
            c.IdFeature(name="query_id", width=8),
            c.HistoryFeature(name="past", width=8, max_length=7, fields=("genres", "year", "tag"), age_buckets=4),
            c.HistoryFeature(
                name="recent",
                width=8,
                max_length=3,
                min_count=20,
                pooling=c.WeightedMeanPooling(half_life_days=HALF_LIFE_DAYS),
            ),
            c.HistoryFeature(
                name="kinds", width=8, max_length=5, ids=False, fields=("tag",), pooling=c.WeightedMeanPooling()
            ),
            c.AffinityFeature(name="likes", of="genres", width=6, max_length=6),
            c.AffinityFeature(name="tags", of="tag", width=3, max_length=4),
            c.CategoricalFeature(name="country", width=4),
            c.CategoricalFeature(name="device", at="request", width=4),
            c.CrossFeature(name="country_device", of=("country", "device"), num_buckets=50, width=4),
        ),
        hidden_dims=(12,),
    )
    context = c.Tower(
        features=(
            c.CategoricalFeature(name="device", at="request", width=4),
            c.NumericFeature(name="average", at="request", missing_flag=True),
            c.TimeFeature(name="hour", at="request", part="hour"),
            c.CrossFeature(name="device_hour", of=("device", "hour"), num_buckets=50, width=4),
        ),
        hidden_dims=(12,),
    )
    candidate = c.Tower(
        features=(
            c.IdFeature(name="candidate_id", width=8),
            c.MultivalentFeature(name="genres", width=4, max_length=2, min_count=100, weights_column="genre_shares"),
            c.NumericFeature(name="year"),
            c.CategoricalFeature(name="tag", width=4),
            c.CrossFeature(name="id_tag", of=("candidate_id", "tag"), num_buckets=50, width=4),
        ),
        hidden_dims=(12,),
    )
    return planted_config(
        **{
            "query": query,
            "context": context,
            "candidate": candidate,
            "positives": {"rule": "rating_at_least", "rating_at_least": 2.0, "weight_column": "weight"},
            **rooms,
        }
    )

"""Interactions of any number for the input pipeline, and the towers that read them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract import config as c
from retrieval_contract.data.sources.raw import RawData

HISTORY = 50
"""Length L of the history."""
NUM_TAGS = 20
ROWS_A_QUERY = 100
"""Interactions of a query, so that half of the histories are full and the others grow."""
HALF_LIFE_DAYS = 30.0
START, PERIOD = 1_600_000_000, 180 * 86_400
"""Unix second of the first moment, and seconds after which the last one comes."""

VARIANTS = ("ids", "ages", "weights", "affinity", "everything")
"""What the query tower reads beside ids of queries and of a history; `everything` is all of it, fields of the items and
a context tower."""


def draw(num_interactions: int, *, num_candidates: int, seed: int) -> RawData:
    """Draw interactions of queries and candidates that are named by text, as they come from files.

    Args:
        num_interactions: rows R.
        num_candidates: candidates; a square of a uniform number chooses one, so that few are frequent.
        seed: of everything drawn.
    """
    generator = np.random.default_rng(seed)
    num_queries = max(2, num_interactions // ROWS_A_QUERY)
    watched = (generator.random(num_interactions) ** 2 * num_candidates).astype(np.int32)
    devices = pa.DictionaryArray.from_arrays(
        pa.array(generator.integers(4, size=num_interactions, dtype=np.int8)), ["phone", "tablet", "tv", "web"]
    )
    interactions = {
        "query_id": pc.cast(pa.array(generator.integers(num_queries, size=num_interactions, dtype=np.int32)), "string"),
        "candidate_id": pc.cast(pa.array(watched), "string"),
        "time": START + generator.integers(PERIOD, size=num_interactions),
        "weight": generator.random(num_interactions, np.float32) + np.float32(0.5),
        "device": devices,
    }
    del watched
    candidates = {
        "candidate_id": [str(row) for row in range(num_candidates)],
        "tag": [f"tag {row % NUM_TAGS}" for row in range(num_candidates)],
        "length": generator.random(num_candidates),
    }
    queries = {
        "query_id": [str(row) for row in range(num_queries)],
        "country": [f"country {row % 50}" for row in range(num_queries)],
    }
    return RawData(
        interactions=pa.table(interactions),
        queries=pa.table(queries),
        candidates=pa.table(candidates),
        truth=None,
        has_timestamps=True,
        notes=(),
    )


def run_config(variant: str, *, batch_size: int) -> c.RunConfig:
    """Towers that read what a variant is called after."""
    whole = variant == "everything"
    decays = variant == "weights" or whole
    history = c.HistoryFeature(
        name="history",
        width=64,
        max_length=HISTORY,
        fields=("tag", "length") if whole else (),
        age_buckets=20 if variant == "ages" or whole else 0,
        pooling=c.WeightedMeanPooling(half_life_days=HALF_LIFE_DAYS) if decays else c.MeanPooling(),
    )
    affinity = c.AffinityFeature(name="tags", of="tag", width=NUM_TAGS, max_length=HISTORY)
    query: list[c.Feature] = [
        c.IdFeature(name="query_id", width=64),
        c.CategoricalFeature(name="country", width=16),
        history,
    ]
    if variant == "affinity" or whole:
        query.append(affinity)
    device = c.CategoricalFeature(name="device", at="request", width=4)
    hour = c.TimeFeature(name="hour", at="request", part="hour")
    return c.RunConfig(
        name=f"input pipeline, {variant}",
        positives=c.Positives(weight_column="weight"),
        split=c.SplitRule(kind="random", validation_fraction=0.0, test_fraction=0.001),
        query=c.Tower(features=tuple(query), hidden_dims=(64,)),
        candidate=c.Tower(
            features=(
                c.IdFeature(name="candidate_id", width=64),
                c.CategoricalFeature(name="tag", width=16),
                c.NumericFeature(name="length"),
            ),
            hidden_dims=(64,),
        ),
        context=c.Tower(features=(device, hour), hidden_dims=(64,)) if whole else None,
        model=c.Model(dim=64),
        training=c.Training(batch_size=batch_size),
    )

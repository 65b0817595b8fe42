"""Raw rows with everything awkward, for `preprocessing_test`: scripts, numbers and moments that break naive code.

Nothing here knows a framework.
"""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval_contract.arrays import Entities, Int64Array, Interactions
from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
    Tower,
    WeightedMeanPooling,
)

Draw = np.random.Generator
Columns = dict[str, Any]

# fmt: off
SCRIPTS = (
    "a", "Z", "the", "The", "THE", "10", "x_y", "don't", "-", " ", "\t", "\x00", "\x7f", "|", "é", "É", "e\u0301",
    "A\u030a", "İ", "ı", "I\u0307", "ẞ", "ß", "SS", "ſ", "\u212a", "ǅ", "Σ", "ς", "שלום", "\u200f", "عربي", "١٢",
    "日本", "か\u3099", "😀", "👩\u200d👩\u200d👧", "🇩🇪", "\u00a0", "\u2028", "\u0085", "\ufeff", "\U0010ffff",
    "𝔘", "ﬁ", "०",
)
"""Case that differs by language or grows, marks that combine, right to left, emoji, blanks that are no ASCII."""
NUMBERS = (
    0.0, -0.0, 1.0, 18.0, 25.0, 1e300, -1e300, 5e-324, -5e-324, 1.7976931348623157e308, 3.5e38, 1e-45, 2.0**53 + 2,
)
"""Both zeros, edges, the least and the largest number, what float32 cannot hold."""
MOMENTS = (0.0, -1.0, -0.5, 3_600.0, 86_399.0, 86_400.0, 31_556_952.0, -62e9, 1e11, 253_402_300_799.5, -1e15, 1e300)
"""Unix seconds around borders, before Christ, in the year 9999 and beyond all calendars."""
# fmt: on


def one_of(draw: Draw, values: Any, size: int) -> list[Any]:
    """Draw values with repetition."""
    return [values[place] for place in draw.integers(len(values), size=size)]


def draw_texts(draw: Draw, size: int, longest: int = 12) -> list[str | None]:
    """Draw texts of some pieces of `SCRIPTS`; some are empty, every seventeenth is missing."""
    lengths = draw.integers(0, longest, size=size)
    found = ["".join(one_of(draw, SCRIPTS, length)) for length in lengths]
    return [None if place % 17 == 16 else text for place, text in enumerate(found)]


def draw_numbers(draw: Draw, size: int, *, tame: bool) -> NDArray[np.float64]:
    """Draw numbers around 20; if not tame, also from 1e-300 to 1e300, `NUMBERS`, and NaN."""
    if tame:
        return draw.normal(size=size, loc=20, scale=10)
    wild = draw.normal(size=size) * 10.0 ** draw.uniform(-300, 300, size)
    near = draw.normal(size=size, loc=20, scale=20)
    numbers: NDArray[np.float64] = np.where(draw.random(size) < 0.5, near, wild)
    numbers = np.where(draw.random(size) < 0.2, one_of(draw, NUMBERS, size), numbers)
    return np.where(draw.random(size) < 0.1, np.nan, numbers)


def draw_moments(draw: Draw, size: int, *, tame: bool) -> NDArray[np.float64]:
    """Draw moments of three years; if not tame, also full hours of 2,000 years, `MOMENTS`, any, and NaN."""
    seconds = draw.integers(1_000_000_000, 1_100_000_000, size).astype(np.float64)
    if tame:
        return seconds
    hours = draw.integers(-(10**7), 10**7, size) * 3_600.0
    wild = np.where(draw.random(size) < 0.5, hours, draw.normal(size=size) * 10.0 ** draw.uniform(0, 18, size))
    wild = np.where(draw.random(size) < 0.1, one_of(draw, MOMENTS, size), wild)
    return np.where(draw.random(size) < 0.1, np.nan, np.where(draw.random(size) < 0.3, seconds, wild))


def draw_lists(draw: Draw, size: int, values: Any, longest: int = 7) -> list[list[Any] | None]:
    """Draw lists, some empty, every thirteenth missing."""
    lengths = draw.integers(0, longest, size=size)
    return [None if place % 13 == 12 else one_of(draw, values, length) for place, length in enumerate(lengths)]


GENRES = ("Crime", "crime", "Éros", "日本", "", "e\u0301", None)
UNSEEN = (*GENRES, "unseen", "Crime ", "\u00e9", "😀")


def candidate_columns(draw: Draw, size: int, *, tame: bool) -> Columns:
    """Draw the attributes of candidates; tame ones can be fitted."""
    genres = draw_lists(draw, size, GENRES if tame else UNSEEN)
    lengths = [0 if values is None else len(values) for values in genres]
    vectors = draw.normal(size=(size, 3)) * 10.0 ** draw.uniform(-3, 3, (size, 3))
    return {
        "category": one_of(draw, GENRES if tame else UNSEEN, size),
        "creator": draw_texts(draw, size),
        "genres": genres,
        "genre_weights": [draw.uniform(0, 3, length).tolist() for length in lengths],
        "tags": [None if text is None else list(text) for text in draw_texts(draw, size)],
        "number": draw_numbers(draw, size, tame=tame),
        "moment": draw_moments(draw, size, tame=tame),
        "title": draw_texts(draw, size),
        "vector": [None if place % 11 == 10 else vector for place, vector in enumerate(vectors.tolist())],
    }


def table_of(columns: Columns, *, text: tuple[str, ...] = ()) -> pa.Table:
    """Columns as a table, lists of nothing among them; some may hold text where others hold lists."""
    lists = {"genres": pa.list_(pa.string()), "tags": pa.list_(pa.string()), "genre_weights": pa.list_(pa.float64())}
    lists |= {"vector": pa.list_(pa.float64())}
    return pa.table(
        {name: pa.array(values, None if name in text else lists.get(name)) for name, values in columns.items()}
    )


SCALINGS: tuple[Literal["raw", "z_score", "log_z_score", "min_max"], ...] = ("raw", "z_score", "log_z_score", "min_max")
PARTS: tuple[Literal["hour", "weekday", "hour_cycle", "weekday_cycle", "year_cycle", "age"], ...] = (
    *("hour", "weekday", "hour_cycle", "weekday_cycle", "year_cycle", "age"),
)
WEIGHTED = WeightedMeanPooling(half_life_days=3.0)
CANDIDATE = Tower(
    features=(
        IdFeature(name="candidate_id", min_count=2),
        CategoricalFeature(name="category"),
        CategoricalFeature(name="category_top", column="category", top=3, encoding="one_hot", width=4),
        CategoricalFeature(name="creator", num_buckets=97),
        MultivalentFeature(name="genres", weights_column="genre_weights", max_length=4),
        MultivalentFeature(name="tags", num_buckets=1_000, max_length=5),
        *(NumericFeature(name=f"number_{scaling}", column="number", scaling=scaling) for scaling in SCALINGS),
        NumericFeature(name="number_zero", column="number", scaling="raw", missing="zero", missing_flag=True),
        NumericFeature(name="number_buckets", column="number", scaling="buckets", edges=(-1.0, 0.0, 18.0, 25.0)),
        NumericFeature(name="number_quantiles", column="number", scaling="quantiles"),
        *(TimeFeature(name=f"moment_{part}", column="moment", part=part) for part in PARTS),
        TextFeature(name="title_words", column="title", num_buckets=500, max_length=6),
        TextFeature(name="title_letters", column="title", tokens="characters", ngrams=(3, 1), num_buckets=500),
        DenseFeature(name="vector", width=3, missing="zeros"),
        CrossFeature(name="cross", of=("category", "number_buckets", "moment_hour"), num_buckets=333),
    ),
    hidden_dims=(4,),
)
QUERY = Tower(
    features=(
        IdFeature(name="query_id"),
        MultivalentFeature(name="likes", shares="genres"),
        NumericFeature(name="number", missing_flag=True),
        CategoricalFeature(name="device", at="request"),
        TimeFeature(name="hour", at="request", part="hour"),
        CrossFeature(name="device_hour", of=("device", "hour"), num_buckets=50),
        CrossFeature(name="id_device", of=("query_id", "device"), num_buckets=50),
        HistoryFeature(name="latest", max_length=4, fields=("genres", "vector", "number_zero"), shares=True, width=32),
        HistoryFeature(name="aged", max_length=6, min_count=5, age_buckets=9, fields=("cross", "title_words")),
        HistoryFeature(name="fading", max_length=5, ids=False, fields=("number_buckets",), pooling=WEIGHTED),
        AffinityFeature(name="genre_affinity", of="genres", width=9, max_length=5),
        AffinityFeature(name="category_affinity", of="category_top", width=4, max_length=3),
    ),
    hidden_dims=(4,),
)
CONTEXT = Tower(
    features=(
        CategoricalFeature(name="device", at="request", num_buckets=31),
        NumericFeature(name="load", at="request", scaling="log_z_score"),
        TimeFeature(name="weekday", at="request", part="weekday"),
        TimeFeature(name="year", at="request", part="year_cycle"),
        CrossFeature(name="device_weekday", of=("device", "weekday"), num_buckets=50),
    )
)


def entities_of(columns: Columns, ids: list[str], id_name: str) -> Entities:
    """Queries or candidates; ids may repeat here, since only their encoding is looked at."""
    return Entities(ids=tuple(ids), table=table_of({id_name: ids, **columns}))


def query_columns(draw: Draw, size: int, *, tame: bool) -> Columns:
    """Draw the attributes of queries."""
    return {"likes": draw_lists(draw, size, UNSEEN), "number": draw_numbers(draw, size, tame=tame)}


def request_columns(draw: Draw, size: int, *, tame: bool) -> Columns:
    """Draw what requests know."""
    return {"device": draw_texts(draw, size, longest=2), "load": draw_numbers(draw, size, tame=tame)}


def interactions_of(
    draw: Draw, query_rows: Int64Array, candidate_rows: Int64Array, times: Int64Array, *, tame: bool
) -> Interactions:
    """Interactions with drawn weights, a tenth of them 0, and requests."""
    size = len(query_rows)
    return Interactions(
        query_rows=query_rows.astype(np.int32),
        candidate_rows=candidate_rows.astype(np.int32),
        times=times.astype(np.int64),
        positive=np.ones(size, np.bool_),
        weights=np.where(draw.random(size) < 0.1, 0, draw.uniform(0, 3, size)).astype(np.float32),
        table=pa.table(request_columns(draw, size, tame=tame)),
        has_timestamps=True,
    )

"""The source `simulated_video`: a video service with all kinds of features, whose true probabilities are known."""

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import BoolArray, Int64Array
from retrieval_contract.config import SimulatedVideoSource
from retrieval_contract.data.sources.population import Float64Array, candidate_ids, chunks, query_ids, stream
from retrieval_contract.data.sources.raw import CANDIDATE_ID, QUERY_ID, TIME, RawData
from retrieval_contract.data.sources.simulated import MOODS
from retrieval_contract.data.sources.video_choice import VideoChoice, draw_times, periods
from retrieval_contract.data.sources.video_population import (
    DEVICES,
    LANGUAGES,
    MEDIAN_SECONDS,
    Statistics,
    Videos,
    Viewers,
    draw_statistics,
    draw_videos,
    draw_viewers,
)
from retrieval_contract.data.sources.watching import running_numbers

CHUNK_CELLS = 2**21
"""Rows times interests handled at once; bounds the memory of a large draw."""
COUNTRIES = (
    "US", "IN", "BR", "ID", "MX", "JP", "DE", "PH", "TR", "VN", "GB", "FR", "TH", "KR", "IT", "ES", "CO", "AR", "PL",
    "CA", "EG", "PK", "RU", "UA", "NG", "BD", "SA", "AU", "PE", "MY", "CL", "NL", "RO", "ZA", "MA", "IQ", "DZ", "VE",
    "EC", "KZ", "SE", "BE", "PT", "GR", "HU", "CZ", "IL", "AE", "CH", "AT", "KE", "NO", "DK", "FI", "TW", "HK", "SG",
    "IE", "NZ", "IS",
)  # fmt: skip
CATEGORIES = (
    "music", "gaming", "news", "sport", "cooking", "travel", "science", "comedy", "film", "fashion", "cars",
    "animals", "fitness", "history", "art", "finance", "gardening", "crafts", "language", "kids",
)  # fmt: skip
FORMS = (
    "review", "lesson", "story", "tour", "challenge", "interview", "guide", "concert", "episode", "diary", "test",
)  # fmt: skip
NOTE = "views, completion rates, likes and dislikes of videos were counted before the log begins"


def load(source: SimulatedVideoSource, *, seed: int) -> RawData:
    """Draw a data set; the same source and seed give the same bytes.

    A row is a video that a viewer started: rows are drawn independently from `VideoChoice`, in order of time, and
    followed by how much of it was watched, whether to the end, and whether it was liked or shared, which depend on how
    well the video fits the request, on its appeal and on its length. `average_watch_seconds` (missing on a viewer's
    first row) and `videos_7d` are those of the viewer's earlier rows.

    Missing as configured: age, country and language of viewers; category, title (with its vector) and completion rate
    of videos. A video that comes out during the log has no completion rate either.
    """
    viewers, videos = draw_viewers(source, seed), draw_videos(source, seed)
    choice = VideoChoice(source, viewers, videos, seed)
    queries = _query_table(source, viewers, seed)
    candidates = _candidate_table(source, videos, draw_statistics(videos, seed), seed)
    query_rows, times, device_rows = _requests(source, viewers, seed)
    candidate_rows, fits = _draw_candidates(choice, query_rows, times, device_rows, seed)
    feedback = _feedback(videos, candidate_rows, fits, seed)
    watched = feedback["watch_seconds"].to_numpy().astype(np.float64)
    mean, recent = running_numbers(query_rows, times, watched)
    interactions = pa.table(
        {
            QUERY_ID: queries[QUERY_ID].combine_chunks().take(pa.array(query_rows)),
            CANDIDATE_ID: candidates[CANDIDATE_ID].combine_chunks().take(pa.array(candidate_rows)),
            TIME: times,
            "device": pa.array(DEVICES).take(pa.array(device_rows)),
            "average_watch_seconds": pa.array(mean.astype(np.float32), mask=np.isnan(mean)),
            "videos_7d": recent,
            **feedback,
        }
    )
    return RawData(
        interactions=interactions,
        queries=queries,
        candidates=candidates,
        truth=choice,
        has_timestamps=True,
        notes=(NOTE,),
    )


def _requests(source: SimulatedVideoSource, viewers: Viewers, seed: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Query rows, Unix seconds and devices, in order of time."""
    random = stream(seed, "requests")
    R = source.num_interactions
    cumulative_Q = np.cumsum(viewers.activity)
    rows = np.searchsorted(cumulative_Q, random.random(R) * cumulative_Q[-1], side="right")
    rows = np.minimum(rows, source.num_queries - 1)
    times = draw_times(random.random(R))
    cumulative_QD = np.cumsum(viewers.devices, axis=1)
    devices = np.minimum((cumulative_QD[rows] < random.random((R, 1))).sum(axis=1), len(DEVICES) - 1)
    order = np.argsort(times, kind="stable")
    return rows[order], times[order], devices[order]


def _draw_candidates(
    choice: VideoChoice, query_rows: Int64Array, times: Int64Array, device_rows: Int64Array, seed: int
) -> tuple[Int64Array, Float64Array]:
    """Candidate rows, and how well each fits its request, in nats."""
    random = stream(seed, "choice")
    candidate_rows, fits = np.empty(len(times), np.int64), np.empty(len(times))
    for part in chunks(len(times), CHUNK_CELLS // choice.tables.given_PKN.shape[1]):
        period = periods(times[part])
        interests_BK = choice.interests(query_rows[part], times[part], device_rows[part])
        drawn = choice.tables.draw(interests_BK, period, random.random((len(period), 2)))
        candidate_rows[part], fits[part] = drawn, choice.tables.fits(interests_BK, period, drawn)
    return candidate_rows, fits


def _feedback(videos: Videos, candidate_rows: Int64Array, fits: Float64Array, seed: int) -> dict[str, pa.Array]:
    """Watched fraction and seconds, completed, liked, shared: noisy steps of one liking."""
    random = stream(seed, "feedback")
    R = len(candidate_rows)
    liking = fits + 0.5 * videos.appeal[candidate_rows]
    felt = liking - liking.mean() + 0.7 * random.standard_normal(R)
    seconds = videos.seconds[candidate_rows]
    # Few stay to the end of a long video.
    pull = 0.3 + 1.2 * felt - 0.25 * np.log(seconds / MEDIAN_SECONDS) + 0.6 * random.standard_normal(R)
    fraction = 1 / (1 + np.exp(-pull))
    return {
        "watched_fraction": pa.array(fraction.astype(np.float32)),
        "watch_seconds": pa.array((fraction * seconds).astype(np.float32)),
        "completed": pa.array(fraction >= 0.9),
        "liked": pa.array(felt + 0.5 * random.standard_normal(R) > 0.8),
        "shared": pa.array(felt + 0.8 * random.standard_normal(R) > 2.0),
    }


def _query_table(source: SimulatedVideoSource, viewers: Viewers, seed: int) -> pa.Table:
    random = stream(seed, "missing of viewers")
    Q = source.num_queries

    def some_missing() -> BoolArray:
        return random.random(Q) < source.missing_fraction

    return pa.table(
        {
            QUERY_ID: pa.array(query_ids(Q)),
            "age": pa.array(viewers.age, mask=some_missing()),
            "country": _named(_names(COUNTRIES, "country", source.num_countries), viewers.country, some_missing()),
            "language": _named(LANGUAGES, viewers.language, some_missing()),
        }
    )


def _candidate_table(source: SimulatedVideoSource, videos: Videos, counted: Statistics, seed: int) -> pa.Table:
    random = stream(seed, "missing of videos")
    N = source.num_candidates
    no_category, no_title, no_rate = random.random((3, N)) < source.missing_fraction
    categories = _names(CATEGORIES, "category", source.num_categories)
    width = len(str(source.num_creators - 1))
    creators = [f"creator {row:0{width}d}" for row in range(source.num_creators)]
    return pa.table(
        {
            CANDIDATE_ID: pa.array(candidate_ids(N)),
            "title": pa.array(_titles(np.array(categories, object)[videos.category]), mask=no_title),
            "title_vector": _lists(videos.title_vector, no_title),
            "creator": pa.array(creators).take(pa.array(videos.creator)),
            "category": _named(categories, videos.category, no_category),
            "duration_seconds": pa.array(videos.seconds),
            "uploaded_at": pa.array(videos.uploaded_at),
            "views": pa.array(counted.views),
            "completion_rate": pa.array(counted.completion_rate, mask=no_rate | (videos.release > 0)),
            "likes": pa.array(counted.likes),
            "dislikes": pa.array(counted.dislikes),
            "like_ratio": pa.array(counted.likes / (counted.likes + counted.dislikes + 1)),
        }
    )


def _named(names: tuple[str, ...] | list[str], rows: Int64Array, missing: BoolArray) -> pa.Array:
    return pa.array(names).take(pa.array(rows, mask=missing))


def _names(known: tuple[str, ...], word: str, count: int) -> list[str]:
    """So many names: the known ones, then numbers."""
    return [known[row] if row < len(known) else f"{word} {row + 1}" for row in range(count)]


def _lists(values_NX: np.ndarray, missing_N: BoolArray) -> pa.Array:
    """A column of lists of one length; missing ones hold nothing."""
    offsets = np.concatenate([[0], np.cumsum(np.where(missing_N, 0, values_NX.shape[1]))]).astype(np.int32)
    # A missing offset makes its list a missing one.
    begins = pa.array(offsets, mask=np.append(missing_N, False))
    return pa.ListArray.from_arrays(begins, pa.array(values_NX[~missing_N].ravel()))


def _titles(category_N: np.ndarray) -> list[str]:
    """Distinct titles that name their category: Quiet cooking lesson 17."""
    rows = np.arange(len(category_N))
    mood, form = np.array(MOODS, object)[rows % len(MOODS)], np.array(FORMS, object)[rows % len(FORMS)]
    return (mood + " " + category_N + " " + form + " " + rows.astype(str).astype(object)).tolist()

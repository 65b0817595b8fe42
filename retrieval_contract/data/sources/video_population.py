"""The simulated video service: who watches, what there is to watch, and what is known of each.

Viewers' interests follow in part from country, language and age; videos' interests from category and creator. What a
video's statistics (views, completion rate, likes, dislikes) say was counted before the log begins, so that nothing of
the log, held-out rows least of all, is in them: a video that comes out later has none yet.

Letters: Q viewers, N videos, K interests, C categories, M creators, G countries, X numbers of a title vector.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.config import SimulatedVideoSource
from retrieval_contract.data.sources.population import (
    COLD_FROM,
    SPAN,
    START,
    Float64Array,
    choose,
    softmax,
    stream,
)

DAY: Final = 86_400
DEVICES: Final = ("phone", "tablet", "computer", "tv")
LANGUAGES: Final = ("en", "es", "pt", "fr", "de", "ar", "hi", "ja", "ru", "tr", "id", "sw")
AGE_EDGES: Final = (18, 25, 35, 45, 55)
"""Where the next group of ages begins; interests follow the group."""
TITLE_DIM: Final = 128
"""Numbers X of a title vector."""
COLD_RELEASES: Final = (COLD_FROM, 0.925, 0.95, 0.975)
"""Shares of the span at which the videos of the last tenth come out."""
RELEASES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, *COLD_RELEASES)
"""Shares of the span at which any videos come out; period p of the catalogue begins at number p, counted from 1."""
STEADY_FRACTION: Final = 0.15
"""Share of the other videos that come out during the log too, in its first nine tenths."""
EXPLAINED: Final = 0.5
"""Share of the variance of a viewer's interests that country, language and age explain together."""
BY_CATEGORY, BY_CREATOR = 0.4, 0.2
"""Shares of the variance of a video's interests that its category and its creator explain."""
TITLE_NOISE: Final = 0.7
"""Noise of a title vector, relative to what interests give it."""
MEDIAN_SECONDS: Final = 240.0
"""Median length of a video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewers:
    """The queries, Q of them."""

    interests: Float32Array
    """Interests at the start of the span [Q, K], unit variance."""
    later: Float32Array
    """What they drift towards [Q, K]."""
    activity: Float64Array
    """Share of all interactions [Q], sums to 1."""
    devices: Float64Array
    """How often a viewer takes each of `DEVICES` [Q, 4], rows sum to 1."""
    age: Int64Array
    """Years [Q], 13 to 90."""
    country: Int64Array
    """Countries 0 to G - 1 [Q], number 0 the largest."""
    language: Int64Array
    """Place in `LANGUAGES` [Q]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Videos:
    """The candidates, N of them."""

    served: Float64Array
    """How much a video serves each interest [N, K]; rows sum to 1."""
    popularity: Float64Array
    """Zipf weights [N], sum to 1."""
    appeal: Float64Array
    """How well those who meet a video like it [N], standardised."""
    release: Int64Array
    """Period in which the video comes out [N]: 0 before the log, p at `RELEASES[p - 1]`."""
    uploaded_at: Int64Array
    """Unix seconds [N]."""
    category: Int64Array
    """Categories 0 to C - 1 [N]."""
    creator: Int64Array
    """Creators 0 to M - 1 [N]."""
    seconds: Float64Array
    """Whole seconds that the video lasts [N]."""
    title_vector: Float32Array
    """A noisy projection of the interests [N, X], rows of length 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What was counted of each video before the log, [N] each; a video that comes out later has zeros."""

    views: Int64Array
    completion_rate: Float64Array
    likes: Int64Array
    dislikes: Int64Array


def draw_viewers(source: SimulatedVideoSource, seed: int) -> Viewers:
    """Draw the queries."""
    random = stream(seed, "viewers")
    Q, K = source.num_queries, source.num_interests
    country_Q = random.choice(source.num_countries, size=Q, p=_zipf(source.num_countries, 1.1))
    at_home_G = random.integers(len(LANGUAGES), size=source.num_countries)
    language_Q = np.where(random.random(Q) < 0.85, at_home_G[country_Q], random.integers(len(LANGUAGES), size=Q))
    age_Q = np.clip(np.rint(random.lognormal(np.log(30), 0.4, Q)), 13, 90).astype(np.int64)
    group_Q = np.searchsorted(AGE_EDGES, age_Q, side="right")
    explained_QK = np.zeros((Q, K))
    for rows_Q, count in (
        (country_Q, source.num_countries),
        (language_Q, len(LANGUAGES)),
        (group_Q, len(AGE_EDGES) + 1),
    ):
        explained_QK += np.sqrt(EXPLAINED / 3) * random.standard_normal((count, K))[rows_Q]
    own_QK = np.sqrt(1 - EXPLAINED) * random.standard_normal((Q, K))
    activity_Q = random.lognormal(0.0, 0.8, Q)
    return Viewers(
        interests=(explained_QK + own_QK).astype(np.float32),
        later=random.standard_normal((Q, K), np.float32),
        activity=activity_Q / activity_Q.sum(),
        devices=random.dirichlet((2.0, 0.5, 1.0, 0.8), size=Q),
        age=age_Q,
        country=country_Q,
        language=language_Q,
    )


def draw_videos(source: SimulatedVideoSource, seed: int) -> Videos:
    """Draw the candidates."""
    random = stream(seed, "videos")
    N, K, C = source.num_candidates, source.num_interests, source.num_categories
    creator_N = random.choice(source.num_creators, size=N, p=_zipf(source.num_creators, 0.7))
    # A creator works in one to three categories, mostly in the first of them.
    categories_M3 = random.integers(C, size=(source.num_creators, 3))
    category_N = categories_M3[creator_N, random.choice(3, size=N, p=(0.7, 0.2, 0.1))]
    by_category_NK = np.sqrt(BY_CATEGORY) * random.standard_normal((C, K))[category_N]
    by_creator_NK = np.sqrt(BY_CREATOR) * random.standard_normal((source.num_creators, K))[creator_N]
    own_NK = np.sqrt(1 - BY_CATEGORY - BY_CREATOR) * random.standard_normal((N, K))
    interests_NK = by_category_NK + by_creator_NK + own_NK
    release_N = _draw_releases(random, N, source.cold_candidate_fraction)
    days_N = np.minimum(random.exponential(200.0, N), 1_000.0)
    released_N = START + np.ceil(np.array((0.0, *RELEASES))[release_N] * SPAN)
    appeal_N = random.standard_normal(N)
    length_N = 0.8 * random.standard_normal(C)[category_N] + 0.7 * random.standard_normal(N)
    return Videos(
        served=softmax(source.preference_strength * interests_NK),
        popularity=_popularity(random, appeal_N, np.where(release_N > 0, 30.0, days_N), source.zipf_exponent),
        appeal=appeal_N,
        release=release_N,
        uploaded_at=np.where(release_N > 0, released_N, START - np.ceil(days_N * DAY)).astype(np.int64),
        category=category_N,
        creator=creator_N,
        seconds=np.clip(np.rint(MEDIAN_SECONDS * np.exp(length_N)), 5, 14_400),
        title_vector=_title_vectors(random, interests_NK),
    )


def draw_statistics(videos: Videos, seed: int) -> Statistics:
    """Count what happened before the log: views by popularity and age, the rest by appeal and length."""
    random = stream(seed, "statistics")
    N = len(videos.appeal)
    is_out_N = videos.release == 0
    # Most views come in the first months.
    days_N = np.clip((START - videos.uploaded_at) / DAY, 0.0, 150.0)
    views_N = np.floor(20 * N * videos.popularity * days_N * random.lognormal(0.0, 0.4, N)).astype(np.int64)
    length_N = np.log(videos.seconds / MEDIAN_SECONDS)
    completion_N = _sigmoid(0.2 + 0.8 * videos.appeal - 0.25 * length_N + 0.3 * random.standard_normal(N))
    return Statistics(
        views=views_N,
        completion_rate=np.where(is_out_N, completion_N, 0.0),
        likes=random.binomial(views_N, _sigmoid(-3 + 0.7 * videos.appeal)),
        dislikes=random.binomial(views_N, _sigmoid(-4.5 - 0.7 * videos.appeal)),
    )


def _draw_releases(random: np.random.Generator, count: int, cold_fraction: float) -> Int64Array:
    """Period in which each video comes out [N]."""
    num_steady = len(RELEASES) - len(COLD_RELEASES)
    steady_N = random.integers(1, num_steady + 1, size=count)
    cold_N = random.integers(num_steady + 1, len(RELEASES) + 1, size=count)
    release_N = np.where(random.random(count) < STEADY_FRACTION, steady_N, 0)
    return np.where(choose(random, count, cold_fraction), cold_N, release_N)


def _popularity(
    random: np.random.Generator, appeal_N: Float64Array, days_N: Float64Array, exponent: float
) -> Float64Array:
    """Zipf weights in an order that chance, appeal and youth make."""
    youth_N = -np.log1p(days_N)
    drive_N = random.standard_normal(len(appeal_N)) + 0.7 * appeal_N + 0.3 * (youth_N - youth_N.mean())
    rank_N = np.empty(len(appeal_N))
    rank_N[np.argsort(-drive_N, kind="stable")] = np.arange(1, len(appeal_N) + 1)
    weights_N = rank_N**-exponent
    return weights_N / weights_N.sum()


def _title_vectors(random: np.random.Generator, interests_NK: Float64Array) -> Float32Array:
    N, K = interests_NK.shape
    vectors_NX = interests_NK @ random.standard_normal((K, TITLE_DIM)) / np.sqrt(K)
    vectors_NX += TITLE_NOISE * random.standard_normal((N, TITLE_DIM))
    return (vectors_NX / np.linalg.norm(vectors_NX, axis=1, keepdims=True)).astype(np.float32)


def _zipf(count: int, exponent: float) -> Float64Array:
    weights = np.arange(1, count + 1) ** -exponent
    return weights / weights.sum()


def _sigmoid(values: Float64Array) -> Float64Array:
    return 1 / (1 + np.exp(-values))

"""The simulated population: who wants what, when, as a mixture of interests, and the true probabilities of it.

A query q at time t attends to interest k with probability `pi_k(q, t) = softmax_k(s u_qk(t))`, where `s` is the
preference strength and `u_q(t) = (u_q + d x w_q) / sqrt(1 + (d x)^2)` drifts with `x`, the share of the time span gone.
An interest picks candidate j with `P(j | k, t) = c_j a_jk e_j(t) / sum`, popularity `c_j` falling as Zipf's law,
`a_j = softmax_k(s v_jk)` the interests a candidate serves, `e_j(t)` 0 before a cold candidate exists. So

    p(j | q, t) = sum_k pi_k(q, t) P(j | k, t),

exactly, and a draw costs two table look-ups whatever the size of the catalogue. With s = 0 only popularity is left.

Letters: Q queries, N candidates, K interests, G genres, B queries asked about, P periods (before the cold candidates
appear, and after).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.config import SimulatedSource
from retrieval_contract.errors import UserError

Float64Array = NDArray[np.float64]
START = 1_700_000_000
"""First second of the simulated span (14 November 2023)."""
SPAN = 180 * 86_400
"""Length of the span in seconds."""
COLD_FROM = 0.9
"""Share of the span after which cold queries and candidates appear."""
GENDERS = ("female", "male")
AGES = ("under 18", "18-24", "25-34", "35-44", "45-54", "55 and over")
COUNTRIES = ("BR", "DE", "FR", "GB", "IN", "JP", "KE", "MX", "NO", "US")
DEMOGRAPHIC_SHARE = 0.5
"""Share of the variance of interests that gender, age and country explain together."""
GENRE_SHARPNESS = 4.0
"""How surely a candidate's genres follow its interests."""


def stream(seed: int, name: str) -> np.random.Generator:
    """Make the random stream of a purpose; adding one leaves the others as they were."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *name.encode()])))


def softmax(logits: Float64Array) -> Float64Array:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The queries, Q of them."""

    interests: Float32Array
    """Interests at the start of the span [Q, K], unit variance."""
    later: Float32Array
    """What they drift towards [Q, K]."""
    cold: BoolArray
    """True for those that appear in the last tenth [Q]."""
    activity: Float64Array
    """Share of all interactions [Q], sums to 1."""
    demographics: dict[str, Int32Array]
    """gender, age, country [Q] as places in `GENDERS`, `AGES`, `COUNTRIES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The candidates, N of them."""

    served: Float64Array
    """How much a candidate serves each interest [N, K]; rows sum to 1."""
    popularity: Float64Array
    """Zipf weights [N], sum to 1."""
    appeal: Float64Array
    """How well those who meet a candidate like it [N], standardised; exposure bias parts it from popularity."""
    cold: BoolArray
    """True for those that appear in the last tenth [N]."""
    genres: BoolArray
    """One to three genres each [N, G]."""


def draw_people(source: SimulatedSource, seed: int) -> People:
    """Draw the queries: demographics, interests that follow from them in part, activity."""
    random = stream(seed, "people")
    Q, K = source.num_queries, source.num_interests
    demographics: dict[str, Int32Array] = {}
    explained_QK = np.zeros((Q, K))
    for name, values in (("gender", GENDERS), ("age", AGES), ("country", COUNTRIES)):
        rows: Int32Array = random.integers(len(values), size=Q, dtype=np.int32)
        demographics[name] = rows
        explained_QK += random.standard_normal((len(values), K))[rows] * np.sqrt(DEMOGRAPHIC_SHARE / 3)
    own_QK = random.standard_normal((Q, K)) * np.sqrt(1 - DEMOGRAPHIC_SHARE)
    cold_Q = choose(random, Q, source.cold_query_fraction)
    # A cold query has a tenth of the time, and a third of the activity, so that it stays short of history.
    activity_Q = random.lognormal(0.0, 0.8, Q) * np.where(cold_Q, 1 / 3, 1.0)
    return People(
        interests=(explained_QK + own_QK).astype(np.float32),
        later=random.standard_normal((Q, K), np.float32),
        cold=cold_Q,
        activity=activity_Q / activity_Q.sum(),
        demographics=demographics,
    )


def draw_catalogue(source: SimulatedSource, seed: int) -> Catalogue:
    """Draw the candidates: interests served, genres that follow from them, popularity, appeal."""
    random = stream(seed, "catalogue")
    N, K = source.num_candidates, source.num_interests
    interests_NK = random.standard_normal((N, K))
    appeal_N = random.standard_normal(N)
    exposure_N = random.standard_normal(N)
    # Popularity comes from being shown and from being liked, in the configured shares; its size is Zipf's.
    drive_N = source.exposure_bias * exposure_N + (1 - source.exposure_bias) * appeal_N
    rank_N = np.empty(N)
    rank_N[np.argsort(-drive_N, kind="stable")] = np.arange(1, N + 1)
    popularity_N = rank_N**-source.zipf_exponent
    return Catalogue(
        served=softmax(source.preference_strength * interests_NK),
        popularity=popularity_N / popularity_N.sum(),
        appeal=appeal_N,
        cold=choose(random, N, source.cold_candidate_fraction),
        genres=_draw_genres(random, interests_NK, source.num_genres),
    )


def choose(random: np.random.Generator, count: int, fraction: float) -> BoolArray:
    """Choose so many of `count`, rounded down: True for the chosen [count]."""
    chosen = np.zeros(count, bool)
    chosen[random.permutation(count)[: int(fraction * count)]] = True
    return chosen


def _draw_genres(random: np.random.Generator, interests_NK: Float64Array, num_genres: int) -> BoolArray:
    """One to three genres a candidate, without repetition, by Gumbel top-k on how well they fit its interests."""
    N, K = interests_NK.shape
    loadings_KG = random.standard_normal((K, num_genres)) / np.sqrt(K)
    fit_NG = GENRE_SHARPNESS * (interests_NK @ loadings_KG) + random.gumbel(size=(N, num_genres))
    wanted_N1: Int64Array = random.integers(1, 4, size=(N, 1))
    place_NG = np.argsort(np.argsort(-fit_NG, axis=1, kind="stable"), axis=1)
    return place_NG < wanted_N1


class InterestTables:
    """P(j | k) of every period, to look up and to draw from."""

    def __init__(self, given_PKN: Float64Array) -> None:
        """Take the probabilities; each row sums to 1."""
        self.given_PKN = given_PKN
        self._mean_PN = given_PKN.mean(axis=1)
        cumulative_TN = np.cumsum(given_PKN, axis=2).reshape(-1, given_PKN.shape[2])
        cumulative_TN /= cumulative_TN[:, -1:]
        # One search for all T = P K tables: table i is moved to [i, i + 1].
        self._cumulative = (cumulative_TN + np.arange(len(cumulative_TN))[:, None]).ravel()

    def draw(self, interests_BK: Float64Array, period_B: Int64Array, uniform_B2: Float64Array) -> Int64Array:
        """Turn two uniforms a row into a candidate row by inverse distribution functions: interest, then candidate."""
        _, K, N = self.given_PKN.shape
        cumulative_BK = np.cumsum(interests_BK, axis=1)
        interest_B = np.minimum((cumulative_BK < uniform_B2[:, :1] * cumulative_BK[:, -1:]).sum(axis=1), K - 1)
        table_B = period_B * K + interest_B
        # The sum may round up to the next table's start.
        wanted_B = np.minimum(table_B + uniform_B2[:, 1], np.nextafter(table_B + 1.0, 0.0))
        return np.searchsorted(self._cumulative, wanted_B, side="right") - table_B * N

    def fits(self, interests_BK: Float64Array, period_B: Int64Array, candidate_rows: Int64Array) -> Float64Array:
        """How well candidates fit those who met them [B]: log p(j | q, t) - log of the mean over interests, in nats."""
        probability_B = (interests_BK * self.given_PKN[period_B, :, candidate_rows]).sum(axis=1)
        return np.log(probability_B / self._mean_PN[period_B, candidate_rows])


class Choice:
    """The law that interactions are drawn from; the `Truth` of a simulated source."""

    def __init__(self, source: SimulatedSource, people: People, catalogue: Catalogue) -> None:
        """Tabulate P(j | k) for both periods."""
        self._strength, self._drift, self._people = source.preference_strength, source.drift, people
        weights_KN = (catalogue.popularity[:, None] * catalogue.served).T
        before_KN = np.where(catalogue.cold, 0.0, weights_KN)
        self.tables = InterestTables(
            np.stack([weights / weights.sum(axis=1, keepdims=True) for weights in (before_KN, weights_KN)])
        )
        self._row_of_id = {name: row for row, name in enumerate(query_ids(source.num_queries))}
        self._candidate_ids = tuple(candidate_ids(source.num_candidates))

    @property
    def candidate_ids(self) -> tuple[str, ...]:
        """Candidate ids in the order of the columns."""
        return self._candidate_ids

    def interests(self, query_rows: Int64Array, gone: Float64Array) -> Float64Array:
        """pi_k(q, t) of B queries, each at its own share `gone` of the span, [B, K]."""
        shift_B1 = (self._drift * gone)[:, None]
        drifted_BK = self._people.interests[query_rows] + shift_B1 * self._people.later[query_rows]
        return softmax(self._strength * drifted_BK / np.sqrt(1 + shift_B1**2))

    def log_probabilities(self, query_ids: Sequence[str], time: int) -> Float32Array:
        """Natural log of p(candidate | query) at Unix second `time`; see `raw.Truth`."""
        unknown = [name for name in query_ids if name not in self._row_of_id]
        if unknown:
            raise UserError(f"no query {unknown[0]!r}, and {len(unknown) - 1:,} more", where="simulated source")
        rows = np.array([self._row_of_id[name] for name in query_ids], np.int64)
        gone = share_gone(np.array([time]))
        interests_BK = self.interests(rows, np.repeat(gone, len(rows)))
        probabilities_BN = interests_BK @ self.tables.given_PKN[int(gone[0] >= COLD_FROM)]
        with np.errstate(divide="ignore"):
            return np.log(probabilities_BN).astype(np.float32)


def chunks(total: int, size: int) -> list[slice]:
    """Cut so many rows into slices of `size`, at least one row each."""
    size = max(1, size)
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def share_gone(times: Int64Array) -> Float64Array:
    """Share of the span gone at Unix seconds, 0 to 1; times outside count as its ends."""
    return np.clip((times - START) / SPAN, 0.0, 1.0)


def query_ids(count: int) -> list[str]:
    """Ids whose alphabetical order is the order of the rows."""
    return _ids("q", count)


def candidate_ids(count: int) -> list[str]:
    """Ids whose alphabetical order is the order of the rows."""
    return _ids("c", count)


def _ids(letter: str, count: int) -> list[str]:
    width = len(str(count - 1))
    return [f"{letter}{row:0{width}d}" for row in range(count)]

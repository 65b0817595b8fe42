"""The law of the simulated video service: which video a viewer starts, when, on which device.

As in `population`, a viewer q who asks at time t on device d attends to interest k with probability
`pi_k = softmax_k(s (u_q(t) + c x(t, d)) / sqrt(1 + c^2))`: `s` the preference strength, `u_q(t)` the drifting
interests, `c` the context strength, and `x` the pull of hour, weekday and device, of unit variance on average. An
interest picks video j with `P(j | k, p) = c_j a_jk e_jp / sum` in period p of the catalogue. So

    p(j | q, t, d) = sum_k pi_k(q, t, d) P(j | k, p(t)),    p(j | q, t) = sum_d p(d | q) p(j | q, t, d),

both exactly. The second is the `Truth`: what can be known before the request says its device. It is that of the moment
asked about, hour and weekday included.

Letters: Q viewers, N videos, K interests, B requests, D devices, P periods.
"""

from collections.abc import Sequence

import numpy as np

from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.config import SimulatedVideoSource
from retrieval_contract.data.sources.population import (
    SPAN,
    START,
    Float64Array,
    InterestTables,
    candidate_ids,
    query_ids,
    share_gone,
    softmax,
    stream,
)
from retrieval_contract.data.sources.video_population import DAY, DEVICES, RELEASES, Videos, Viewers
from retrieval_contract.errors import UserError

BUSY_HOURS = (2, 1, 1, 1, 1, 2, 3, 5, 6, 5, 5, 6, 7, 6, 5, 5, 6, 8, 10, 12, 13, 12, 9, 5)
"""How many requests come in each hour of the day, relative to each other."""


class VideoChoice:
    """The law that interactions are drawn from; the `Truth` of the source `simulated_video`."""

    def __init__(self, source: SimulatedVideoSource, viewers: Viewers, videos: Videos, seed: int) -> None:
        """Draw the pulls of the context and tabulate P(j | k) for every period."""
        random = stream(seed, "context")
        K = source.num_interests
        self._strength, self._drift, self._context = (
            source.preference_strength,
            source.drift,
            source.context_strength,
        )
        self._viewers = viewers
        # Neighbouring hours pull alike; a weekend pulls apart from other days.
        angle_H = 2 * np.pi * np.arange(24) / 24
        self._hour_HK = np.stack([np.sin(angle_H), np.cos(angle_H)], axis=1) @ random.standard_normal((2, K))
        weekend_K = random.standard_normal(K)
        self._weekday_WK = 0.6 * random.standard_normal((7, K)) + 0.8 * np.where(
            np.arange(7)[:, None] >= 5, weekend_K, -weekend_K
        )
        self._device_DK = random.standard_normal((len(DEVICES), K))
        weights_PNK = (videos.popularity[:, None] * videos.served)[None].repeat(len(RELEASES) + 1, axis=0)
        weights_PNK[np.arange(len(weights_PNK))[:, None] < videos.release[None]] = 0
        weights_PKN = np.ascontiguousarray(weights_PNK.transpose(0, 2, 1))
        self.tables = InterestTables(weights_PKN / weights_PKN.sum(axis=2, keepdims=True))
        self._row_of_id = {name: row for row, name in enumerate(query_ids(source.num_queries))}
        self._candidate_ids = tuple(candidate_ids(source.num_candidates))

    @property
    def candidate_ids(self) -> tuple[str, ...]:
        """Candidate ids in the order of the columns."""
        return self._candidate_ids

    def interests(self, query_rows: Int64Array, times: Int64Array, device_rows: Int64Array) -> Float64Array:
        """pi_k(q, t, d) of B requests, [B, K]."""
        shift_B1 = (self._drift * share_gone(times))[:, None]
        drifted_BK = self._viewers.interests[query_rows] + shift_B1 * self._viewers.later[query_rows]
        drifted_BK /= np.sqrt(1 + shift_B1**2)
        hour_B, weekday_B = (times // 3_600) % 24, (times // DAY + 3) % 7
        pull_BK = self._hour_HK[hour_B] + self._weekday_WK[weekday_B] + self._device_DK[device_rows]
        felt_BK = (drifted_BK + self._context / np.sqrt(3) * pull_BK) / np.sqrt(1 + self._context**2)
        return softmax(self._strength * felt_BK)

    def log_probabilities(self, query_ids: Sequence[str], time: int) -> Float32Array:
        """Natural log of p(candidate | query) at Unix second `time`, whatever the device; see `raw.Truth`."""
        unknown = [name for name in query_ids if name not in self._row_of_id]
        if unknown:
            raise UserError(f"no query {unknown[0]!r}, and {len(unknown) - 1:,} more", where="simulated video source")
        rows = np.array([self._row_of_id[name] for name in query_ids], np.int64)
        times = np.full(len(rows), time, np.int64)
        interests_BK = np.zeros((len(rows), self.tables.given_PKN.shape[1]))
        for device in range(len(DEVICES)):
            on_device_BK = self.interests(rows, times, np.full(len(rows), device))
            interests_BK += self._viewers.devices[rows, device, None] * on_device_BK
        probabilities_BN = interests_BK @ self.tables.given_PKN[periods(times[:1])[0]] if len(rows) else interests_BK
        with np.errstate(divide="ignore"):
            return np.log(probabilities_BN).astype(np.float32)


def periods(times: Int64Array) -> Int64Array:
    """Period of the catalogue, 0 to P - 1, at Unix seconds [B]."""
    return np.searchsorted(RELEASES, share_gone(times), side="right").astype(np.int64)


def draw_times(uniform_R: Float64Array) -> Int64Array:
    """Unix seconds [R] from uniforms: evenly over the days of the span, by `BUSY_HOURS` within each."""
    starts = START + 3_600 * np.arange(SPAN // 3_600)
    # The span begins at an odd minute: an hour counts as that of its middle.
    busy = np.asarray(BUSY_HOURS, np.float64)[((starts + 1_800) // 3_600) % 24]
    cumulative = np.concatenate([[0.0], np.cumsum(busy)])
    hours_R = np.interp(uniform_R * cumulative[-1], cumulative, np.arange(len(cumulative)))
    return START + np.floor(3_600 * hours_R).astype(np.int64)

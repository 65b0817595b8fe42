"""Which settings to search an index with: what was measured of each, and the choice among them.

A recall is the mean over queries of the share of the true best K that the index returns; the truth is exact search's.

Letters: Q queries, K results, T queries timed.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import threadpoolctl

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Int32Array, Int64Array, TopK
from retrieval_contract.evaluation.bootstrap import intervals
from retrieval_contract.indexes.protocol import Index

MOST_TIMED = 500
"""Queries that are timed, at most."""
LEAST_TIMED = 20
"""Queries that are timed even where they take longer than `SECONDS_TIMED`, where there are as many."""
SECONDS_TIMED = 3.0
"""Time given to timing one setting."""
WARM_UP = 5
"""Queries searched before any is timed: the first ones pay for what is allocated once."""
SAME_TIME = 0.05
"""Times are compared in steps of this share: they differ by as much from one run to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A mean over queries, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    num_queries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What an index answered, and how fast."""

    found: Int64Array
    """How many of the true best K were returned, for each query [Q]."""
    milliseconds: tuple[float, ...]
    """Time of one query by itself, on one thread [T]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One setting, as measured."""

    settings: config.Index
    k: int
    recall: Recall
    """Over the queries that settings are chosen by."""
    checked: Recall | None = None
    """Over queries that no choice has looked at; None where the setting was not worth it."""
    milliseconds: tuple[float, ...]
    """Time of one query by itself, on one thread [T]."""
    num_bytes: int
    """Memory of the vectors kept and of the structure."""
    build_seconds: float
    """Time to build the structure, which settings of the search alone share."""

    @property
    def p50_ms(self) -> float:
        """Median time of one query, milliseconds."""
        return float(np.percentile(self.milliseconds, 50))

    @property
    def p99_ms(self) -> float:
        """99th percentile of the time of one query, milliseconds."""
        return float(np.percentile(self.milliseconds, 99))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One setting that could not be measured."""

    settings: config.Index
    reason: str


def measure(index: Index, queries: Float32Array, truth: TopK, k: int) -> Measurement:
    """Ask an index all queries at once for what it finds, and one by one for the time that takes.

    Args:
        index: what is measured; everything it does counts, the rescoring of what is proposed included.
        queries: of the index's weights, [Q, D] or [Q, I, D], at least one.
        truth: rows that exact search returns for them [Q, K].
        k: K.
    """
    found = index.search(queries, k, weights_digest=index.weights_digest)
    return Measurement(found=found_of(found.rows, truth.rows), milliseconds=_timed(index, queries, k))


def found_of(rows_QK: Int32Array, true_rows_QK: Int32Array) -> Int64Array:
    """Count the rows of each query that are among the true ones [Q]; -1 is no row, and neither side repeats one."""
    both = np.sort(np.concatenate([rows_QK, true_rows_QK], axis=1), axis=1)
    return ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum(axis=1)


def recall_of(found: Int64Array, k: int, *, num_samples: int, seed: int) -> Recall:
    """Mean recall and its interval.

    Args:
        found: true rows returned, of each query [Q], at least one query.
        k: how many true rows each has.
        num_samples: resamples of the bootstrap.
        seed: of the resamples; settings that are compared share them.
    """
    shares = found[:, None] / k
    ones = np.ones((len(found), 1))
    (low,), (high,) = intervals(shares, ones, np.zeros(1, np.int64), num_samples=num_samples, seed=seed)
    return Recall(value=float(shares.mean()), low=float(low), high=float(high), num_queries=len(found))


def choose(trials: Iterable[Trial], *, target: float, max_bytes: int | None = None) -> Trial | None:
    """Choose the fastest setting that holds the target within the memory allowed.

    It holds where the lower end of the interval is at the target or above, over the queries that settings are chosen by
    and, where the setting was checked, over the others too.

    Args:
        trials: what was measured.
        target: recall to hold.
        max_bytes: memory allowed; None allows any.

    Returns:
        The one with the least median time, in steps of `SAME_TIME`; of equal ones that of the least memory, then the
        one that was tried first. None where none holds.
    """
    held = [trial for trial in trials if holds(trial, target) and fits(trial, max_bytes)]
    return min(held, key=lambda trial: (_steps(trial.p50_ms), trial.num_bytes), default=None)


def holds(trial: Trial, target: float) -> bool:
    """Whether every recall measured of a setting is at the target or above by the lower end of its interval."""
    return all(recall.low >= target for recall in (trial.recall, trial.checked) if recall is not None)


def fits(trial: Trial, max_bytes: int | None) -> bool:
    """Whether a setting needs no more memory than allowed."""
    return max_bytes is None or trial.num_bytes <= max_bytes


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """Keep what no other setting beats: fastest first, each of a larger recall than all before it."""
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.p50_ms, -trial.recall.value)):
        if not kept or trial.recall.value > kept[-1].recall.value:
            kept.append(trial)
    return kept


def _steps(milliseconds: float) -> int:
    return math.floor(math.log(milliseconds) / math.log1p(SAME_TIME))


def _timed(index: Index, queries: Float32Array, k: int) -> tuple[float, ...]:
    """Milliseconds of one query after the other, on one thread where the library listens to threadpoolctl."""
    num_queries = min(len(queries), MOST_TIMED)
    milliseconds: list[float] = []
    with threadpoolctl.threadpool_limits(limits=1):
        for place in range(-min(WARM_UP, num_queries), num_queries):
            query = queries[place % num_queries][None]
            began = time.perf_counter()
            index.search(query, k, weights_digest=index.weights_digest)
            if place >= 0:
                milliseconds.append(1e3 * (time.perf_counter() - began))
            if place >= LEAST_TIMED and sum(milliseconds) > 1e3 * SECONDS_TIMED:
                break
    return tuple(milliseconds)

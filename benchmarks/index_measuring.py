"""Latency, throughput and neighbours of many searches over the same vectors, taking turns.

Latency: one query, one thread. The searches take turns query by query, so that what disturbs the machine disturbs all;
each is asked another query first, untimed, since after all the others nothing of its own is left in the caches.
Throughput: a batch, all threads, the searches taking turns batch by batch; the first round is not timed.

Letters: Q queries, D width, K results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.index_datasets import Dataset
from benchmarks.index_neighbours import packed, recalls, refuse_repeats, unpacked
from benchmarks.index_structures import Built, Width, threads
from benchmarks.record import num_cores
from retrieval_contract.arrays import Float32Array, Int32Array

K = 100
AT = (10, 100)
"""Results that recall is told at."""
REPEATS = 3
DIGITS = 7
"""Of seconds in a raw line."""
LEAST_EXACT = 0.999
"""Recall of an exact search that ranks by float32, in which the last places may swap."""
APART = 0.02
"""How far the recall of a batch may lie from that of its queries one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A structure searched with one width."""

    built: Built
    width: Width
    latency: record.Times = field(default_factory=record.Times)
    """Of each query."""
    throughput: record.Times = field(default_factory=record.Times)
    """Of each batch."""
    rows: list[Int32Array] = field(default_factory=list)
    """Found for each query [1, K]."""
    batch_rows: list[Int32Array] = field(default_factory=list)
    """Found for the batch [any, K]."""

    @property
    def name(self) -> str:
        """Structure and width."""
        told = ", ".join(f"{name} {value}" for name, value in self.width.items())
        return f"{self.built.structure.name}{f', {told}' if told else ''}"

    def search(self, queries_QD: Float32Array, num_threads: int) -> Int32Array:
        """The K best of each query."""
        return self.built.search(queries_QD, K, self.width, num_threads)


def settings_of(everyone: Sequence[Built]) -> list[Setting]:
    """Every structure with every width."""
    return [Setting(built=each, width=width) for each in everyone for width in each.structure.widths]


def measure(settings: Sequence[Setting], dataset: Dataset) -> None:
    """Take the times of all settings, and keep what they find."""
    with threads(1):
        for place in range(len(dataset.queries)):
            for setting in settings:
                _one(setting, dataset.queries, place)
    num_threads = num_cores()
    with threads(num_threads):
        for repeat in range(1 + REPEATS):
            for setting in settings:
                times = setting.throughput if repeat else record.Times()
                setting.batch_rows[:] = []
                times.take(lambda of=setting: of.batch_rows.append(of.search(dataset.batch, num_threads)))  # type: ignore[misc]


def check(setting: Setting, dataset: Dataset) -> dict[str, float]:
    """Recall of a setting, after making sure that it may be printed beside its times.

    Returns:
        Mean recall at each of `AT`, by name.

    Raises:
        AssertionError: a row is found twice or does not exist; an exact search misses; the neighbours that are
            written say another recall; or the batch's answers are not those of its queries.
    """
    rows_QK, truth_QT = np.concatenate(setting.rows), dataset.truth
    refuse_repeats(rows_QK, setting.name)
    assert (rows_QK < len(dataset.candidates)).all(), f"{setting.name} finds a row that does not exist"
    found = {f"recall@{at}": float(recalls(rows_QK, truth_QT, at).mean()) for at in AT}
    if setting.built.structure.is_exact:
        least = LEAST_EXACT if setting.built.structure.library != "here" else 1.0
        assert min(found.values()) >= least, f"{setting.name} is exact and misses: {found}"
        assert least < 1 or (rows_QK == truth_QT[:, :K]).all(), f"{setting.name} ranks otherwise than the truth"
    written = unpacked(packed(rows_QK, truth_QT), truth_QT)
    assert found == {f"recall@{at}": float(recalls(written, truth_QT, at).mean()) for at in AT}, "packing loses"
    (batch_QK,) = setting.batch_rows
    batched = float(recalls(batch_QK[: len(truth_QT)], truth_QT, K).mean())
    assert abs(batched - found[f"recall@{K}"]) <= APART, f"{setting.name}: {found}, and {batched} in a batch"
    return found


def described(setting: Setting, dataset: Dataset) -> dict[str, Any]:
    """What a raw line says of a setting beside its times: what it is, what its building took, and what it found."""
    structure = setting.built.structure
    return {
        "dataset": dataset.name,
        "setting": setting.name,
        "structure": structure.name,
        "library": structure.library,
        "build_seconds": setting.built.times.wall[0],
        "neighbours": packed(np.concatenate(setting.rows), dataset.truth),
    }


def rounded(times: record.Times) -> record.Times:
    """Times to a tenth of a microsecond: hundreds of them stand in a line."""
    return record.Times(*([round(value, DIGITS) for value in values] for values in (times.wall, times.cpu)))


def _one(setting: Setting, queries_QD: Float32Array, place: int) -> None:
    before = (place + len(queries_QD) // 2) % len(queries_QD)
    setting.search(queries_QD[before : before + 1], 1)
    setting.latency.take(lambda: setting.rows.append(setting.search(queries_QD[place : place + 1], 1)))

"""The streaming estimator of how often a candidate is in a batch: two dictionaries and two loops.

At step t, for each bucket that a candidate of the batch falls into: `G <- (1 - a) G + a (t - A)`, `A <- t`; each
distinct bucket once a step, however many candidates share it. `p = 1 / max_k G_k` over the hashes.

Source: Yi, Yang, Hong et al., RecSys 2019, algorithms 2 and 3 (their B is G here).
"""

import math
from collections.abc import Callable, Iterable, Sequence

Hash = Callable[[int], int]
"""Candidate row -> bucket."""


class Estimator:
    """Every bucket starts as if last seen at step 0, with a gap of its own choice."""

    def __init__(self, hashes: Sequence[Hash], *, rate: float, start_gap: float) -> None:
        """One pair of dictionaries a hash."""
        self.hashes = hashes
        self.rate = rate
        self.start_gap = start_gap
        self.step = 0
        self.last_seen: list[dict[int, int]] = [{} for _ in hashes]
        self.gaps: list[dict[int, float]] = [{} for _ in hashes]

    def update(self, candidate_rows: Iterable[int]) -> None:
        """Count one batch."""
        self.step += 1
        rows = list(candidate_rows)
        for hash_of, last_seen, gaps in zip(self.hashes, self.last_seen, self.gaps, strict=True):
            for bucket in {hash_of(row) for row in rows}:
                gap = self.step - last_seen.get(bucket, 0)
                gaps[bucket] = (1 - self.rate) * gaps.get(bucket, self.start_gap) + self.rate * gap
                last_seen[bucket] = self.step

    def log_q(self, candidate_row: int) -> float:
        """`-log` of the largest of its gaps."""
        pairs = zip(self.hashes, self.gaps, strict=True)
        return -math.log(max(gaps.get(hash_of(candidate_row), self.start_gap) for hash_of, gaps in pairs))

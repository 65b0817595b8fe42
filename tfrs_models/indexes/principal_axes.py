"""The directions in which candidates differ: a part of them often suffices to choose what is scored exactly.

A score is <q, x> = <q, m> + <q, x - m> with m the candidates' mean. The first term is the same for all candidates, so
that only x - m needs to be kept to rank them, and of that the principal axes that hold most of the variance.

Letters: N candidates, D width, C dimensions kept.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from retrieval_contract.arrays import Float32Array

MULTIPLE = 8
"""Numbers are read in groups of so many anyway."""
CHUNK = 65_536
"""Candidates at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Directions that are kept."""

    mean: Float32Array
    """Subtracted from a candidate before it is turned [D]."""
    directions: Float32Array
    """Orthonormal columns, the one of most variance first [D, C]."""

    @classmethod
    def all(cls, dim: int) -> Self:
        """Every dimension as it is: turned vectors are the vectors themselves, to the bit."""
        return cls(mean=np.zeros(dim, np.float32), directions=np.eye(dim, dtype=np.float32))

    @classmethod
    def principal(cls, values_ND: Float32Array, share: float) -> Self:
        """Fewest principal axes, rounded up to `MULTIPLE`, that hold a share of the variance; all dimensions for 1.

        Args:
            values_ND: candidates, N of 1 or more.
            share: above 0, up to 1.
        """
        dim = values_ND.shape[1]
        if share >= 1:
            return cls.all(dim)
        mean_D = values_ND.mean(axis=0, dtype=np.float64)
        moments_DD = np.zeros((dim, dim))
        for start in range(0, len(values_ND), CHUNK):
            part_ND = values_ND[start : start + CHUNK] - mean_D
            moments_DD += part_ND.T @ part_ND
        variances_D, directions_DD = np.linalg.eigh(moments_DD)
        held_D = np.cumsum(variances_D[::-1])
        num_needed = 1 + int(np.searchsorted(held_D, share * held_D[-1]))
        num_kept = min(dim, -(-num_needed // MULTIPLE) * MULTIPLE)
        directions_DC = np.ascontiguousarray(directions_DD[:, ::-1][:, :num_kept], np.float32)
        return cls(mean=mean_D.astype(np.float32), directions=directions_DC)

    def turned(self, values_ND: Float32Array) -> Float32Array:
        """Candidates, or centroids of them, along the axes [N, C]."""
        return np.asarray((values_ND - self.mean) @ self.directions, np.float32)

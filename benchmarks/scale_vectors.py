"""The clustered vectors of `serving_vectors`, by chunks: as many as are asked for, of which few are held at a time.

Letters: N candidates, Q queries, D width, C of a chunk.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np

from benchmarks.serving_vectors import CLUSTER_SIZE, LATENT, NOISE, SPREAD, Law
from retrieval_contract.arrays import Float32Array

CHUNK = 100_000
"""Vectors of a chunk."""


@final
class ChunkedVectors:
    """N candidates that are drawn again, the same, each time they are gone through."""

    def __init__(self, size: int, num_queries: int, dim: int, *, seed: int) -> None:
        """Draw the law and the queries.

        Args:
            size: N.
            num_queries: Q.
            dim: D.
            seed: of everything.
        """
        self.size, self.dim, self._seed = size, dim, seed
        self._law = Law.of(size, dim, latent=LATENT, generator=np.random.default_rng(seed))
        self.queries: Float32Array = self._law.vectors(num_queries, self._generator(1))
        self.facts: Mapping[str, Any] = {
            "latent": LATENT,
            "cluster_size": CLUSTER_SIZE,
            "spread": SPREAD,
            "noise": NOISE,
        }

    def chunks(self) -> Iterator[Float32Array]:
        """All candidates, in order [C, D]."""
        for place, start in enumerate(range(0, self.size, CHUNK)):
            yield self._law.vectors(min(CHUNK, self.size - start), self._generator(2, place))

    def sample(self, size: int) -> Float32Array:
        """So many vectors of the same law, to train on; not the candidates themselves [any, D]."""
        return self._law.vectors(min(size, self.size), self._generator(3))

    def _generator(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *what])

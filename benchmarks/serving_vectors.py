"""Vectors as two towers leave them: unit length, clustered, in few of the directions that their width has.

A vector is `normalize(basis^T normalize(centre_c + SPREAD z) + noise e / sqrt(D))`: centres and z are normal in as many
dimensions as stated, cluster c is drawn with probability proportional to 1 / sqrt(c + 1), e is normal in all D.

Letters: N vectors, Q queries, D width, R latent dimensions, C clusters.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array

LATENT = 24
"""Dimensions R that the vectors live in but for noise. Seen through 20 nearest neighbours, 200,000 of width 128 look 15
wide (`estimated_dimension`), and ScaNN's recall@100 by TFRS's defaults is 0.77."""
CLUSTER_SIZE = 100
"""Candidates of a cluster, on average."""
SPREAD = 0.6
"""Size of a cluster, where 1 is the distance between clusters: they overlap."""
NOISE = 0.2
"""Length of what lies outside the R dimensions, where 1 is the length within."""
NEIGHBOURS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A catalogue and what is asked of it."""

    candidates: Float32Array
    """[N, D], unit length."""
    queries: Float32Array
    """[Q, D], unit length, by the same law."""


def draw(
    num_candidates: int, num_queries: int, dim: int, *, latent: int = LATENT, noise: float = NOISE, seed: int
) -> Drawn:
    """Draw candidates and queries.

    Args:
        num_candidates: N.
        num_queries: Q.
        dim: D.
        latent: R, at most D.
        noise: as of `NOISE`, which neighbours nearer than that see as further dimensions.
        seed: of everything.
    """
    generator = np.random.default_rng(seed)
    law = Law.of(num_candidates, dim, latent=latent, noise=noise, generator=generator)
    return Drawn(candidates=law.vectors(num_candidates, generator), queries=law.vectors(num_queries, generator))


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What vectors are drawn by."""

    centres: Float32Array
    """[C, R]."""
    basis: Float32Array
    """[D, R], columns orthonormal."""
    noise: float
    """As of `NOISE`."""

    @classmethod
    def of(
        cls, num_candidates: int, dim: int, *, latent: int, noise: float = NOISE, generator: np.random.Generator
    ) -> Self:
        """Draw clusters for so many candidates; arguments as of `draw`."""
        num_clusters = max(1, num_candidates // CLUSTER_SIZE)
        centres_CR = generator.standard_normal((num_clusters, latent), np.float32)
        basis_DR = np.linalg.qr(generator.standard_normal((dim, latent)))[0].astype(np.float32)
        return cls(centres=centres_CR, basis=basis_DR, noise=noise)

    def vectors(self, num: int, generator: np.random.Generator) -> Float32Array:
        """Draw vectors [N, D]."""
        weights_C = 1 / np.sqrt(np.arange(1, len(self.centres) + 1))
        at_N = generator.choice(len(self.centres), num, p=weights_C / weights_C.sum())
        noise_NR = generator.standard_normal((num, self.centres.shape[1]), np.float32)
        z_NR = unit(self.centres[at_N] + np.float32(SPREAD) * noise_NR)
        values_ND = generator.standard_normal((num, len(self.basis)), np.float32)
        values_ND *= np.float32(self.noise / np.sqrt(len(self.basis)))
        values_ND += z_NR @ self.basis.T
        return unit(values_ND)


def estimated_dimension(values_ND: Float32Array, sample: int = 500) -> float:
    """Intrinsic dimension of unit vectors as their nearest neighbours show it.

    Source: Levina and Bickel, Maximum likelihood estimation of intrinsic dimension, NIPS 2004, eq. 8, averaged as
    MacKay and Ghahramani proposed (the mean of the inverse estimates).
    """
    products = values_ND[:sample] @ values_ND.T
    nearest = -np.partition(-products, NEIGHBOURS + 1, axis=1)[:, : NEIGHBOURS + 1]
    distances = np.sort(np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 1e-12)), axis=1)[:, 1:]
    logs: NDArray[np.float64] = np.log(distances[:, -1:] / distances[:, :-1])
    return float(1 / logs.mean())


def unit(values_ND: Float32Array) -> Float32Array:
    """Vectors of length 1."""
    return values_ND / np.linalg.norm(values_ND, axis=1, keepdims=True)

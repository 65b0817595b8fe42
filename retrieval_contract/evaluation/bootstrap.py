"""95 % intervals by resampling queries with replacement (Efron 1979, the percentile method).

Every column is a ratio of sums over queries; a plain mean has ones below. All columns share the resamples, so that
intervals of a model and of its baselines come from the same draws.

Letters: Q queries, S resamples, C columns, G kinds of denominator.
"""

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Int64Array
from retrieval_contract.evaluation.threads import MAX_THREADS, in_threads

Float64Array = NDArray[np.float64]

LEVEL = 0.95
"""Share of the resampled values inside an interval."""


def intervals(
    numerators_QC: Float64Array,
    denominators_QG: Float64Array,
    kinds_C: Int64Array,
    *,
    num_samples: int,
    seed: int,
    max_bytes: int = 256_000_000,
) -> tuple[Float64Array, Float64Array]:
    """Bound each ratio of sums.

    Args:
        numerators_QC: what each query adds above.
        denominators_QG: what it adds below; 0 for a query that does not count.
        kinds_C: which denominator each column has.
        num_samples: S, resamples.
        seed: resample s is drawn from a stream keyed by (seed, s), so that they do not depend on `max_bytes`.
        max_bytes: bound on the memory of resamples.

    Returns:
        Lower and upper bounds, each [C]. Resamples whose denominator is 0 are left out; where that is all of them, NaN.
    """
    num_queries = len(numerators_QC)
    ratios_SC = np.empty((num_samples, numerators_QC.shape[1]))

    def resample(samples: range) -> None:
        weights = np.stack([_multiplicities(num_queries, seed, sample) for sample in samples])
        below = (weights @ denominators_QG)[:, kinds_C]
        with np.errstate(invalid="ignore"):
            ratios_SC[samples.start : samples.stop] = weights @ numerators_QC / below

    # A draw, its multiplicities as integers, and twice as floats while they are stacked. As many together whatever the
    # number of threads is, since sums of other sizes differ in their last bit.
    step = max(1, min(64, max_bytes // (32 * num_queries * MAX_THREADS)))
    in_threads(resample, [range(start, min(start + step, num_samples)) for start in range(0, num_samples, step)])
    return _quantiles(ratios_SC)


def _multiplicities(num_queries: int, seed: int, sample: int) -> Float64Array:
    """How often each query is in a resample of as many as there are [Q]: one draw of the multinomial."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, sample])))
    drawn = generator.integers(0, num_queries, num_queries)
    return np.bincount(drawn, minlength=num_queries).astype(np.float64)


def _quantiles(ratios_SC: Float64Array) -> tuple[Float64Array, Float64Array]:
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    defined = np.isfinite(ratios_SC)
    if defined.all():
        low, high = np.quantile(ratios_SC, tails, axis=0)
        return low, high
    bounds = np.full((2, ratios_SC.shape[1]), np.nan)
    some = defined.any(axis=0)
    bounds[:, some] = np.nanquantile(np.where(defined, ratios_SC, np.nan)[:, some], tails, axis=0)
    return bounds[0], bounds[1]

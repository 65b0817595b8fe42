"""How cost grows with the number of candidates, and what that says of sizes that nobody measured here.

cost = a N^b, fitted by least squares of log cost over log N, sizes weighted alike; the interval of a prediction is that
of a new observation under the fit (Student's t, 95 %), so that two points, which leave nothing over, give none.
Where an algorithm's operations are known, the powers are too, and only their shares are fitted: `Terms`.

Letters: N candidates, S sizes measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A power law."""

    factor: float
    """a."""
    exponent: float
    """b."""
    spread: float
    """Standard deviation of what is left of log cost; NaN where nothing is."""
    logs: tuple[float, ...]
    """Log N of what was fitted [S]."""

    def at(self, size: float) -> float:
        """Cost of N candidates."""
        return self.factor * size**self.exponent

    def interval(self, size: float) -> tuple[float, float] | None:
        """95 % of a measurement at N candidates; None where no more than two sizes were fitted."""
        left = len(self.logs) - 2
        if left < 1:
            return None
        logs = np.array(self.logs)
        far = (math.log(size) - logs.mean()) ** 2 / ((logs - logs.mean()) ** 2).sum()
        reach = float(stats.t.ppf(0.975, left)) * self.spread * math.sqrt(1 + 1 / len(logs) + far)
        return self.at(size) * math.exp(-reach), self.at(size) * math.exp(reach)


def fit(sizes: Sequence[int], costs: Sequence[float]) -> Fit:
    """Fit a power law.

    Args:
        sizes: N of each, two different ones at least.
        costs: positive.
    """
    assert len(set(sizes)) == len(sizes) == len(costs) >= 2, "a line needs two points"
    logs, values = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(costs, np.float64))
    exponent, constant = np.polyfit(logs, values, 1)
    left = values - (exponent * logs + constant)
    spread = float(np.sqrt((left**2).sum() / (len(sizes) - 2))) if len(sizes) > 2 else math.nan
    return Fit(factor=math.exp(constant), exponent=float(exponent), spread=spread, logs=tuple(logs.tolist()))


def num_shards(total_bytes: float, machine_bytes: float, filled: float) -> int:
    """Machines that hold so many bytes, each filled to a share of its memory."""
    assert 0 < filled <= 1, "a share"
    return max(1, math.ceil(total_bytes / (machine_bytes * filled)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A sum of known powers, as an algorithm's operations are counted: cost = sum of c_i N^(p_i), no c_i below 0."""

    powers: tuple[float, ...]
    """p."""
    factors: tuple[float, ...]
    """c."""

    def at(self, size: float) -> float:
        """Cost of N candidates."""
        return sum(factor * size**power for factor, power in zip(self.factors, self.powers, strict=True))


def fit_terms(sizes: Sequence[int], costs: Sequence[float], powers: Sequence[float]) -> Terms:
    """Fit a sum of powers by least squares of the relative errors.

    Args:
        sizes: N of each.
        costs: positive.
        powers: of the terms.
    """
    assert len(sizes) == len(costs) >= 1, "one cost a size"
    values = np.asarray(costs, np.float64)[:, None]
    # Scaled to the largest size, so that the terms are of one magnitude.
    largest = max(sizes)
    terms = (np.asarray(sizes, np.float64)[:, None] / largest) ** np.asarray(powers, np.float64)
    factors, _ = optimize.nnls(terms / values, np.ones(len(values)))
    scaled = (float(factor) / largest**power for factor, power in zip(factors, powers, strict=True))
    return Terms(powers=tuple(powers), factors=tuple(scaled))

"""How much of a ratio is noise: medians with their intervals, and the words for them.

Machines are shared and clocks drift, so a lone time says little. Two things are compared by the ratio of their medians,
with an interval of 95 %; where that holds 1 there is no difference to speak of.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
FEW = 6
"""Below so many times no interval of a median reaches 95 %."""
RESAMPLES = 2_000
SEED = 0
"""Of the bootstrap: the same times give the same interval."""
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long one thing takes as another, with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the interval, as it is printed, leaves 1 out."""
        return not float(_rounded(self.low)) <= 1 <= float(_rounded(self.high))

    def says(self) -> str:
        """The ratio and its interval, behind 'no difference' where the interval holds 1."""
        figures = f"{_rounded(self.value)} [{_rounded(self.low)}, {_rounded(self.high)}]"
        return figures if self.differs else f"no difference ({figures})"


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Median of slow over fast, turn by turn: what slows both of a pair leaves their ratio alone.

    The interval is of order statistics, so that it assumes nothing of the noise. Fewer than six pairs cannot reach
    95 %: the interval is then all that was seen.

    Args:
        slow: seconds of the numerator, by turn.
        fast: seconds of the denominator, of the same turns.
    """
    assert len(slow) == len(fast) > 0, f"{len(slow)} turns beside {len(fast)}"
    ratios = np.sort(np.asarray(slow, np.float64) / np.asarray(fast, np.float64))
    # So many of the least and of the largest are beyond the interval, by the binomial distribution of a median.
    beyond = max(0, int(stats.binom.ppf((1 - CONFIDENCE) / 2, len(ratios), 0.5)) - 1)
    return Ratio(float(np.median(ratios)), float(ratios[beyond]), float(ratios[len(ratios) - 1 - beyond]))


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Ratio of the medians of times that were not taken in turns; its interval from a bootstrap of both.

    A bootstrap of fewer than six times promises too much: the interval is then from the least to the largest ratio of
    any two.

    Args:
        slow: seconds of the numerator.
        fast: seconds of the denominator.
    """
    assert slow and fast, "a median of nothing"
    value = float(np.median(slow) / np.median(fast))
    if min(len(slow), len(fast)) < FEW:
        return Ratio(value, min(slow) / max(fast), max(slow) / min(fast))
    generator = np.random.default_rng(SEED)
    resampled = _medians(slow, generator) / _medians(fast, generator)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(value, float(low), float(high))


def spread(seconds: Sequence[float]) -> str:
    """Median with quartiles, in a unit that suits: '41.2 ms (39.8 to 45.1)'."""
    low, middle, high = np.quantile(np.asarray(seconds, np.float64), [0.25, 0.5, 0.75])
    scale, unit = next((pair for pair in UNITS if middle >= pair[0]), UNITS[-1])
    return f"{_digits(middle / scale)} {unit} ({_digits(low / scale)} to {_digits(high / scale)})"


def _medians(values: Sequence[float], generator: np.random.Generator) -> NDArray[np.float64]:
    drawn = generator.choice(np.asarray(values, np.float64), size=(RESAMPLES, len(values)))
    return np.median(drawn, axis=1)


def _rounded(value: float) -> str:
    """Two decimals below 10, one below 100, none beyond."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _digits(value: float) -> str:
    """Three digits that count, never an exponent."""
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, min(2, decimals))}f}"

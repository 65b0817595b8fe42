"""Random numbers that stay what they are: raw Philox output, whose bits the algorithm fixes.

NumPy's own draws (integers, choice, shuffle) may change from version to version, and then a resumed run would not
repeat its bytes.
"""

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


def stream(*keys: int) -> np.random.Philox:
    """Open the stream of these keys, 0 or more each; no stream depends on how far another was read."""
    return np.random.Philox(np.random.SeedSequence(keys))


def uniforms(draws: np.random.Philox, num: int) -> Float64Array:
    """Draw numbers in [0, 1) [num], by the usual 53 bits of the raw output.

    `floor(u n)` is below n for every n up to 2^53, so it can be used as a place without a check.
    """
    return (draws.random_raw(num) >> np.uint64(11)).astype(np.float64) * 2.0**-53

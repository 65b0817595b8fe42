"""Activations of the hidden layers and their slopes, in float64.

Source: relu, tanh; gelu is x Phi(x) with the exact normal distribution function (Hendrycks and Gimpel 2016, eq. 1, not
the tanh approximation); silu is x sigma(x) (Elfwing et al. 2017; Ramachandran et al. 2017, beta = 1).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

Array = NDArray[np.float64]


def activate(name: str, x: Array) -> Array:
    """Value of the activation, element by element."""
    if name == "relu":
        return np.maximum(x, 0)
    if name == "tanh":
        return np.tanh(x)
    if name == "silu":
        return x * expit(x)
    assert name == "gelu", name
    return x * _normal_distribution(x)


def slope(name: str, x: Array) -> Array:
    """Derivative of the activation, element by element; 0 for relu at 0."""
    if name == "relu":
        return (x > 0).astype(np.float64)
    if name == "tanh":
        return 1 - np.tanh(x) ** 2
    if name == "silu":
        return expit(x) * (1 + x * (1 - expit(x)))
    assert name == "gelu", name
    return _normal_distribution(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def _normal_distribution(x: Array) -> Array:
    return (1 + erf(x / np.sqrt(2))) / 2

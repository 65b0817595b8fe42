"""A list of values becomes one vector: the mean, sum, sqrt_n or maximum of their embeddings.

    sum     sum_m w_m e_m          mean    sum_m w_m e_m / sum_m w_m
    sqrt_n  sum_m w_m e_m / sqrt(sum_m w_m^2)      max     max_m e_m, weights not looked at

over the places that are not padding; w is 1 where a list has no weights; a list of nothing, or whose weights are all 0,
gives zeros.

Source: the docstring of `ListPooling`; sqrt_n with weights: the combiners of tf.nn.embedding_lookup_sparse.
Letters: M places of a list, W width of an embedding; leading axes are whatever they are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles.differentiation import Array, Node, largest, where


def pooled_list(values: Node, rows: NDArray[Any], pooling: str, weights: NDArray[Any] | None = None) -> Node:
    """One vector for each list.

    Args:
        values: embeddings [..., M, W].
        rows: vocabulary rows [..., M]; 0 is padding.
        pooling: a `ListPooling`.
        weights: [..., M], finite and not negative; none means 1.

    Returns:
        Vectors [..., W].
    """
    real = is_value(rows)
    if pooling == "max":
        taken = largest(where(real[..., None], values, -np.inf), axis=-2)
        return where(np.any(real, axis=-1, keepdims=True), taken, 0.0)
    factors = np.asarray(real if weights is None else np.where(real, weights, 0), np.float64)
    shares = factors / divisor(pooling, factors)
    return (where(real[..., None], values, 0.0) * shares[..., None]).sum(axis=-2)


def is_value(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a place holds a value, the unknown one too."""
    return rows != 0


def divisor(pooling: str, factors: Array) -> Array:
    """What the weighed sum is divided by, from the weights [..., M], 0 on padding; 1 where all are 0."""
    totals = {
        "sum": np.ones(factors.shape[:-1]),
        "mean": factors.sum(axis=-1),
        "sqrt_n": np.sqrt((factors**2).sum(axis=-1)),
    }[pooling]
    return np.where(totals > 0, totals, 1)[..., None]

"""Logits, in the order in which their terms do not commute, in float64.

    s_ij = <q_i, v_j> / tau + b_j - log_q_j

With the refined correction nothing is subtracted here; the loss does it. tau = exp(clip(theta, low, high)) where it is
learned, and the clip lets a gradient through on its bounds and inside, never outside.

Source: numerics, order on the logits; logQ: Bengio and Senecal 2008; Yi et al., RecSys 2019, eq. 4.
Letters: B queries in the batch, N columns of a row, D vector width.
"""

import numpy as np

from parity_tests.oracles.differentiation import Array, Node
from parity_tests.oracles.inputs import NamedArrays
from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import LOG_TEMPERATURE


def products(query_BD: Node, candidate_BND: Node) -> Node:
    """Step 1: inner product of each query with each of its columns [B, N]."""
    return (query_BD[:, None, :] * candidate_BND).sum(2)


def logits(products_BN: Node, *, temperature: float, bias_BN: Node, log_q_BN: Array) -> Node:
    """Steps 2 and 3: over temperature, plus bias, minus log_q."""
    return products_BN / temperature + bias_BN - log_q_BN


def subtracted_log_q(config: RunConfig, log_q_BN: Array) -> Array:
    """What step 3 subtracts: nothing without a correction, and nothing where the loss corrects (refined)."""
    return np.zeros_like(log_q_BN) if config.loss.log_q in ("none", "refined") else log_q_BN


def temperature(config: RunConfig, weights: NamedArrays) -> float:
    """tau, learned or fixed."""
    if not config.loss.learn_temperature:
        return config.loss.temperature
    low, high = config.loss.log_temperature_range
    return float(np.exp(np.clip(_log_temperature(weights), low, high)))


def clip_slope(config: RunConfig, weights: NamedArrays) -> float:
    """Derivative of the clip: 1 inside the range and on its bounds, 0 outside."""
    low, high = config.loss.log_temperature_range
    return float(low <= _log_temperature(weights) <= high)


def _log_temperature(weights: NamedArrays) -> float:
    return float(np.asarray(weights[LOG_TEMPERATURE], np.float64)[0])

"""Several vectors of one query: MIND and ComiRec-SA, and how a label chooses among them in training.

    MIND     u_l = h_l S; b_li from the routing weight; each iteration w = softmax over the interests i of b,
             z_i = sum_l w_li u_l, k_i = |z_i|^2 / (1 + |z_i|^2) z_i / |z_i|; between iterations b_li += <k_i, u_l>
             without a gradient; label: sum_i softmax_i(sign(s_i) |s_i|^p) k_i with s_i = <k_i, v>
    ComiRec  A = softmax over the items of tanh((h + P) W1) W2; U_i = sum_l A_li h_l; label: the i with largest <U_i, v>

Source: Li et al., CIKM 2019, algorithm 1 and eq. 8 (the power acts on the product's size, its sign is kept); Cen et
al., KDD 2020, eq. 2, 3 and 6, with positions from section 3.2.2.
Letters: B rows of the batch, L places of a history, I interests, W width of an item, D width of a vector.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles.differentiation import Array, Node, elementwise, root, softmax, stopped, where
from parity_tests.oracles.inputs import Nodes
from parity_tests.oracles.items import is_real, steps_back
from parity_tests.oracles.layers import activated


def mind(items_BLW: Node, rows_BL: NDArray[Any], num_iterations: int, weights: Nodes, name: str) -> Node:
    """Capsules [B, I, W], routed from the fixed draw; an empty history gives zeros."""
    real_BL1 = is_real(rows_BL)[:, :, None]
    u_BLW = items_BLW @ weights[f"{name}kernel"]
    logits_BLI = stopped(weights[f"{name}routing"][steps_back(rows_BL)])
    for _ in range(num_iterations - 1):
        capsules_BIW = capsules(logits_BLI, u_BLW, real_BL1)
        logits_BLI = logits_BLI + held(u_BLW @ capsules_BIW.swapped(1, 2))
    return capsules(logits_BLI, u_BLW, real_BL1)


def capsules(logits_BLI: Node, u_BLW: Node, real_BL1: NDArray[np.bool_]) -> Node:
    """One iteration: what each capsule gathers, squashed [B, I, W]."""
    shares_BLI = where(real_BL1, routing_shares(logits_BLI, real_BL1), 0.0)
    return squashed(shares_BLI.swapped(1, 2) @ u_BLW)


def routing_shares(logits_BLI: Node, real_BL1: NDArray[np.bool_]) -> Node:
    """How an item divides itself among the capsules: softmax over the capsules."""
    return softmax(logits_BLI, 2, real_BL1)


def held(x: Node) -> Node:
    """What passes from one routing iteration to the next: a number, and no gradient."""
    return stopped(x)


def squashed(z: Node) -> Node:
    """`|z|^2 / (1 + |z|^2) z / |z|` along the last axis; 0, without a gradient, at 0."""
    square = (z * z).sum(z.value.ndim - 1, keepdims=True)
    return z * (root(square) / (square + 1.0))


def comirec(items_BLW: Node, rows_BL: NDArray[Any], weights: Nodes, name: str) -> Node:
    """Interests [B, I, W]; an empty history gives zeros."""
    placed_BLW = items_BLW + weights[f"{name}position"][steps_back(rows_BL)]
    hidden_BLA = activated("tanh", placed_BLW @ weights[f"{name}kernel_1"])
    shares_BLI = softmax(hidden_BLA @ weights[f"{name}kernel_2"], 1, is_real(rows_BL)[:, :, None])
    return shares_BLI.swapped(1, 2) @ items_BLW


def attended(interests_BID: Node, label_BD: Node, power: float) -> Node:
    """What the label attends to [B, D]; the gradient flows to interests and label."""
    scores_BI = (interests_BID * label_BD[:, None, :]).sum(2)
    shares_BI = softmax(signed_power(scores_BI, power), 1, np.ones(scores_BI.shape, bool))
    return (shares_BI[:, :, None] * interests_BID).sum(1)


def chosen(interests_BID: Node, label_BD: Node) -> Node:
    """The interest with the largest product with the label [B, D], the first of equals; none flows to the label."""
    choice_B = np.argmax((interests_BID.value * label_BD.value[:, None, :]).sum(axis=2), axis=1)
    return interests_BID[np.arange(len(choice_B)), choice_B]


def signed_power(x: Node, power: float) -> Node:
    """`sign(x) |x|^power`; at 0 it has a slope only where the power is 1."""
    size = np.abs(x.value)
    inner = np.where(size > 0, size, 1)
    slope: Array = np.where(size > 0, power * inner ** (power - 1), float(power == 1))
    return elementwise(x, np.sign(x.value) * size**power, slope)

"""Items of a history become one vector: mean, weighted mean, attention, gated recurrent unit.

    mean            sum_l h_l / n
    weighted mean   sum_l w_l h_l / sum_l w_l                       0 where all weights are 0
    attention       softmax_l(v . tanh(h_l W + b)) over the real items
    gru             r = sigmoid(x W_r + b_r + h U_r + c_r), z likewise, n = tanh(x W_n + b_n + r * (h U_n + c_n)),
                    h' = (1 - z) * n + z * h from h = 0; columns of the kernels: r, z, n

Source: docstrings of the poolings; GRU: Cho et al., EMNLP 2014, eq. 5 to 8, with the reset gate behind the recurrent
product (Chung et al. 2014 has it before) and z keeping the old state, as in Hidasi et al., ICLR 2016, read by cuDNN.
Letters: B rows of the batch, L places of a history, oldest first, W width of an item.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from parity_tests.oracles.differentiation import Node, concatenated, elementwise, node, softmax, where
from parity_tests.oracles.inputs import Nodes
from parity_tests.oracles.layers import activated
from parity_tests.oracles.lists import pooled_list


def mean(items_BLW: Node, rows_BL: NDArray[Any]) -> Node:
    """Mean of the real items [B, W]."""
    return pooled_list(items_BLW, rows_BL, "mean")


def weighted_mean(items_BLW: Node, rows_BL: NDArray[Any], weights_BL: NDArray[Any]) -> Node:
    """Mean of the real items by given weights [B, W]."""
    return pooled_list(items_BLW, rows_BL, "mean", weights_BL)


def attention(items_BLW: Node, real_BL: NDArray[np.bool_], weights: Nodes, name: str) -> Node:
    """Items by a learned score [B, W]; `name` is the history's, with a dot behind."""
    hidden_BLW = activated("tanh", items_BLW @ weights[f"{name}kernel"] + weights[f"{name}bias"])
    scores_BL1 = hidden_BLW @ weights[f"{name}vector"]
    return (softmax(scores_BL1, 1, real_BL[:, :, None]) * items_BLW).sum(1)


def gru_states(items_BLW: Node, real_BL: NDArray[np.bool_], weights: Nodes, name: str) -> Node:
    """State behind each place [B, L, W]; a padded place leaves it as it is."""
    state_BW, states = node(np.zeros((items_BLW.shape[0], items_BLW.shape[2]))), []
    for place in range(items_BLW.shape[1]):
        inputs = items_BLW[:, place] @ weights[f"{name}input_kernel"] + weights[f"{name}input_bias"]
        recurrent = state_BW @ weights[f"{name}recurrent_kernel"] + weights[f"{name}recurrent_bias"]
        after_BW = gru_step(state_BW, gates(inputs), gates(recurrent))
        state_BW = where(real_BL[:, place, None], after_BW, state_BW)
        states.append(state_BW[:, None])
    return concatenated(states, axis=1)


def gates(columns_B3W: Node) -> tuple[Node, Node, Node]:
    """Reset, update and new part of the columns, in this order."""
    width = columns_B3W.shape[1] // 3
    return columns_B3W[:, :width], columns_B3W[:, width : 2 * width], columns_B3W[:, 2 * width :]


def gru_step(state_BW: Node, inputs: tuple[Node, Node, Node], recurrent: tuple[Node, Node, Node]) -> Node:
    """The next state, from what input and state give to each gate, biases added."""
    reset, update = sigmoid(inputs[0] + recurrent[0]), sigmoid(inputs[1] + recurrent[1])
    new = activated("tanh", inputs[2] + reset * recurrent[2])
    return (1.0 - update) * new + update * state_BW


def sigmoid(x: Node) -> Node:
    """`1 / (1 + exp(-x))`."""
    p = expit(x.value)
    return elementwise(x, p, p * (1 - p))

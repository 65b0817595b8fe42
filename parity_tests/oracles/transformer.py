"""A causal transformer over the items of a history (SASRec), pre-norm.

    x = item + position[steps back]                                          0 at padded places
    x += attention(norm_1(x));  x += ff1(act(ff0(norm_2(x))));  at the end a norm
    attention: heads are contiguous slices of W; softmax(q k^T / sqrt(W / H)) over real keys not later than the query

Source: Kang and McAuley, ICDM 2018, section 3; Vaswani et al. 2017, eq. 1; pre-norm: Xiong et al., ICML 2020. Differs
from SASRec: positions count back from the newest item, keys are normed too, the activation is configured.
Letters: B rows of the batch, L places, oldest first, W width, H heads, K width of a head.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles.differentiation import Node, concatenated, softmax, where
from parity_tests.oracles.inputs import Nodes
from parity_tests.oracles.items import is_real, steps_back
from parity_tests.oracles.layers import activated, dense, layer_norm
from retrieval_contract.config import TransformerPooling


def transformed(items_BLW: Node, rows_BL: NDArray[Any], pooling: TransformerPooling, weights: Nodes, name: str) -> Node:
    """Vector at each place [B, L, W]; what stands at padded places means nothing."""
    real_BL = is_real(rows_BL)
    x_BLW = items_BLW + weights[f"{name}position"][steps_back(rows_BL)]
    x_BLW = where(real_BL[:, :, None], x_BLW, 0.0)
    for number in range(pooling.num_blocks):
        x_BLW = block(x_BLW, real_BL, pooling, weights, f"{name}block.{number}.")
    return norm(x_BLW, weights, f"{name}norm")


def block(x_BLW: Node, real_BL: NDArray[np.bool_], pooling: TransformerPooling, weights: Nodes, name: str) -> Node:
    """Attention and feed-forward, each behind its norm and added to what came in."""
    x_BLW = x_BLW + attention(norm(x_BLW, weights, f"{name}norm_1"), real_BL, pooling.num_heads, weights, name)
    return x_BLW + feed_forward(norm(x_BLW, weights, f"{name}norm_2"), pooling.activation, weights, name)


def attention(x_BLW: Node, real_BL: NDArray[np.bool_], num_heads: int, weights: Nodes, name: str) -> Node:
    """Each place takes from the real places up to itself, head by head."""
    query, key, value = (dense(x_BLW, weights, f"{name}{part}") for part in ("query", "key", "value"))
    width = x_BLW.shape[2] // num_heads
    heads = []
    for head in range(num_heads):
        part = (slice(None), slice(None), slice(head * width, (head + 1) * width))
        scores_BLL = query[part] @ key[part].swapped(1, 2) * scale(width)
        heads.append(softmax(scores_BLL, 2, may_look(real_BL)) @ value[part])
    return dense(concatenated(heads, axis=2), weights, f"{name}output")


def scale(width: int) -> float:
    """What products of queries and keys of a head are multiplied by."""
    return float(width**-0.5)


def may_look(real_BL: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which place may take from which [B, L, L]: from real ones, and from none that comes later."""
    num_places = real_BL.shape[1]
    return real_BL[:, None, :] & np.tril(np.ones((num_places, num_places), bool))


def feed_forward(x_BLW: Node, activation: str, weights: Nodes, name: str) -> Node:
    """Two dense layers, the first with the activation."""
    hidden = activated(activation, dense(x_BLW, weights, f"{name}feed_forward.0"))
    return dense(hidden, weights, f"{name}feed_forward.1")


def norm(x_BLW: Node, weights: Nodes, name: str) -> Node:
    """Layer norm at canonical weights."""
    return layer_norm(x_BLW, weights[f"{name}.scale"], weights[f"{name}.offset"])

"""A history as a tower's input: its items, pooled as configured.

Source: docstrings of `HistoryFeature` and of the poolings. An empty history gives zeros.
Letters: B rows of the batch, L places of a history, I interests, W width of an item.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import interests, sequences, transformer
from parity_tests.oracles.differentiation import Node, where
from parity_tests.oracles.inputs import NamedArrays, Nodes
from parity_tests.oracles.items import is_real, items
from retrieval_contract.config import (
    AttentionPooling,
    ComiRecPooling,
    GruPooling,
    HistoryFeature,
    MindPooling,
    RunConfig,
    TransformerPooling,
    WeightedMeanPooling,
)
from retrieval_contract.weights.history_names import history_name


def history_input(config: RunConfig, history: HistoryFeature, weights: Nodes, features: NamedArrays) -> Node:
    """Vectors [B, W], or interests [B, I, W]."""
    pooling, rows_BL = history.pooling, features[history.name]
    name = history_name(history.name, "")
    if isinstance(pooling, GruPooling | TransformerPooling):
        return last_real(history_places(config, history, weights, features), rows_BL)
    items_BLW = items(config, history, weights, features)
    if isinstance(pooling, WeightedMeanPooling):
        return sequences.weighted_mean(items_BLW, rows_BL, features[f"{history.name}.weights"])
    if isinstance(pooling, AttentionPooling):
        return sequences.attention(items_BLW, is_real(rows_BL), weights, name)
    if isinstance(pooling, MindPooling):
        return interests.mind(items_BLW, rows_BL, pooling.num_iterations, weights, name)
    if isinstance(pooling, ComiRecPooling):
        return interests.comirec(items_BLW, rows_BL, weights, name)
    return sequences.mean(items_BLW, rows_BL)


def history_places(config: RunConfig, history: HistoryFeature, weights: Nodes, features: NamedArrays) -> Node:
    """Vector behind each place [B, L, W], of poolings that look at nothing later."""
    pooling, rows_BL, name = history.pooling, features[history.name], history_name(history.name, "")
    items_BLW = items(config, history, weights, features)
    if isinstance(pooling, GruPooling):
        return sequences.gru_states(items_BLW, is_real(rows_BL), weights, name)
    assert isinstance(pooling, TransformerPooling)
    return transformer.transformed(items_BLW, rows_BL, pooling, weights, name)


def last_real(places_BLW: Node, rows_BL: NDArray[Any]) -> Node:
    """The vector at the newest item [B, W]; zeros where there is none."""
    num_items_B = is_real(rows_BL).sum(axis=1)
    newest_BW = places_BLW[np.arange(len(rows_BL)), np.maximum(num_items_B - 1, 0)]
    return where((num_items_B > 0)[:, None], newest_BW, 0.0)

"""The towers, forward, in float64: features put together, cross layers, hidden layers, the last linear layer, merges.

    concat or sum of the features, in order; cross layers; hidden layers; linear; q and c merged; L2 where configured

A tower with several interests repeats its other features for each, and runs its layers on all of them as rows. Places
of a history (`training.positions=all`) are rows too.

Source: docstrings of `Tower` and `Model`.
Letters: B rows of the batch, L places of a history, I interests, F width of the features put together, D of a vector.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import layers
from parity_tests.oracles.differentiation import Array, Node, concatenated, node
from parity_tests.oracles.histories import history_input, history_places
from parity_tests.oracles.inputs import Lookups, NamedArrays, Nodes, feature_input, lookups
from parity_tests.oracles.items import item_lookups
from parity_tests.oracles.sequences import sigmoid
from retrieval_contract.config import HistoryFeature, RunConfig, Side, Tower
from retrieval_contract.weights.names import CONTEXT_GATE_BIAS, CONTEXT_GATE_KERNEL

Arrays = dict[str, Array]
CONTEXT = "context."


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a side's tower gives."""

    vectors: Node
    """Vectors [B, D], [B, I, D] of several interests, or [B L, D] of places."""
    statistics: dict[str, Array] = field(default_factory=dict)
    """Mean and variance of this pass, by the canonical names of the moving ones; where batch norm trains."""


def leaves(weights: NamedArrays | Nodes) -> dict[str, Node]:
    """Weights as nodes, whose gradients can be asked for."""
    return {name: node(array) for name, array in weights.items()}


def encode_query(
    config: RunConfig, weights: NamedArrays | Nodes, features: NamedArrays, *, training: bool, places: bool = False
) -> Encoded:
    """Query vectors, context merged in, normalised where configured.

    Args:
        config: the run.
        weights: canonical name -> array or node.
        features: encoded query features, those of the context among them.
        training: batch norm by the batch's own statistics; nothing else depends on it.
        places: a vector for each place of the history, [S L, D].
    """
    weights = leaves(weights)
    query = encode("query", config, weights, features, training=training, places=places)
    vectors, statistics = query.vectors, query.statistics
    if config.context is not None:
        own = {name.removeprefix(CONTEXT): array for name, array in features.items() if name.startswith(CONTEXT)}
        context = encode("context", config, weights, own, training=training)
        vectors, statistics = merged(config, weights, vectors, context.vectors), statistics | context.statistics
    return Encoded(layers.normalized(vectors) if config.model.normalize else vectors, statistics)


def encode_candidate(
    config: RunConfig, weights: NamedArrays | Nodes, features: NamedArrays, *, training: bool
) -> Encoded:
    """Candidate vectors [B, D], normalised where configured; arguments as of `encode_query`."""
    found = encode("candidate", config, leaves(weights), features, training=training)
    vectors = layers.normalized(found.vectors) if config.model.normalize else found.vectors
    return Encoded(vectors, found.statistics)


def merged(config: RunConfig, weights: Nodes, query: Node, context_BD: Node) -> Node:
    """`q + c`, or `g * q + (1 - g) * c` with `g = sigmoid([q, c] W + b)`; for each interest where there are several."""
    context = node(np.zeros(query.shape)) + (context_BD[:, None] if query.value.ndim == 3 else context_BD)
    if config.model.context_merge == "sum":
        return query + context
    both = concatenated([query, context], axis=query.value.ndim - 1)
    gate = sigmoid(both @ weights[CONTEXT_GATE_KERNEL] + weights[CONTEXT_GATE_BIAS])
    return gate * query + (1.0 - gate) * context


def encode(
    side: Side, config: RunConfig, weights: Nodes, features: NamedArrays, *, training: bool, places: bool = False
) -> Encoded:
    """One tower, before any merge and normalisation; arguments as of `encode_query`."""
    x = combined(side, config, weights, features, places=places)
    shape = x.shape
    x_BF = x.reshape(-1, shape[-1])
    vectors_BD, statistics = layered(side, config, weights, x_BF, training=training)
    return Encoded(vectors_BD if places else vectors_BD.reshape(*shape[:-1], config.model.dim), statistics)


def combined(side: Side, config: RunConfig, weights: Nodes, features: NamedArrays, *, places: bool = False) -> Node:
    """Features put together: [B, F], [B, I, F] of several interests, [B, L, F] of places."""
    tower = config.towers[side]
    parts = []
    for feature in tower.features:
        if isinstance(feature, HistoryFeature):
            parts.append((history_places if places else history_input)(config, feature, weights, features))
        else:
            parts.append(feature_input(side, feature, weights, features))
    if tower.num_interests > 1:
        parts = [repeated(part, tower.num_interests) for part in parts]
    return sum(parts[1:], start=parts[0]) if tower.combine == "sum" else concatenated(parts, parts[0].value.ndim - 1)


def repeated(part: Node, num_interests: int) -> Node:
    """What has no interests, once for each; interests as they are: [B, I, F]."""
    if part.value.ndim == 3:
        return part
    return part[:, None, :] + np.zeros((part.shape[0], num_interests, part.shape[1]))


def layered(
    side: Side, config: RunConfig, weights: Nodes, x0_BF: Node, *, training: bool
) -> tuple[Node, dict[str, Array]]:
    """Cross layers, hidden layers and the last linear one: vectors [B, D], and the statistics of this pass."""
    tower, statistics, x = config.towers[side], dict[str, Array](), x0_BF
    for number in range(tower.cross_layers):
        name = f"{side}.cross.{number}"
        x = layers.cross_layer(x0_BF, x, weights[f"{name}.kernel"], weights[f"{name}.bias"])
    for number in range(len(tower.layer_dims(config.model.dim))):
        name = f"{side}.dense.{number}"
        linear = layers.dense(x, weights, name)
        if number == len(tower.hidden_dims):
            return linear, statistics
        linear, found = normed(tower, weights, linear, f"{name}.norm", training=training)
        statistics |= found
        x = layers.hidden_layer(x, linear, tower.activation, residual=tower.residual)
    return x, statistics


def normed(tower: Tower, weights: Nodes, x_BG: Node, name: str, *, training: bool) -> tuple[Node, dict[str, Array]]:
    """The configured norm of a hidden layer, and the statistics that batch norm took of the batch."""
    if tower.norm == "none":
        return x_BG, {}
    scale, offset = weights[f"{name}.scale"], weights[f"{name}.offset"]
    if tower.norm == "layer":
        return layers.layer_norm(x_BG, scale, offset), {}
    if not training:
        return layers.batch_norm(x_BG, scale, offset, weights[f"{name}.mean"], weights[f"{name}.variance"]), {}
    mean, variance = layers.mean_and_variance(x_BG, axis=0)
    found = {f"{name}.mean": mean.value[0], f"{name}.variance": variance.value[0]}
    return layers.batch_norm(x_BG, scale, offset, mean, variance), found


def tower_lookups(side: Side, config: RunConfig, features: NamedArrays) -> Lookups:
    """Rows of every table that a side's features look up, those of the context with the query's."""
    found: Lookups = []
    for feature in config.towers[side].features:
        if isinstance(feature, HistoryFeature):
            found += item_lookups(config, feature, features)
        else:
            found += lookups(side, feature, features)
    if side == "query" and config.context is not None:
        own = {name.removeprefix(CONTEXT): array for name, array in features.items() if name.startswith(CONTEXT)}
        found += tower_lookups("context", config, own)
    return found


def stacked(features: list[NamedArrays]) -> dict[str, NDArray[Any]]:
    """Features of several groups of candidates one behind the other; lists are padded to the longest."""

    def widened(array: NDArray[Any], width: int) -> NDArray[Any]:
        missing = [(0, 0), (0, width - array.shape[1])] if array.ndim == 2 else [(0, 0)] * array.ndim
        return np.pad(array, missing)

    found = {}
    for name in features[0]:
        arrays = [group[name] for group in features]
        width = max(array.shape[1] if array.ndim == 2 else 0 for array in arrays)
        found[name] = np.concatenate([widened(array, width) for array in arrays])
    return found

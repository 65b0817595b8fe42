"""What each kind of feature gives to its tower, histories excepted, and which rows of which table it looks up.

    looked up by one row        e[row]
    a list of rows              `lists.pooled_list`
    one-hot                     1 at place row - 2; rows 0 and 1 have none
    dense with a projection     x @ kernel
    other numbers               as they come, [B] becomes [B, 1]

Source: docstrings of the features' classes and of `FeatureArrays`.
Letters: B rows of the batch, M places of a list, W width of an embedding, F numbers given to the tower.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles.differentiation import Array, Node, node
from parity_tests.oracles.lists import pooled_list
from retrieval_contract.config import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    MultivalentFeature,
    Side,
    TextFeature,
    table_width,
)
from retrieval_contract.config.features import BaseLookup
from retrieval_contract.weights.names import embedding_name, projection_name

NamedArrays = Mapping[str, NDArray[Any]]
Nodes = Mapping[str, Node]
Lookups = list[tuple[str, NDArray[Any]]]
"""Canonical names of tables, and rows that are looked up in them."""


def feature_input(side: Side, feature: Feature, weights: Nodes, features: NamedArrays) -> Node:
    """The numbers of one feature [B, F].

    Args:
        side: the tower it belongs to.
        feature: its configuration; no history.
        weights: canonical name -> node.
        features: encoded features of the side, without the prefix of a context.
    """
    values = features[feature.name]
    if is_looked_up(feature):
        return embedded(feature, weights[table_name(side, feature)], values, features.get(f"{feature.name}.weights"))
    numbers = node(numbers_of(feature, values, axes=1))
    if isinstance(feature, DenseFeature) and feature.projection is not None:
        return numbers @ weights[projection_name(side, feature.name)]
    return numbers


def embedded(feature: Feature, table: Node, rows: NDArray[Any], weights: NDArray[Any] | None = None) -> Node:
    """Embedding of one row, or the pooled embeddings of a list: rows [...] or [..., M] -> [..., W]."""
    if isinstance(feature, MultivalentFeature | TextFeature):
        return pooled_list(table[rows], rows, feature.pooling, weights)
    return table[rows]


def numbers_of(feature: Feature, values: NDArray[Any], *, axes: int) -> Array:
    """What a feature without a table says in numbers: [..., F], behind `axes` leading axes."""
    if isinstance(feature, CategoricalFeature):
        return one_hot(values, feature.width)
    numbers = np.asarray(values, np.float64)
    return numbers[..., None] if numbers.ndim == axes else numbers


def one_hot(rows: NDArray[Any], width: int) -> Array:
    """1 at the value's own place, row - 2; padding and unknown have none."""
    return (rows[..., None] == np.arange(width) + 2).astype(np.float64)


def is_looked_up(feature: Feature) -> bool:
    """True where it has a table, of its own or shared."""
    return bool(table_width(feature)) or getattr(feature, "shares", None) is not None


def table_name(side: Side, feature: Feature) -> str:
    """Canonical name of the table it is looked up in."""
    if isinstance(feature, BaseLookup) and feature.shares is not None:
        return embedding_name("candidate", feature.shares)
    return embedding_name(side, feature.name)


def lookups(side: Side, feature: Feature, features: NamedArrays) -> Lookups:
    """Rows that the feature looks up, padding among them."""
    return [(table_name(side, feature), features[feature.name])] if is_looked_up(feature) else []

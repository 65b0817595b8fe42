"""The items of a history: what stands at each place before anything is pooled.

    item_l = e_id[row_l] + sum_f field_f(l) + e_age[age_l]         0 at padded places

A field that is looked up gives its row, a list its pooled rows, numbers go through a kernel without bias. With `shares`
ids and looked-up fields use the candidate tower's tables.

Source: docstring of `HistoryFeature`.
Letters: B rows of the batch, L places of a history, oldest first, W width of an item.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles.differentiation import Node, node, where
from parity_tests.oracles.inputs import Lookups, NamedArrays, Nodes, embedded, is_looked_up, numbers_of
from retrieval_contract.config import Feature, HistoryFeature, RunConfig
from retrieval_contract.weights.history_names import history_name, history_table_name
from retrieval_contract.weights.names import embedding_name


def items(config: RunConfig, history: HistoryFeature, weights: Nodes, features: NamedArrays) -> Node:
    """Items [B, L, W].

    Args:
        config: the run.
        history: the feature.
        weights: canonical name -> node.
        features: encoded query features.
    """
    rows_BL = features[history.name]
    total = node(np.zeros((*rows_BL.shape, history.width)))
    if history.ids:
        total = total + weights[id_table(config, history)][rows_BL]
    for field in fields_of(config, history):
        total = total + field_input(config, history, field, weights, features)
    if history.age_buckets:
        total = total + weights[history_table_name(history.name, "age")][features[f"{history.name}.ages"]]
    return where(is_real(rows_BL)[:, :, None], total, 0.0)


def field_input(
    config: RunConfig, history: HistoryFeature, field: Feature, weights: Nodes, features: NamedArrays
) -> Node:
    """What one field adds to each item [B, L, W]."""
    name = f"{history.name}.{field.name}"
    if is_looked_up(field):
        table = weights[field_table(history, field)]
        return embedded(field, table, features[name], features.get(f"{name}.weights"))
    return node(numbers_of(field, features[name], axes=2)) @ weights[history_name(history.name, f"field.{field.name}")]


def is_real(rows_BL: NDArray[Any]) -> NDArray[np.bool_]:
    """True where there is an item, an unknown one too."""
    return rows_BL != 0


def steps_back(rows_BL: NDArray[Any]) -> NDArray[np.int64]:
    """How many items are newer than the item at each place, n - 1 - l; 0 at padded places, which nobody looks at."""
    num_items_B = is_real(rows_BL).sum(axis=1)
    return np.maximum(num_items_B[:, None] - 1 - np.arange(rows_BL.shape[1])[None, :], 0)


def fields_of(config: RunConfig, history: HistoryFeature) -> list[Feature]:
    """Its fields' configurations, in its own order."""
    known = {feature.name: feature for feature in config.candidate.features}
    return [known[name] for name in history.fields]


def id_table(config: RunConfig, history: HistoryFeature) -> str:
    """Canonical name of the table that ids are looked up in."""
    if not history.shares:
        return history_table_name(history.name)
    assert config.candidate_id_feature is not None
    return embedding_name("candidate", config.candidate_id_feature.name)


def field_table(history: HistoryFeature, field: Feature) -> str:
    """Canonical name of the table that a field is looked up in."""
    return embedding_name("candidate", field.name) if history.shares else history_table_name(history.name, field.name)


def item_lookups(config: RunConfig, history: HistoryFeature, features: NamedArrays) -> Lookups:
    """Rows that the items look up, padding among them."""
    found = [(id_table(config, history), features[history.name])] if history.ids else []
    for field in fields_of(config, history):
        if is_looked_up(field):
            found.append((field_table(history, field), features[f"{history.name}.{field.name}"]))
    if history.age_buckets:
        found.append((history_table_name(history.name, "age"), features[f"{history.name}.ages"]))
    return found

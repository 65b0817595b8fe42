"""The part of the canonical parameter table that belongs to histories; letters as in `config.histories`.

    query.embedding.<history>                       [V, W]    ids, unless shared
    query.embedding.<history>.<field>               [V, W]    a field that is looked up, unless shared
    query.embedding.<history>.age                   [buckets + 1, W]
    query.history.<history>.field.<field>           [in, W]   a field of numbers
    attention       query.history.<history>. kernel [W, W] · bias [W] · vector [W, 1]
    gru             ... input_kernel [W, 3W] · input_bias [3W] · recurrent_kernel [W, 3W] · recurrent_bias [3W];
                    parts of 3W: reset, update, new
    transformer     ... position [L, W] · norm.scale, norm.offset [W] · block.<i>. norm_1.scale, .offset [W] ·
                    query, key, value, output .kernel [W, W], .bias [W] · norm_2.scale, .offset [W] ·
                    feed_forward.0.kernel [W, F], .bias [F] · feed_forward.1.kernel [F, W], .bias [W]
    mind            ... kernel [W, W] · routing [L, I]
    comirec         ... position [L, W] · kernel_1 [W, A] · kernel_2 [A, I]

Row p of `position` and of `routing` belongs to the place p steps before the newest item.
"""

from collections.abc import Mapping

from retrieval_contract.config import (
    AttentionPooling,
    ComiRecPooling,
    DenseFeature,
    Feature,
    GruPooling,
    HistoryFeature,
    MindPooling,
    Tower,
    TransformerPooling,
    table_width,
)
from retrieval_contract.weights.parameter import Parameter, dense_parameter, embedding, offset


def history_name(history: str, part: str) -> str:
    """Canonical name of a weight of a history."""
    return f"query.history.{history}.{part}"


def history_table_name(history: str, part: str = "") -> str:
    """Canonical name of a history's own embedding table: of its ids, of a field, or of `age`."""
    return f"query.embedding.{history}" + (f".{part}" if part else "")


def numbers_of(field: Feature) -> int:
    """How many numbers a field gives before it is mapped to an item's width; 0 of one that is looked up."""
    if isinstance(field, DenseFeature):
        return field.width
    looked_up = table_width(field) or getattr(field, "shares", None) is not None
    return 0 if looked_up else field.output_width


def history_parameters(history: HistoryFeature, candidate: Tower, sizes: Mapping[str, int]) -> dict[str, Parameter]:
    """Weights of one history beside the table of its ids.

    Args:
        history: its configuration.
        candidate: the tower whose features are its fields.
        sizes: rows of the query side's tables, `<history>.<field>` among them.

    Returns:
        Canonical name -> parameter, in a fixed order.
    """
    table: dict[str, Parameter] = {}
    width = history.width
    fields = {feature.name: feature for feature in candidate.features}
    for name in history.fields:
        numbers = numbers_of(fields[name])
        if numbers:
            table[history_name(history.name, f"field.{name}")] = dense_parameter(numbers, width)
        elif not history.shares:
            table[history_table_name(history.name, name)] = embedding(sizes[f"{history.name}.{name}"], width)
    if history.age_buckets:
        table[history_table_name(history.name, "age")] = embedding(history.age_buckets + 1, width)
    return table | {history_name(history.name, part): weight for part, weight in _pooling(history).items()}


def _pooling(history: HistoryFeature) -> dict[str, Parameter]:
    pooling, width = history.pooling, history.width
    position = Parameter(shape=(history.max_length, width), start="normal", sparse=False, decays=True)
    if isinstance(pooling, AttentionPooling):
        return {"kernel": dense_parameter(width, width), "bias": offset(width), "vector": dense_parameter(width, 1)}
    if isinstance(pooling, GruPooling):
        return {
            "input_kernel": dense_parameter(width, 3 * width),
            "input_bias": offset(3 * width),
            "recurrent_kernel": dense_parameter(width, 3 * width),
            "recurrent_bias": offset(3 * width),
        }
    if isinstance(pooling, TransformerPooling):
        return {"position": position, **_blocks(pooling, width), **_norm("norm", width)}
    if isinstance(pooling, MindPooling):
        shape = (history.max_length, pooling.num_interests)
        routing = Parameter(shape=shape, start="standard_normal", sparse=False, decays=False, trained=False)
        return {"kernel": dense_parameter(width, width), "routing": routing}
    if isinstance(pooling, ComiRecPooling):
        return {
            "position": position,
            "kernel_1": dense_parameter(width, pooling.attention_dim),
            "kernel_2": dense_parameter(pooling.attention_dim, pooling.num_interests),
        }
    return {}


def _blocks(pooling: TransformerPooling, width: int) -> dict[str, Parameter]:
    table: dict[str, Parameter] = {}
    hidden = pooling.feed_forward_dim or width
    for number in range(pooling.num_blocks):
        block = f"block.{number}."
        table |= _norm(block + "norm_1", width)
        for part in ("query", "key", "value", "output"):
            table |= _dense(f"{block}{part}", width, width)
        table |= _norm(block + "norm_2", width)
        table |= _dense(block + "feed_forward.0", width, hidden) | _dense(block + "feed_forward.1", hidden, width)
    return table


def _norm(name: str, width: int) -> dict[str, Parameter]:
    return {f"{name}.scale": offset(width, value=1.0), f"{name}.offset": offset(width)}


def _dense(name: str, width_in: int, width_out: int) -> dict[str, Parameter]:
    return {f"{name}.kernel": dense_parameter(width_in, width_out), f"{name}.bias": offset(width_out)}

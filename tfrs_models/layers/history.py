"""The candidates of a query's past: their items, and one vector from them, or several.

Letters: B histories, L items of a history, M values of an item's list, n numbers of a field, W width of an item,
I interests.
"""

from collections.abc import Mapping
from typing import TypeAlias

import tensorflow as tf

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    DenseFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    TextFeature,
    Tower,
    histories,
)
from retrieval_contract.data.vocabulary import UNKNOWN_ROW
from retrieval_contract.weights.history_names import numbers_of
from tfrs_models.layers.attention_pooling import AttentionPooling
from tfrs_models.layers.comirec import ComiRecPooling
from tfrs_models.layers.dropout import dropout
from tfrs_models.layers.gru import GruPooling
from tfrs_models.layers.mind import MindPooling
from tfrs_models.layers.pooling import pool_list
from tfrs_models.layers.transformer import TransformerPooling

_PADDING_ROW = 0
_FIRST_ROW = UNKNOWN_ROW + 1
"""Row of the first value of a vocabulary: place 0 of a one-hot."""
_Features = Mapping[str, tf.Tensor]
_Pooling: TypeAlias = AttentionPooling | GruPooling | TransformerPooling | MindPooling | ComiRecPooling


class HistoryEncoder(tf.keras.layers.Layer):
    """Items, and how they become one vector or several.

    An item is the sum of its id's embedding, of its fields (a row looked up, a list pooled as the candidate tower
    does, numbers through a linear map), and of its age's embedding; padded places are zero. Then dropout, then pooling.
    """

    def __init__(
        self,
        history: HistoryFeature,
        candidate: Tower | None,
        sizes: Mapping[str, int],
        dtype: str = "float32",
        shared: Mapping[str, tf.Variable] | None = None,
    ) -> None:
        """Create the weights, zero until they are assigned.

        Args:
            history: its configuration.
            candidate: the tower whose features are its fields; needed where it has fields, or shares.
            sizes: rows of the query side's own tables.
            dtype: of weights and results.
            shared: that tower's tables by feature; needed where it shares.
        """
        super().__init__(dtype=dtype)
        self.history = history
        known = {} if candidate is None else {feature.name: feature for feature in candidate.features}
        self.fields = tuple(known[name] for name in history.fields)
        rows = {f"{history.name}.{field.name}": field.name for field in self.fields if not numbers_of(field)}
        if history.ids:
            # Whose table it is matters only where it is shared.
            rows[history.name] = next((name for name, feature in known.items() if isinstance(feature, IdFeature)), "")
        theirs = {name: shared[of] for name, of in rows.items()} if history.shares and shared is not None else {}
        own = {} if history.shares else {name: sizes[name] for name in rows}
        own |= {f"{history.name}.age": history.age_buckets + 1} if history.age_buckets else {}
        tables = {name: self._weight(name, (size, history.width)) for name, size in own.items()}
        self.tables: dict[str, tf.Variable] = tables
        """Own tables, named as in `query.embedding.<name>`."""
        self.lookups: dict[str, tf.Variable] = {**tables, **theirs}
        """Tables by the array that looks rows up in them; shared ones are the candidate tower's."""
        self.kernels: dict[str, tf.Variable] = {
            field.name: self._weight(field.name, (numbers_of(field), history.width))
            for field in self.fields
            if numbers_of(field)
        }
        """Linear maps of the fields that are numbers."""
        self.pooling = _pooling_layer(history, dtype)

    def call(self, features: _Features, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Encoded features -> vectors [B, W], or [B, I, W] of several interests; an empty history gives zeros.

        Args:
            features: by name; `<history>` and what stands beside it are looked at.
            dropout_seed: seed [2] of this history at this step; none means serving.
        """
        items_BLW, allowed_BL = self._items(features, dropout_seed)
        if self.pooling is not None:
            return self.pooling(items_BLW, allowed_BL, dropout_seed=dropout_seed)
        weighs = isinstance(self.history.pooling, histories.WeightedMeanPooling)
        weights_BL = features[f"{self.history.name}.weights"] if weighs else None
        return pool_list(items_BLW, allowed_BL, "mean", weights_BL)

    def places(self, features: _Features, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Encoded features -> the vector of each place [B, L, W]; with pooling gru or transformer.

        Args:
            features: as in `call`.
            dropout_seed: as in `call`.
        """
        assert isinstance(self.pooling, GruPooling | TransformerPooling), "other poolings have no vector of a place"
        items_BLW, allowed_BL = self._items(features, dropout_seed)
        return self.pooling.places(items_BLW, allowed_BL, dropout_seed)

    def _weight(self, name: str, shape: tuple[int, int]) -> tf.Variable:
        return self.add_weight(name, shape, initializer="zeros")

    def _items(self, features: _Features, dropout_seed: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Items [B, L, W], zero at padded places, and True where one is [B, L]."""
        name, zero = self.history.name, tf.zeros([], self.dtype)
        rows_BL = features[name]
        allowed_BL = rows_BL != _PADDING_ROW
        # A gather from the variable itself: its gradient is IndexedSlices, and nothing reads the whole table.
        parts = [tf.gather(self.lookups[name], rows_BL)] if self.history.ids else []
        parts += [self._field(field, features, allowed_BL) for field in self.fields]
        if self.history.age_buckets:
            parts.append(tf.gather(self.lookups[f"{name}.age"], features[f"{name}.ages"]))
        items_BLW = tf.where(allowed_BL[:, :, None], tf.add_n(parts), zero)
        return dropout(items_BLW, self.history.dropout, dropout_seed, 0), allowed_BL

    def _field(self, field: Feature, features: _Features, allowed_BL: tf.Tensor) -> tf.Tensor:
        """What a field gives to each item [B, L, W]."""
        name = f"{self.history.name}.{field.name}"
        values = features[name]
        if field.name in self.kernels:
            numbers_BLn = numbers(field, values, self.dtype)
            # Selected before the product: 0 times what stands at a padded place need not be 0.
            numbers_BLn = tf.where(allowed_BL[:, :, None], numbers_BLn, tf.zeros([], self.dtype))
            return tf.tensordot(numbers_BLn, self.kernels[field.name], 1)
        embedded = tf.gather(self.lookups[name], values)
        if not isinstance(field, MultivalentFeature | TextFeature):
            return embedded
        real_BLM = (values != _PADDING_ROW) & allowed_BL[:, :, None]
        return pool_list(embedded, real_BLM, field.pooling, features.get(f"{name}.weights"))


def numbers(feature: Feature, values: tf.Tensor, dtype: str) -> tf.Tensor:
    """Numbers of a feature that is not looked up: a one-hot of its rows, or what it was encoded to.

    Args:
        feature: one-hot categorical, or encoded to numbers.
        values: rows [...], or floats [...] or [..., n].
        dtype: of the result.

    Returns:
        Numbers [..., n]; of the rows 0 and 1, padding and unknown, a one-hot has none.
    """
    if isinstance(feature, CategoricalFeature):
        return tf.one_hot(values - _FIRST_ROW, feature.width, dtype=dtype)
    x = tf.cast(values, dtype)
    is_alone = feature.output_width == 1 and not isinstance(feature, AffinityFeature | DenseFeature)
    return x[..., None] if is_alone else x


def _pooling_layer(history: HistoryFeature, dtype: str) -> _Pooling | None:
    """The layer of a pooling that has one; a mean has none."""
    pooling, width, length = history.pooling, history.width, history.max_length
    if isinstance(pooling, histories.AttentionPooling):
        return AttentionPooling(width, dtype)
    if isinstance(pooling, histories.GruPooling):
        return GruPooling(width, dtype)
    if isinstance(pooling, histories.TransformerPooling):
        return TransformerPooling(width, length, pooling, dtype)
    if isinstance(pooling, histories.MindPooling):
        return MindPooling(width, length, pooling.num_interests, pooling.num_iterations, dtype)
    if isinstance(pooling, histories.ComiRecPooling):
        return ComiRecPooling(width, length, pooling.num_interests, pooling.attention_dim, dtype)
    return None

"""Features -> one vector each, put together.

Letters: B examples, M values of a list, W width of an embedding, V vocabulary rows, F width of all features put
together, n numbers of a feature, I interests, S sequences of L places, P places that are predicted.
"""

from collections.abc import Mapping

import tensorflow as tf

from retrieval_contract.config import (
    DenseFeature,
    Feature,
    HistoryFeature,
    MultivalentFeature,
    Side,
    TextFeature,
    Tower,
    table_width,
)
from retrieval_contract.config.features import BaseLookup
from tfrs_models.layers.dropout import fold_in
from tfrs_models.layers.history import HistoryEncoder, numbers
from tfrs_models.layers.pooling import pool_list

_PADDING_ROW = 0
"""Vocabulary row of an empty place in a list."""
_HISTORY_STREAMS = 1_000
"""Where the dropout streams of a tower's histories begin, behind those of its layers."""
_Features = Mapping[str, tf.Tensor]


class FeatureCombiner(tf.keras.layers.Layer):
    """Looks up, pools and puts together the features of one side.

    One row (id, categorical, buckets, hour, weekday, cross) is its embedding, or a one-hot; a list (multivalent, text)
    is pooled; a history is what its encoder gives; numbers are columns, a dense vector through a linear map where it
    has one. Then concat, or sum. Where a history gives several vectors, the others stand beside each of them.
    """

    def __init__(
        self,
        tower: Tower,
        sizes: Mapping[str, int],
        dtype: str = "float32",
        *,
        side: Side = "query",
        candidate: "FeatureCombiner | None" = None,
    ) -> None:
        """Create the tables [V, W] and the other weights, zero until weights are assigned.

        Args:
            tower: features in order, and how to combine them.
            sizes: rows V of the side's own tables.
            dtype: of weights and results.
            side: whose features; those of the context stand among the query's as `context.<name>`.
            candidate: the candidate side's, whose tables are shared and whose features a history's fields are.
        """
        super().__init__(dtype=dtype)
        self.tower = tower
        self.prefix = "context." if side == "context" else ""
        theirs = {} if candidate is None else dict(candidate.tables)
        histories = {
            feature.name: HistoryEncoder(feature, None if candidate is None else candidate.tower, sizes, dtype, theirs)
            for feature in tower.histories
        }
        tables = {
            feature.name: self.add_weight(
                name=f"embedding_{position}", shape=(sizes[feature.name], table_width(feature)), initializer="zeros"
            )
            for position, feature in enumerate(tower.features)
            if table_width(feature) and not isinstance(feature, HistoryFeature)
        }
        shared = {
            feature.name: theirs[feature.shares]
            for feature in tower.features
            if isinstance(feature, BaseLookup) and feature.shares is not None
        }
        self.histories = histories
        self.lookups: dict[str, tf.Variable] = {**tables, **shared}
        """Table of each feature; shared ones are the candidate side's."""
        for encoder in histories.values():
            tables |= encoder.tables
        self.tables: dict[str, tf.Variable] = tables
        """Own tables, named as in `<side>.embedding.<name>`."""
        self.projections: dict[str, tf.Variable] = {
            feature.name: self.add_weight(
                name=f"projection_{position}", shape=(feature.width, feature.projection), initializer="zeros"
            )
            for position, feature in enumerate(tower.features)
            if isinstance(feature, DenseFeature) and feature.projection is not None
        }

    def call(self, features: _Features, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Encoded features -> combined features [B, F], or [B, I, F] of several interests.

        Args:
            features: by name, as in `retrieval_contract.arrays`; others are not looked at.
            dropout_seed: seed [2] of this tower at this step, for what histories draw; none means serving.
        """
        parts = [
            self._part(feature, features, _stream(dropout_seed, position))
            for position, feature in enumerate(self.tower.features)
        ]
        num_interests = max((part.shape[1] for part in parts if part.shape.rank == 3), default=None)
        if num_interests is not None:
            parts = [
                part if part.shape.rank == 3 else tf.repeat(part[:, None, :], num_interests, axis=1) for part in parts
            ]
        return tf.add_n(parts) if self.tower.combine == "sum" else tf.concat(parts, axis=-1)

    def places(self, features: _Features, places_P: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Encoded features of S sequences -> the vectors of some of their places [P, F]; of a tower of one history.

        Args:
            features: as in `call`, leading dimension S.
            places_P: sequence * L + place, for each vector.
            dropout_seed: as in `call`.
        """
        [history] = self.histories.values()
        places_SLW = history.places(features, _stream(dropout_seed, 0))
        return tf.gather(tf.reshape(places_SLW, [-1, places_SLW.shape[-1]]), places_P)

    def _part(self, feature: Feature, features: _Features, dropout_seed: tf.Tensor | None) -> tf.Tensor:
        """One feature's numbers [B, n], or [B, I, n]."""
        if isinstance(feature, HistoryFeature):
            return self.histories[feature.name](features, dropout_seed=dropout_seed)
        name = self.prefix + feature.name
        values = features[name]
        if isinstance(feature, MultivalentFeature | TextFeature):
            # A gather from the variable itself: its gradient is IndexedSlices, and nothing reads the whole table.
            embedded_BMW = tf.gather(self.lookups[feature.name], values)
            weights_BM = features.get(f"{name}.weights")
            return pool_list(embedded_BMW, values != _PADDING_ROW, feature.pooling, weights_BM)
        if feature.name in self.lookups:
            return tf.gather(self.lookups[feature.name], values)
        numbers_Bn = numbers(feature, values, self.dtype)
        kernel = self.projections.get(feature.name)
        return numbers_Bn if kernel is None else tf.matmul(numbers_Bn, kernel)


def _stream(dropout_seed: tf.Tensor | None, position: int) -> tf.Tensor | None:
    return None if dropout_seed is None else fold_in(dropout_seed, _HISTORY_STREAMS + position)

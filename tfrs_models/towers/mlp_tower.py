"""The one tower of this stack: features, cross layers, dense layers, and L2 normalisation where asked for.

Letters: B examples, D vector width, F width of the combined features, I interests, P places that are predicted.
"""

from collections.abc import Mapping

import tensorflow as tf

from retrieval_contract.config import Side, Tower
from tfrs_models.layers.cross import CrossLayers
from tfrs_models.layers.dense import DenseLayers
from tfrs_models.layers.dropout import dropout
from tfrs_models.layers.features import FeatureCombiner
from tfrs_models.layers.norm import Moments
from tfrs_models.layers.normalize import l2_normalize

_Features = Mapping[str, tf.Tensor]


class MlpTower(tf.keras.layers.Layer):
    """Encoder of one side; without hidden layers and with one id feature it is matrix factorisation's table."""

    def __init__(
        self,
        tower: Tower,
        sizes: Mapping[str, int],
        dim: int,
        normalize: bool,
        dtype: str = "float32",
        *,
        side: Side = "query",
        candidate: FeatureCombiner | None = None,
    ) -> None:
        """Create the weights, zero until they are assigned.

        Args:
            tower: the side's configuration.
            sizes: rows of the side's own tables.
            dim: width D of the vectors.
            normalize: whether vectors have length 1.
            dtype: of weights and results.
            side: which.
            candidate: features of the candidate tower, whose tables may be shared.
        """
        super().__init__(dtype=dtype)
        self.feature_dropout = tower.feature_dropout
        self.normalize = normalize
        self.features = FeatureCombiner(tower, sizes, dtype=dtype, side=side, candidate=candidate)
        self.cross = CrossLayers(tower.combined_dim, tower.cross_layers, dtype=dtype)
        self.dense = DenseLayers(
            tower.layer_dims(dim), tower.activation, tower.dropout, dtype, tower.norm, tower.residual
        )

    def call(
        self, features: _Features, dropout_seed: tf.Tensor | None = None, moments: Moments | None = None
    ) -> tf.Tensor:
        """Encoded features -> vectors [B, D], or [B, I, D] of several interests.

        Args:
            features: by name, leading dimension B.
            dropout_seed: seed [2] of this tower at this step, int64; none means serving, without dropout.
            moments: takes down what batch norms see, in training; none means serving, by their moving statistics.
        """
        combined = self.features(features, dropout_seed=dropout_seed)
        if combined.shape.rank == 2:
            return self._vectors(combined, dropout_seed, moments)
        # Each interest is a row to the layers: batch norm takes its statistics over all of them.
        x_ND = self._vectors(tf.reshape(combined, [-1, combined.shape[2]]), dropout_seed, moments)
        return tf.reshape(x_ND, [-1, combined.shape[1], x_ND.shape[1]])

    def places(
        self,
        features: _Features,
        places_P: tf.Tensor,
        dropout_seed: tf.Tensor | None = None,
        moments: Moments | None = None,
    ) -> tf.Tensor:
        """Encoded features of whole sequences -> vectors of some of their places [P, D].

        Args:
            features: by name, leading dimension S; of a tower of one history, pooling gru or transformer.
            places_P: sequence * L + place, for each vector.
            dropout_seed: as in `call`.
            moments: as in `call`.
        """
        return self._vectors(self.features.places(features, places_P, dropout_seed), dropout_seed, moments)

    def _vectors(self, x_BF: tf.Tensor, dropout_seed: tf.Tensor | None, moments: Moments | None) -> tf.Tensor:
        x_BF = self.cross(dropout(x_BF, self.feature_dropout, dropout_seed, 0))
        x_BD = self.dense(x_BF, dropout_seed=dropout_seed, moments=moments)
        return l2_normalize(x_BD) if self.normalize else x_BD

"""The one tower of this stack: features, dense layers, and L2 normalisation where asked for."""

from collections.abc import Mapping

import tensorflow as tf

from retrieval_contract.config import Tower
from tfrs_models.layers.dense import DenseLayers
from tfrs_models.layers.dropout import dropout
from tfrs_models.layers.features import FeatureCombiner
from tfrs_models.layers.normalize import l2_normalize


class MlpTower(tf.keras.layers.Layer):
    """Encoder of one side; without hidden layers and with one id feature it is matrix factorisation's table."""

    def __init__(
        self, tower: Tower, sizes: Mapping[str, int], dim: int, normalize: bool, dtype: str = "float32"
    ) -> None:
        """Create the weights, zero until they are assigned.

        Args:
            tower: the side's configuration.
            sizes: vocabulary rows by feature name.
            dim: width D of the vectors.
            normalize: whether vectors have length 1.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        self.feature_dropout = tower.feature_dropout
        self.normalize = normalize
        self.features = FeatureCombiner(tower, sizes, dtype=dtype)
        self.dense = DenseLayers(tower.layer_dims(dim), tower.activation, tower.dropout, dtype=dtype)

    def call(self, features: Mapping[str, tf.Tensor], dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Encoded features -> vectors [B, D].

        Args:
            features: by name, leading dimension B.
            dropout_seed: seed [2] of this tower at this step, int64; none means serving, without dropout.
        """
        combined_BF = dropout(self.features(features), self.feature_dropout, dropout_seed, 0)
        x_BD = self.dense(combined_BF, dropout_seed=dropout_seed)
        return l2_normalize(x_BD) if self.normalize else x_BD

"""A moving average of the candidate tower, whose vectors fill the bank."""

from collections.abc import Mapping

import tensorflow as tf

from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import CANDIDATE_BIAS, VocabularySizes
from tfrs_models.negatives.columns import Columns
from tfrs_models.towers.mlp_tower import MlpTower
from tfrs_models.weights import tower_variables


class MovingAverage(tf.Module):
    """Candidate tower and candidate bias that follow the trained ones: `average <- m average + (1 - m) weights`.

    Source: He et al., CVPR 2020 (MoCo), eq. 2.
    """

    def __init__(self, config: RunConfig, sizes: VocabularySizes) -> None:
        """Create the weights, zero until they are assigned.

        Args:
            config: the run; `negatives.bank.momentum` is m.
            sizes: rows of each vocabulary by side and feature.
        """
        super().__init__()
        assert config.negatives.bank.momentum is not None, "an average needs a momentum"
        self._momentum = config.negatives.bank.momentum
        self._tower = MlpTower(config.candidate, sizes["candidate"], config.model.dim, config.model.normalize)
        self._id_name, self._bias_table = "", None
        self.variables_by_name = tower_variables("candidate", self._tower)
        id_feature = config.candidate_id_feature
        if config.model.candidate_bias and id_feature is not None:
            self._id_name = id_feature.name
            self._bias_table = tf.Variable(tf.zeros([sizes["candidate"][id_feature.name], 1]), trainable=False)
            self.variables_by_name[CANDIDATE_BIAS] = self._bias_table

    def start(self, weights: Mapping[str, tf.Variable]) -> None:
        """Stand where the trained weights stand.

        Args:
            weights: by canonical name; those of other names are not looked at, here and in `follow`.
        """
        for name, average in self.variables_by_name.items():
            average.assign(weights[name])

    def follow(self, weights: Mapping[str, tf.Variable]) -> None:
        """Move towards the trained weights; every row of every table moves, whether the step touched it or not.

        Args:
            weights: by canonical name, after the step.
        """
        for name, average in self.variables_by_name.items():
            average.assign(self._momentum * average + (1 - self._momentum) * weights[name])

    def columns(self, features: Mapping[str, tf.Tensor], rows_N: tf.Tensor, log_q_N: tf.Tensor) -> Columns:
        """Encode candidates, without dropout.

        Args:
            features: candidate features by name, leading dimension N.
            rows_N: their entity rows.
            log_q_N: their log_q.
        """
        bias_N = None if self._bias_table is None else tf.gather(self._bias_table, features[self._id_name])[:, 0]
        return Columns(self._tower(features), rows_N, log_q_N, bias_N)

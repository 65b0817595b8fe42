"""All towers, the candidate bias, and the numbers that the loss learns: what is trained and what is served."""

from collections.abc import Mapping

import tensorflow as tf

from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import VocabularySizes
from tfrs_models.layers.dropout import fold_in
from tfrs_models.layers.norm import Moments
from tfrs_models.layers.normalize import l2_normalize
from tfrs_models.towers.context import ContextMerge
from tfrs_models.towers.mlp_tower import MlpTower

_Features = Mapping[str, tf.Tensor]
_CONTEXT_STREAM = 5
"""Dropout stream of the context tower; the query tower's is 0, the candidate tower's 1."""


class TwoTower(tf.keras.Model):
    """Query tower, candidate tower and, where configured, context tower and a bias for each row of the candidate ids.

    A table that two towers share is one variable, the candidate tower's. A learned temperature and the bias of the
    sigmoid loss are kept here too, so that all weights are in one place.
    """

    def __init__(self, config: RunConfig, sizes: VocabularySizes, dtype: str = "float32") -> None:
        """Create the weights, zero until they are assigned.

        Args:
            config: the run.
            sizes: rows of each vocabulary by side and feature.
            dtype: of weights and results, "float32" or "float64".
        """
        super().__init__(dtype=dtype)
        dim, normalize = config.model.dim, config.model.normalize
        self.candidate = MlpTower(config.candidate, sizes["candidate"], dim, normalize, dtype, side="candidate")
        shared = self.candidate.features
        # With a context tower it is the merged vector that has length 1.
        alone = normalize and config.context is None
        self.query = MlpTower(config.query, sizes["query"], dim, alone, dtype, candidate=shared)
        self.normalize, self.context, self.merge = normalize, None, None
        if config.context is not None:
            self.context = MlpTower(
                config.context, sizes["context"], dim, False, dtype, side="context", candidate=shared
            )
            self.merge = ContextMerge(dim, config.model.context_merge, dtype)
        self.loss_settings = config.loss
        self.log_temperature = self.sigmoid_bias = None
        if config.loss.learn_temperature:
            self.log_temperature = self.add_weight(name="log_temperature", shape=(1,), initializer="zeros")
        if config.loss.kind == "sigmoid":
            self.sigmoid_bias = self.add_weight(name="sigmoid_bias", shape=(1,), initializer="zeros")
        self.id_name, self.bias_table = "", None
        id_feature = config.candidate_id_feature
        if config.model.candidate_bias and id_feature is not None:
            self.id_name = id_feature.name
            rows = sizes["candidate"][id_feature.name]
            self.bias_table = self.add_weight(name="candidate_bias", shape=(rows, 1), initializer="zeros")

    def encode_query(
        self,
        features: _Features,
        dropout_seed: tf.Tensor | None = None,
        moments: Moments | None = None,
        places_P: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Query features, the context's among them -> vectors [B, D], or [B, I, D] of several interests.

        Args:
            features: by name, leading dimension B; with places S.
            dropout_seed: seed [2] of this batch at this step, int64; none means serving, without dropout.
            moments: takes down what batch norms see, in training; none means serving.
            places_P: with training.positions=all, sequence * L + place of each vector wanted, which gives [P, D].
        """
        if places_P is not None:
            return self.query.places(features, places_P, _fold(dropout_seed, 0), moments)
        query = self.query(features, dropout_seed=_fold(dropout_seed, 0), moments=moments)
        if self.context is None or self.merge is None:
            return query
        context_BD = self.context(features, dropout_seed=_fold(dropout_seed, _CONTEXT_STREAM), moments=moments)
        merged = self.merge(query, context_BD)
        return l2_normalize(merged) if self.normalize else merged

    def encode_candidate(
        self, features: _Features, dropout_seed: tf.Tensor | None = None, moments: Moments | None = None
    ) -> tf.Tensor:
        """Candidate features -> vectors [B, D]; arguments as in `encode_query`."""
        return self.candidate(features, dropout_seed=_fold(dropout_seed, 1), moments=moments)

    def candidate_bias(self, features: _Features) -> tf.Tensor | None:
        """Candidate features -> what is added to their logits after the temperature [B]; none where not configured."""
        if self.bias_table is None:
            return None
        return tf.gather(self.bias_table, features[self.id_name])[:, 0]

    def temperature(self) -> float | tf.Tensor:
        """What inner products are divided by: as configured, or learned, `exp(clip(theta, low, high))`, scalar.

        The gradient passes to theta inside the bounds and on them, and is 0 outside.
        """
        if self.log_temperature is None:
            return self.loss_settings.temperature
        low, high = self.loss_settings.log_temperature_range
        return tf.exp(tf.clip_by_value(self.log_temperature, low, high))[0]

    def query_vectors(self, features: _Features) -> tf.Tensor:
        """Query features -> served vectors [B, D] or [B, I, D], with a last 1 where there is a candidate bias."""
        query_BD = self.encode_query(features)
        if self.bias_table is None:
            return query_BD
        return tf.concat([query_BD, tf.ones_like(query_BD[..., :1])], axis=-1)

    def candidate_vectors(self, features: _Features) -> tf.Tensor:
        """Candidate features -> served vectors: [B, D], and a last column of temperature times bias where there is one.

        The inner product of served vectors is temperature times the logit, so it ranks as the logits do.
        """
        candidate_BD, bias_B = self.encode_candidate(features), self.candidate_bias(features)
        if bias_B is None:
            return candidate_BD
        return tf.concat([candidate_BD, (self.temperature() * bias_B)[:, None]], axis=1)


def _fold(dropout_seed: tf.Tensor | None, number: int) -> tf.Tensor | None:
    return None if dropout_seed is None else fold_in(dropout_seed, number)

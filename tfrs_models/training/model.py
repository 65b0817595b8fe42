"""Towers and task as one model."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import VocabularySizes
from tfrs_models.tasks.retrieval import RetrievalTask
from tfrs_models.towers.two_tower import TwoTower


class RetrievalModel(tfrs.Model):
    """A TFRS model: `compute_loss` on one batch; `fit` of stock Keras works too where no dropout is configured."""

    def __init__(self, config: RunConfig, sizes: VocabularySizes, dtype: str = "float32") -> None:
        """Create towers and task; weights are zero until they are assigned.

        Args:
            config: the run.
            sizes: rows of each vocabulary by side and feature.
            dtype: of weights and results, "float32" or "float64".
        """
        super().__init__(dtype=dtype)
        self.towers = TwoTower(config, sizes, dtype)
        self.task = RetrievalTask(config.loss)
        self.drops = any(tower.dropout or tower.feature_dropout for tower in (config.query, config.candidate))

    def compute_loss(
        self, inputs: Mapping[str, Any], training: bool = False, dropout_seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Batch -> loss, scalar, nats per query.

        Args:
            inputs: from `inputs.batch_tensors`.
            training: whether dropout acts.
            dropout_seed: seed [2] of this batch at this step, int64; needed where dropout acts.
        """
        assert dropout_seed is not None or not (training and self.drops), "dropout without a seed cannot be resumed"
        seed = dropout_seed if training else None
        candidate_features = inputs["candidate_features"]
        return self.task(
            self.towers.encode_query(inputs["query_features"], seed),
            self.towers.encode_candidate(candidate_features, seed),
            bias_N=self.towers.candidate_bias(candidate_features),
            candidate_rows_B=inputs["candidate_rows"],
            log_q_N=inputs["log_q"],
            weights_B=inputs["weights"],
        )

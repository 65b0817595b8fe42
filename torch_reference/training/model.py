"""Towers and task as one module that turns a batch into a loss."""

from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import VocabularySizes
from torch_reference.inputs import BatchTensors
from torch_reference.tasks.retrieval import RetrievalTask
from torch_reference.towers.two_tower import TwoTower


@final
class RetrievalModel(nn.Module):
    """The two towers and the retrieval task of a run."""

    def __init__(self, config: RunConfig, sizes: VocabularySizes, dtype: str = "float32") -> None:
        """Build the towers; their weights are to be assigned.

        Args:
            config: the run.
            sizes: rows V of each vocabulary by side and feature name.
            dtype: of the computation; tables are float32 until `.double()` is called.
        """
        super().__init__()
        self.towers = TwoTower(config, sizes, dtype)
        self.task = RetrievalTask(config.loss)

    def compute_loss(self, batch: BatchTensors, generator: torch.Generator | None = None) -> Tensor:
        """Encode both sides and compute the loss.

        Args:
            batch: B examples; each positive's negatives are the other candidates.
            generator: source of dropout in training mode; the query tower draws first.

        Returns:
            Scalar loss, nats per query.
        """
        query_BD = self.towers.encode_query(batch["query_features"], generator)
        candidate_BD = self.towers.encode_candidate(batch["candidate_features"], generator)
        loss = self.task(
            query_BD,
            candidate_BD,
            bias_N=self.towers.candidate_bias(batch["candidate_features"]),
            candidate_rows_B=batch["candidate_rows"],
            log_q_N=batch["log_q"],
            weights_B=batch["weights"],
        )
        return cast(Tensor, loss)

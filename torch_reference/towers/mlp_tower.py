"""One encoder. Letters: B queries in the batch, F combined width, D vector width."""

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract import config
from torch_reference.layers.dense import DenseLayers
from torch_reference.layers.dropout import SeededDropout
from torch_reference.layers.features import FeatureCombiner
from torch_reference.layers.normalize import l2_normalize


@final
class MlpTower(nn.Module):
    """Features put together, dropout, hidden layers, linear layer to the common width, and L2 where asked."""

    def __init__(
        self, tower: config.Tower, sizes: Mapping[str, int], dim: int, normalize: bool, dtype: str = "float32"
    ) -> None:
        """Build the tower.

        Args:
            tower: its features and layers.
            sizes: rows V of each vocabulary by feature name.
            dim: width D at which the two towers meet.
            normalize: L2-normalise the vectors.
            dtype: of the computation; tables stay float32.
        """
        super().__init__()
        self.combiner = FeatureCombiner(tower, sizes, dtype)
        self._feature_dropout = SeededDropout(tower.feature_dropout)
        self.dense = DenseLayers(tower.layer_dims(dim), tower.activation, tower.dropout, dtype)
        self._normalize = normalize

    def forward(self, features: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Encode.

        Args:
            features: encoded features, leading dimension B.
            generator: source of dropout.

        Returns:
            Vectors [B, D].
        """
        combined_BF = self._feature_dropout(self.combiner(features), generator)
        vectors_BD = cast(Tensor, self.dense(combined_BF, generator))
        return l2_normalize(vectors_BD) if self._normalize else vectors_BD

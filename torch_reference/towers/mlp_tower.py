"""One encoder. Letters: B rows, S sequences, L places, P places that are encoded, F combined width, D vector width."""

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract import config
from torch_reference.layers.cross import CrossLayers
from torch_reference.layers.dense import DenseLayers
from torch_reference.layers.dropout import SeededDropout
from torch_reference.layers.features import FeatureCombiner
from torch_reference.layers.normalize import l2_normalize


@final
class MlpTower(nn.Module):
    """Features put together, dropout, cross layers, hidden layers, linear layer to the common width, L2 where asked.

    With a history of several interests all that stands behind the features acts on every interest alone.
    """

    def __init__(
        self,
        tower: config.Tower,
        sizes: Mapping[str, int],
        dim: int,
        normalize: bool,
        dtype: str = "float32",
        *,
        side: config.Side = "query",
        candidate: "MlpTower | None" = None,
    ) -> None:
        """Build the tower.

        Args:
            tower: its features and layers.
            sizes: rows V of each vocabulary by feature name.
            dim: width D at which the towers meet.
            normalize: L2-normalise the vectors.
            dtype: of the computation; tables stay float32.
            side: whose tower it is.
            candidate: the candidate tower, for histories and for tables that are shared.
        """
        super().__init__()
        features: FeatureCombiner | None = None if candidate is None else candidate.combiner
        self.combiner: FeatureCombiner = FeatureCombiner(tower, sizes, dtype, side=side, candidate=features)
        self._feature_dropout = SeededDropout(tower.feature_dropout)
        self.cross = CrossLayers(tower.combined_dim, tower.cross_layers, dtype)
        self.dense = DenseLayers(
            tower.layer_dims(dim), tower.activation, tower.dropout, dtype, norm=tower.norm, residual=tower.residual
        )
        self._normalize = normalize

    def forward(self, features: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Encode.

        Args:
            features: encoded features, leading dimension B.
            generator: source of dropout.

        Returns:
            Vectors [B, D]; [B, I, D] where a history has several interests.
        """
        combined = self.combiner(features, generator)
        vectors = self._behind_features(combined.flatten(0, -2), generator)
        return vectors.view(*combined.shape[:-1], -1)

    def places(
        self, features: Mapping[str, Tensor], places_P: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Encode several moments of every sequence in one pass: the vector behind each of its items.

        Args:
            features: the history's arrays, leading dimension S.
            places_P: sequence * L + place [P], of items.
            generator: source of dropout.

        Returns:
            Vectors [P, D], in the order of `places_P`.
        """
        places_SLW = self.combiner.places(features, generator)
        # Gathered first: padding goes through no layer behind.
        return self._behind_features(places_SLW.flatten(0, 1).index_select(0, places_P), generator)

    def _behind_features(self, combined_BF: Tensor, generator: torch.Generator | None) -> Tensor:
        combined_BF = self.cross(self._feature_dropout(combined_BF, generator))
        vectors_BD = cast(Tensor, self.dense(combined_BF, generator))
        return l2_normalize(vectors_BD) if self._normalize else vectors_BD

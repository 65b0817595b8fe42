"""Features put together: lookups, means of lookups, numbers.

Letters: B queries in the batch, M values of a multi-valent feature or a history, W embedding width, F combined width.
"""

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract import config

_POOLED_KINDS = ("multivalent", "history")


@final
class FeatureCombiner(nn.Module):
    """Encoded features -> one array [B, F], concatenated or summed in the order of the configuration.

    `id` and `categorical` look one row up; `multivalent` and `history` give the mean of the rows that are not padding,
    zeros where all are padding; `numeric` is one column. Gradients of the tables are sparse (one entry a lookup), and
    row 0, the padding, never gets one.
    """

    def __init__(self, tower: config.Tower, sizes: Mapping[str, int], dtype: str = "float32") -> None:
        """Build one table for every feature with a vocabulary.

        Args:
            tower: the features and how they are combined.
            sizes: rows V of each vocabulary by feature name.
            dtype: of the output. Tables are float32 whatever it is, and cast after the lookup: a catalogue's tables
                need not be held twice as large to be served in float64.
        """
        super().__init__()
        self._features = tower.features
        self._combine = tower.combine
        self._dtype = getattr(torch, dtype)
        self._places = {name: place for place, name in enumerate(self._table_names())}
        self._tables = nn.ModuleList(
            nn.Embedding.from_pretrained(
                torch.zeros(sizes[feature.name], feature.width), freeze=False, padding_idx=0, sparse=True
            )
            for feature in tower.features
            if config.table_width(feature)
        )

    @property
    def tables(self) -> dict[str, nn.Embedding]:
        """Embedding tables [V, W] by feature name."""
        return {name: cast(nn.Embedding, self._tables[place]) for name, place in self._places.items()}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Combine.

        Args:
            features: int64 [B], int64 [B, M] padded with 0, or floating [B], by name; others are ignored.

        Returns:
            Combined features [B, F].
        """
        parts = [self._part(feature, features[feature.name]) for feature in self._features]
        return torch.cat(parts, dim=1) if self._combine == "concat" else torch.stack(parts).sum(dim=0)

    def _part(self, feature: config.Feature, values: Tensor) -> Tensor:
        if not config.table_width(feature):
            return values.to(self._dtype).unsqueeze(1)
        looked_up = self._tables[self._places[feature.name]](values).to(self._dtype)
        return _mean_of_real(looked_up, values != 0) if feature.kind in _POOLED_KINDS else looked_up

    def _table_names(self) -> list[str]:
        return [feature.name for feature in self._features if config.table_width(feature)]


def _mean_of_real(values_BMW: Tensor, real_BM: Tensor) -> Tensor:
    """Mean over the places that are not padding, selected rather than multiplied; zeros where there is none."""
    count_B1 = real_BM.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(real_BM.unsqueeze(2), values_BMW, 0).sum(dim=1) / count_B1

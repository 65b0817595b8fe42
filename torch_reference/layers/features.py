"""Features put together: lookups, pooled lookups, numbers, histories.

Letters: B queries in the batch, M values of a multi-valent feature, W embedding width, F combined width, I interests.
"""

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract import config
from retrieval_contract.config.features import BaseLookup
from torch_reference.layers.history import HistoryEncoder, embedding_table, numbers
from torch_reference.layers.pooling import pool_list


@final
class FeatureCombiner(nn.Module):
    """Encoded features -> one array [B, F], concatenated or summed in the order of the configuration.

    With a history of several interests [B, I, F], everything else repeated for each. Gradients of the tables are sparse
    (one entry a lookup), and row 0, the padding, never gets one.
    """

    def __init__(
        self,
        tower: config.Tower,
        sizes: Mapping[str, int],
        dtype: str = "float32",
        *,
        side: config.Side = "query",
        candidate: "FeatureCombiner | None" = None,
    ) -> None:
        """Build a table for every feature that has one of its own.

        Args:
            tower: the features and how they are combined.
            sizes: rows V of each vocabulary by feature name; of a history's field by `<history>.<field>`.
            dtype: of the output. Tables are float32 whatever it is, and cast after the lookup: a catalogue's tables
                need not be held twice as large to be served in float64.
            side: whose features they are; those of `context` are found under `context.<name>`.
            candidate: the candidate tower's features, whose tables are looked up where `shares` says so; needed by
                histories and by what shares.
        """
        super().__init__()
        self.tower = tower
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._prefix = "context." if side == "context" else ""
        shared = candidate.tables if candidate is not None else {}
        own = [feature for feature in tower.features if feature.kind != "history" and config.table_width(feature)]
        self._own_places = {feature.name: place for place, feature in enumerate(own)}
        self._tables = nn.ModuleList(embedding_table(sizes[f.name], config.table_width(f)) for f in own)
        self._shared_places: dict[str, int] = {}
        for feature in tower.features:
            if isinstance(feature, BaseLookup) and feature.shares is not None:
                self._shared_places[feature.name] = len(self._tables)
                self._tables.append(shared[feature.shares])
        dense = [f for f in tower.features if isinstance(f, config.DenseFeature) and f.projection is not None]
        self._projection_places = {feature.name: place for place, feature in enumerate(dense)}
        self._projections = nn.ParameterList(
            torch.zeros(feature.width, feature.output_width, dtype=self._dtype) for feature in dense
        )
        self._history_places = {history.name: place for place, history in enumerate(tower.histories)}
        fields = candidate.tower if candidate is not None else tower
        self._histories = nn.ModuleList(
            HistoryEncoder(history, fields, sizes, dtype, shared=shared) for history in tower.histories
        )

    @property
    def tables(self) -> dict[str, nn.Embedding]:
        """Own embedding tables [V, W] by feature name, histories' left out."""
        return {name: cast(nn.Embedding, self._tables[place]) for name, place in self._own_places.items()}

    @property
    def projections(self) -> dict[str, Tensor]:
        """Projections [in, out] of dense features by name."""
        return {name: self._projections[place] for name, place in self._projection_places.items()}

    @property
    def histories(self) -> dict[str, HistoryEncoder]:
        """Encoders of histories by feature name."""
        return {name: cast(HistoryEncoder, self._histories[place]) for name, place in self._history_places.items()}

    def forward(self, features: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Combine.

        Args:
            features: by name, as `retrieval_contract.arrays` says, with rows as int64; others are ignored.
            generator: source of dropout in histories, in training.

        Returns:
            Combined features [B, F], or [B, I, F] where a history has several interests.
        """
        parts = [self._part(feature, features, generator) for feature in self.tower.features]
        if self.tower.combine == "sum":
            return torch.stack(parts).sum(dim=0)
        num_interests = self.tower.num_interests
        if num_interests > 1:
            parts = [part if part.ndim == 3 else part.unsqueeze(1).expand(-1, num_interests, -1) for part in parts]
        return torch.cat(parts, dim=-1)

    def places(self, features: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """The vectors of all places of the tower's one history [B, L, W]."""
        assert len(self.tower.features) == 1, "a tower of places has one history and nothing else"
        return self.histories[self.tower.features[0].name].places(features, generator)

    def _part(
        self, feature: config.Feature, features: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> Tensor:
        if isinstance(feature, config.HistoryFeature):
            return cast(Tensor, self.histories[feature.name](features, generator))
        name = self._prefix + feature.name
        values = features[name]
        place = self._own_places.get(feature.name, self._shared_places.get(feature.name))
        if place is None:
            numbers_Bn = numbers(feature, values, self._dtype)
            projection = self.projections.get(feature.name)
            return numbers_Bn if projection is None else numbers_Bn @ projection
        looked_up = self._tables[place](values).to(self._dtype)
        if isinstance(feature, config.MultivalentFeature | config.TextFeature):
            return pool_list(looked_up, values != 0, feature.pooling, features.get(f"{name}.weights"))
        return cast(Tensor, looked_up)

"""A history: its items, and how they become one vector or several.

Letters: B histories, L items, M values of a list, W width of an item, I interests, V rows of a table, n numbers.
"""

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract import config
from retrieval_contract.weights.history_names import numbers_of
from torch_reference.layers.attention_pooling import AttentionPooling
from torch_reference.layers.comirec import ComiRecPooling
from torch_reference.layers.dropout import BulkDropout
from torch_reference.layers.gru import GruPooling
from torch_reference.layers.mind import MindPooling
from torch_reference.layers.pooling import pool_list
from torch_reference.layers.transformer import TransformerPooling


@final
class HistoryEncoder(nn.Module):
    """Items `[B, L, W]`, the sum of what each carries, and their pooling.

    Items at padded places are zeros, whatever row 0 of a table holds, and give no gradient.
    """

    def __init__(
        self,
        history: config.HistoryFeature,
        candidate: config.Tower,
        sizes: Mapping[str, int],
        dtype: str = "float32",
        *,
        shared: Mapping[str, nn.Embedding],
    ) -> None:
        """Build its own tables and its pooling.

        Args:
            history: its configuration.
            candidate: the tower whose features are its fields.
            sizes: rows V of its own tables: of the ids by its name, of a field by `<history>.<field>`.
            dtype: of the computation; tables are float32.
            shared: the candidate tower's tables by feature name, which are looked up where the history shares.
        """
        super().__init__()
        self._history = history
        self._dtype: torch.dtype = getattr(torch, dtype)
        features = {feature.name: feature for feature in candidate.features}
        self._fields = tuple(features[name] for name in history.fields)
        self._table_places: dict[str, int] = {}
        self._tables = nn.ModuleList()
        self._add_tables(sizes, shared, next((f.name for f in candidate.features if f.kind == "id"), None))
        numbers = {field.name: numbers_of(field) for field in self._fields}
        self.kernels = nn.ParameterDict(
            {
                f"{place}": torch.zeros(numbers[field.name], history.width, dtype=self._dtype)
                for place, field in enumerate(self._fields)
                if numbers[field.name]
            }
        )
        self._dropout = BulkDropout(history.dropout)
        self._pooling = _pooling_layer(history, dtype)

    @property
    def tables(self) -> dict[str, nn.Embedding]:
        """Its own tables [V, W] by canonical part: `` of the ids, a field, `age`; shared ones are not its own."""
        return {name: self._table(name) for name in self._table_places if name not in self._shared_names}

    @property
    def parts(self) -> dict[str, tuple[Tensor, bool]]:
        """Canonical part of what is no table -> tensor, and whether it is transposed."""
        table = {
            f"field.{field.name}": (self.kernels[str(place)], False)
            for place, field in enumerate(self._fields)
            if str(place) in self.kernels
        }
        return table | (self._pooling.parts if self._pooling is not None else {})

    def forward(self, features: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Encode.

        Args:
            features: the history's arrays, as `retrieval_contract.arrays` says, leading dimension B.
            generator: source of dropout, and of MIND's routing.

        Returns:
            Vectors [B, W], or [B, I, W] where the pooling has several interests; zeros for an empty history.
        """
        pooling = self._pooling
        if pooling is None:
            return self._mean(features, generator)
        items_BLW, real_BL = self._real_items(features, generator)
        if isinstance(pooling, AttentionPooling | ComiRecPooling):
            return cast(Tensor, pooling(items_BLW, real_BL))
        return cast(Tensor, pooling(items_BLW, real_BL, generator))

    def places(self, features: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """The vector at every place [B, L, W]: what `forward` would give if the history ended there.

        At padded places it is anything finite. GRU and transformer only; arguments as of `forward`.
        """
        assert isinstance(self._pooling, GruPooling | TransformerPooling), "the pooling has no vector for each place"
        items_BLW, real_BL = self._real_items(features, generator)
        return self._pooling.places(items_BLW, real_BL, generator)

    def _mean(self, features: Mapping[str, Tensor], generator: torch.Generator | None) -> Tensor:
        """Mean or weighted mean [B, W]; the pooling selects the real items itself."""
        items_BLW, real_BL = self._items(features, generator)
        weighted = isinstance(self._history.pooling, config.WeightedMeanPooling)
        return pool_list(items_BLW, real_BL, "mean", features[f"{self._history.name}.weights"] if weighted else None)

    def _real_items(self, features: Mapping[str, Tensor], generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Items [B, L, W], zeros at padded places, and where they are [B, L]."""
        items_BLW, real_BL = self._items(features, generator)
        return torch.where(real_BL.unsqueeze(2), items_BLW, 0), real_BL

    def _items(self, features: Mapping[str, Tensor], generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Items [B, L, W] behind dropout, anything at padded places, and where they are [B, L]."""
        name = self._history.name
        real_BL = features[name] != 0
        parts = [self._table("")(features[name]).to(self._dtype)] if self._history.ids else []
        parts += [self._field(place, field, features) for place, field in enumerate(self._fields)]
        if self._history.age_buckets:
            parts.append(self._table("age")(features[f"{name}.ages"]).to(self._dtype))
        items_BLW = parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)
        return self._dropout(items_BLW, generator), real_BL

    def _field(self, place: int, field: config.Feature, features: Mapping[str, Tensor]) -> Tensor:
        """What an item has in a field [B, L, W]."""
        name = f"{self._history.name}.{field.name}"
        values = features[name]
        if str(place) in self.kernels:
            numbers_BLn = numbers(field, values, self._dtype)
            return cast(Tensor, numbers_BLn @ self.kernels[str(place)])
        looked_up = self._table(field.name)(values).to(self._dtype)
        if isinstance(field, config.MultivalentFeature | config.TextFeature):
            return pool_list(looked_up, values != 0, field.pooling, features.get(f"{name}.weights"))
        return cast(Tensor, looked_up)

    def _add_tables(self, sizes: Mapping[str, int], shared: Mapping[str, nn.Embedding], own_id: str | None) -> None:
        """Register own tables and shared ones, the latter under the names by which they are looked up here."""
        history = self._history
        self._shared_names: set[str] = set()
        wanted = [("", history.name, own_id)] if history.ids else []
        wanted += [
            (field.name, f"{history.name}.{field.name}", field.name) for field in self._fields if not numbers_of(field)
        ]
        for part, size_name, shared_name in wanted:
            if history.shares:
                assert shared_name is not None
                self._add(part, shared[shared_name])
                self._shared_names.add(part)
            else:
                self._add(part, embedding_table(sizes[size_name], history.width))
        if history.age_buckets:
            self._add("age", embedding_table(history.age_buckets + 1, history.width))

    def _add(self, part: str, table: nn.Embedding) -> None:
        self._table_places[part] = len(self._tables)
        self._tables.append(table)

    def _table(self, part: str) -> nn.Embedding:
        return cast(nn.Embedding, self._tables[self._table_places[part]])


def embedding_table(num_rows: int, width: int) -> nn.Embedding:
    """A table [V, W] of float32 whose gradient is sparse and whose row 0, the padding, never gets one.

    float32 whatever is computed in: values are cast behind the lookup, so that a catalogue's tables need not be held
    twice as large to be served in float64.
    """
    start_VW = torch.zeros(num_rows, width)
    return nn.Embedding.from_pretrained(start_VW, freeze=False, padding_idx=0, sparse=True)


def numbers(feature: config.Feature, values: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers of a feature that is not looked up.

    Args:
        feature: its configuration.
        values: rows [B] of a one-hot feature; else numbers, [B] or [B, n]. Leading dimensions may be more.
        dtype: of the result.

    Returns:
        Numbers [B, n]. One-hot: 1 in the place of the row less 2, zeros for padding and unknown.
    """
    if isinstance(feature, config.CategoricalFeature):
        places_n = torch.arange(2, feature.width + 2, device=values.device)
        return (values.unsqueeze(-1) == places_n).to(dtype)
    single = isinstance(feature, config.NumericFeature | config.TimeFeature) and feature.output_width == 1
    return values.to(dtype).unsqueeze(-1) if single else values.to(dtype)


def _pooling_layer(
    history: config.HistoryFeature, dtype: str
) -> AttentionPooling | ComiRecPooling | GruPooling | MindPooling | TransformerPooling | None:
    """The layer of the configured pooling; none for means."""
    pooling, width, length = history.pooling, history.width, history.max_length
    if isinstance(pooling, config.AttentionPooling):
        return AttentionPooling(width, dtype)
    if isinstance(pooling, config.GruPooling):
        return GruPooling(width, dtype)
    if isinstance(pooling, config.TransformerPooling):
        return TransformerPooling(width, length, pooling, dtype)
    if isinstance(pooling, config.MindPooling):
        return MindPooling(width, length, pooling.num_interests, pooling.num_iterations, dtype)
    if isinstance(pooling, config.ComiRecPooling):
        return ComiRecPooling(width, length, pooling.num_interests, pooling.attention_dim, dtype)
    return None

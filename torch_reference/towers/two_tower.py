"""The encoders, the candidate bias and what the loss learns.

Letters: B queries in the batch, S sequences, P places in them, N candidates, I interests, D vector width.
"""

import math
from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import VocabularySizes
from torch_reference.layers.norm import BatchNorm
from torch_reference.layers.normalize import l2_normalize
from torch_reference.towers.context import ContextMerge
from torch_reference.towers.mlp_tower import MlpTower


@final
class TwoTower(nn.Module):
    """A query tower and a candidate tower that meet at one width.

    Where configured there are a tower of the request's context, whose vector joins the query's, and a bias for every
    candidate. The numbers that the loss learns live here too, because what is served needs the temperature.
    """

    def __init__(self, config: RunConfig, sizes: VocabularySizes, dtype: str = "float32") -> None:
        """Build both towers; their weights are to be assigned (`torch_reference.weights`).

        Args:
            config: the run.
            sizes: rows V of each vocabulary by side and feature name.
            dtype: of the computation, `float32` or `float64`; tables stay float32 until `.double()` is called.
        """
        super().__init__()
        self.config, self.sizes = config, sizes
        self._dtype: torch.dtype = getattr(torch, dtype)
        dim, normalize = config.model.dim, config.model.normalize
        self.candidate = MlpTower(config.candidate, sizes["candidate"], dim, normalize, dtype, side="candidate")
        # What is merged is normalised behind the merging.
        alone = normalize and config.context is None
        self.query = MlpTower(config.query, sizes["query"], dim, alone, dtype, candidate=self.candidate)
        self.context: MlpTower | None = None
        self.merge: ContextMerge | None = None
        if config.context is not None:
            self.context = MlpTower(
                config.context, sizes["context"], dim, False, dtype, side="context", candidate=self.candidate
            )
            self.merge = ContextMerge(dim, config.model.context_merge, dtype)
        self.bias = self._bias_table()
        loss = config.loss
        self.log_temperature = self._number(math.log(loss.temperature)) if loss.learn_temperature else None
        self.sigmoid_bias = self._number(loss.sigmoid_bias) if loss.kind == "sigmoid" else None

    def temperature(self) -> float | Tensor:
        """What inner products are divided by: the configured number, or a learned one as a tensor [1].

        `exp(clip(theta, low, high))`: outside its bounds theta has a gradient of 0, on them it has one.
        """
        if self.log_temperature is None:
            return self.config.loss.temperature
        low, high = self.config.loss.log_temperature_range
        return self.log_temperature.clamp(low, high).exp()

    def encode_query(
        self,
        features: Mapping[str, Tensor],
        generator: torch.Generator | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Encode queries, and what belongs to their requests.

        Args:
            features: query features, leading dimension B; those of the context as `context.<name>`.
            generator: source of dropout; the query tower draws before the context's.
            places: with training.positions=all the places [P] of the S sequences that are encoded.

        Returns:
            Vectors [B, D]; [B, I, D] of a tower of several interests; [P, D] of places.
        """
        if places is not None:
            return self.query.places(features, places, generator)
        query_BD = cast(Tensor, self.query(features, generator))
        if self.context is None or self.merge is None:
            return query_BD
        merged_BD = self.merge(query_BD, self.context(features, generator))
        return l2_normalize(merged_BD) if self.config.model.normalize else cast(Tensor, merged_BD)

    def encode_candidate(self, features: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Candidate features, leading dimension N -> vectors [N, D], without the bias."""
        return cast(Tensor, self.candidate(features, generator))

    def candidate_bias(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """Candidate features, leading dimension N -> what is added to the logits [N]; none where not configured."""
        if self.bias is None:
            return None
        feature = self.config.candidate_id_feature
        assert feature is not None
        return cast(Tensor, self.bias(features[feature.name])).squeeze(1).to(self._dtype)

    def query_vectors(self, features: Mapping[str, Tensor]) -> Tensor:
        """Served form: `[q, 1]` where there is a candidate bias, else `q`; [B, vector_dim] or [B, I, vector_dim]."""
        query_BD = self.encode_query(features)
        return query_BD if self.bias is None else torch.cat([query_BD, torch.ones_like(query_BD[..., :1])], dim=-1)

    def candidate_vectors(self, features: Mapping[str, Tensor]) -> Tensor:
        """Served form: `[v, tau b]` where there is a candidate bias, else `v`; [N, vector_dim].

        The inner product with `[q, 1]` is tau times the uncorrected logit, so it ranks as the logits do.
        """
        candidate_ND = self.encode_candidate(features)
        bias_N = self.candidate_bias(features)
        if bias_N is None:
            return candidate_ND
        served_N1 = self.temperature() * bias_N.unsqueeze(1)
        return torch.cat([candidate_ND, served_N1], dim=1)

    def batch_norms(self) -> list[BatchNorm]:
        """Batch norms of all towers: the only layers whose statistics a step moves."""
        return [module for module in self.modules() if isinstance(module, BatchNorm)]

    def _number(self, start: float) -> nn.Parameter:
        return nn.Parameter(torch.full((1,), start, dtype=self._dtype))

    def _bias_table(self) -> nn.Embedding | None:
        feature = self.config.candidate_id_feature
        if not self.config.model.candidate_bias or feature is None:
            return None
        start_V1 = torch.zeros(self.sizes["candidate"][feature.name], 1)
        return nn.Embedding.from_pretrained(start_V1, freeze=False, padding_idx=0, sparse=True)

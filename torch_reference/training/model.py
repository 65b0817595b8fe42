"""Towers and task as one module that turns a batch into a loss.

Letters: B queries of this replica, A candidates that are encoded (positives, sampled, impressions; or the catalogue),
N columns shared by all queries, I interests, D vector width.
"""
# ruff: noqa: N815 (fields carry their shape letters)

from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor, nn

from retrieval_contract.config import MindPooling, RunConfig
from retrieval_contract.weights.names import VocabularySizes
from torch_reference.inputs import BatchTensors, FeatureTensors
from torch_reference.negatives.columns import Columns, joined
from torch_reference.negatives.replicas import gathered, replica, summed
from torch_reference.tasks.interests import attend_label, choose_interest
from torch_reference.tasks.retrieval import QueryRows, RetrievalTask
from torch_reference.towers.two_tower import TwoTower
from torch_reference.training.distinct import encode_once


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the towers give for a batch."""

    query_BD: Tensor
    """Query vectors [B, D], or [B, I, D] of a tower of several interests."""
    candidate_AD: Tensor
    """Candidate vectors [A, D], in the order of `RetrievalModel.candidate_features`."""
    bias_A: Tensor | None
    """Candidate bias [A]; none where not configured."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Queries and columns that the task scores."""

    rows: QueryRows
    """The queries of this replica."""
    columns: Columns
    """Columns of all rows: positives of all replicas, sampled ones; or the catalogue."""
    positives: Columns
    """The positives of all replicas, without a graph; with the catalogue empty."""


@final
class RetrievalModel(nn.Module):
    """The two towers and the retrieval task of a run."""

    def __init__(
        self,
        config: RunConfig,
        sizes: VocabularySizes,
        dtype: str = "float32",
        catalogue: FeatureTensors | None = None,
    ) -> None:
        """Build the towers; their weights are to be assigned.

        Args:
            config: the run.
            sizes: rows V of each vocabulary by side and feature name.
            dtype: of the computation; tables are float32 until `.double()` is called.
            catalogue: features of all candidates; needed by the losses full_softmax, which encodes them, and gbce.
        """
        super().__init__()
        num_candidates = 0 if catalogue is None else len(next(iter(catalogue.values())))
        whole = config.loss.kind == "full_softmax"
        assert num_candidates or config.loss.kind not in ("full_softmax", "gbce"), "the loss needs the catalogue"
        self.towers = TwoTower(config, sizes, dtype)
        self.task = RetrievalTask(config.loss, config.negatives, num_candidates)
        self._catalogue = catalogue if whole else None
        self._mind_power = _mind_power(config)
        self._encode_once = config.training.encode_once

    def compute_loss(
        self, batch: BatchTensors, generator: torch.Generator | None = None, bank: Columns | None = None
    ) -> Tensor:
        """Encode both sides and compute the loss.

        Args:
            batch: B examples, those of this replica.
            generator: source of dropout in training mode; the query tower draws first.
            bank: columns of earlier batches.

        Returns:
            Scalar loss, nats per query; with replicas this one's part of it.
        """
        scored = self.score(batch, self.encode(batch, generator))
        return self.loss_of(scored.rows, scored.columns, bank, total_weight(batch))

    def encode(self, batch: BatchTensors, generator: torch.Generator | None = None) -> Encoded:
        """Encode queries and candidates, the query tower first; where configured each distinct row once."""
        query_features, features = batch["query_features"], self.candidate_features(batch)

        def encode_query(some: FeatureTensors) -> list[Tensor]:
            return [self.towers.encode_query(some, generator, batch.get("places"))]

        def encode_candidate(some: FeatureTensors) -> list[Tensor]:
            bias = self.towers.candidate_bias(some)
            return [self.towers.encode_candidate(some, generator), *([] if bias is None else [bias])]

        if "query" in self._encode_once:
            [query_BD] = encode_once(encode_query, query_features, batch["query_rows"])
        else:
            [query_BD] = encode_query(query_features)
        if "candidate" in self._encode_once:
            candidate_AD, *bias_A = encode_once(encode_candidate, features, _rows_and_log_q(batch)[0])
        else:
            candidate_AD, *bias_A = encode_candidate(features)
        return Encoded(query_BD, candidate_AD, bias_A[0] if bias_A else None)

    def candidate_features(self, batch: BatchTensors) -> FeatureTensors:
        """Features of all that the candidate tower encodes: positives, sampled, impressions; or the catalogue."""
        if self._catalogue is not None:
            return self._catalogue
        parts = [batch["candidate_features"]]
        if "sampled" in batch:
            parts.append(batch["sampled"]["features"])
        if "impressions" in batch:
            parts.append(batch["impressions"]["features"])
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def score(self, batch: BatchTensors, encoded: Encoded) -> Scored:
        """Give every encoded candidate its place among the columns, and gather the positives of all replicas.

        Args:
            batch: B examples, those of this replica.
            encoded: its vectors.
        """
        own_rows = batch["candidate_rows"]
        if self._catalogue is not None:
            columns = _catalogue_columns(encoded)
            query_BD = self._queries(encoded, columns.vectors_ND[own_rows] if encoded.query_BD.ndim == 3 else None)
            return Scored(_query_rows(batch, query_BD, own_rows), columns, columns.part(0, 0))
        own = Columns(encoded.candidate_AD, *_rows_and_log_q(batch), encoded.bias_A)
        num_own = len(own_rows)
        num_shared = num_own + (len(batch["sampled"]["rows"]) if "sampled" in batch else 0)
        positives, sampled = _gathered(own.part(0, num_own)), own.part(num_own, num_shared)
        columns = positives if num_shared == num_own else joined([positives, sampled])
        impressions = own.part(num_shared, len(own.rows_N)) if "impressions" in batch else None
        places_B = replica() * num_own + torch.arange(num_own, device=own_rows.device)
        query_BD = self._queries(encoded, own.vectors_ND[:num_own])
        return Scored(_query_rows(batch, query_BD, places_B, impressions), columns, _detached(positives))

    def _queries(self, encoded: Encoded, positive_BD: Tensor | None) -> Tensor:
        """One vector for each query [B, D]: of several interests what its positive chooses."""
        if encoded.query_BD.ndim == 2:
            return encoded.query_BD
        assert positive_BD is not None
        if self._mind_power is None:
            return choose_interest(encoded.query_BD, positive_BD)
        return attend_label(encoded.query_BD, positive_BD, self._mind_power)

    def loss_of(self, rows: QueryRows, columns: Columns, bank: Columns | None, total: Tensor) -> Tensor:
        """The task's loss of some rows, divided by the weight of all of them."""
        towers = self.towers
        loss = self.task(
            rows,
            columns,
            bank,
            temperature=towers.temperature(),
            sigmoid_bias=towers.sigmoid_bias,
            total_weight=total,
        )
        return cast(Tensor, loss)


def _mind_power(config: RunConfig) -> float | None:
    """Power of the label-aware attention; none where the positive takes its best interest."""
    poolings = [history.pooling for history in config.query.histories]
    return next((pooling.power for pooling in poolings if isinstance(pooling, MindPooling)), None)


def total_weight(batch: BatchTensors) -> Tensor:
    """Sum of the weights of all replicas."""
    return summed(batch["weights"].sum())


def _rows_and_log_q(batch: BatchTensors) -> tuple[Tensor, Tensor]:
    """Entity rows [A] and log_q [A] in the order of `RetrievalModel.candidate_features`."""
    rows, log_q = [batch["candidate_rows"]], [batch["log_q"]]
    for bundle in (batch.get("sampled"), batch.get("impressions")):
        if bundle is not None:
            rows.append(bundle["rows"].flatten())
            log_q.append(bundle["log_q"].flatten())
    return torch.cat(rows), torch.cat(log_q)


def _gathered(columns: Columns) -> Columns:
    """The columns of all replicas."""
    bias_N = None if columns.bias_N is None else gathered(columns.bias_N)
    return Columns(gathered(columns.vectors_ND), gathered(columns.rows_N), gathered(columns.log_q_N), bias_N)


def _detached(columns: Columns) -> Columns:
    bias_N = None if columns.bias_N is None else columns.bias_N.detach()
    return Columns(columns.vectors_ND.detach(), columns.rows_N, columns.log_q_N, bias_N)


def _catalogue_columns(encoded: Encoded) -> Columns:
    """Every candidate as a column, in the order of its entity row; none was sampled, so log_q is 0."""
    vectors_VD = encoded.candidate_AD
    numbers_V = torch.arange(len(vectors_VD), device=vectors_VD.device)
    return Columns(vectors_VD, numbers_V, vectors_VD.new_zeros(len(vectors_VD)), encoded.bias_A)


def _query_rows(
    batch: BatchTensors, query_BD: Tensor, positive_columns_B: Tensor, impressions: Columns | None = None
) -> QueryRows:
    known = batch.get("known_positives")
    return QueryRows(
        query_BD,
        batch["weights"],
        positive_columns_B,
        impressions=impressions,
        impressions_allowed_BX=batch["impressions"]["allowed"] if impressions is not None else None,
        known_places_M=None if known is None else known["places"],
        known_rows_M=None if known is None else known["rows"],
        allowed_BN=batch.get("allowed"),
    )

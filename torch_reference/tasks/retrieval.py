"""The retrieval task: queries and columns in, one loss out.

Letters: B queries, N columns shared by all queries, X columns of each query's own, D vector width, M known pairs.
"""
# ruff: noqa: N815 (fields carry their shape letters)

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval_contract import config
from torch_reference.losses import pairwise, pointwise
from torch_reference.losses.softmax import catalogue_cross_entropy, refined_softmax, softmax_cross_entropy
from torch_reference.negatives.bank import log_sum
from torch_reference.negatives.columns import Columns, joined
from torch_reference.negatives.hardest import keep_hardest
from torch_reference.negatives.in_batch import in_batch_logits, row_wise_logits
from torch_reference.negatives.masks import mask_accidental_hits, mask_disallowed, mask_known_positives, matches


@dataclass(frozen=True, slots=True)
class QueryRows:
    """Queries with all that belongs to their rows of the logits."""

    vectors_BD: Tensor
    """Query vectors [B, D]."""
    weights_B: Tensor
    """Sample weights [B]."""
    positive_columns_B: Tensor
    """Column of each query's positive [B]."""
    impressions: Columns | None = None
    """Columns of each query's own, B X of them: query 0's first."""
    impressions_allowed_BX: Tensor | None = None
    """False where a query has fewer impressions than places [B, X]; with impressions only."""
    known_places_M: Tensor | None = None
    """Row, 0 to B - 1, of each pair of a query and a candidate that it is known to like [M], ascending."""
    known_rows_M: Tensor | None = None
    """Entity row of the candidate of each pair [M]; with `known_places_M` only."""
    allowed_BN: Tensor | None = None
    """True where a column counts for a query [B, the first so many columns]; none means all count."""

    def __len__(self) -> int:
        """Queries B."""
        return len(self.vectors_BD)

    def block(self, start: int, stop: int) -> "QueryRows":
        """The queries from `start` to before `stop`, their known pairs counted from `start`."""
        rows = replace(
            self,
            vectors_BD=self.vectors_BD[start:stop],
            weights_B=self.weights_B[start:stop],
            positive_columns_B=self.positive_columns_B[start:stop],
            allowed_BN=None if self.allowed_BN is None else self.allowed_BN[start:stop],
        )
        if self.impressions is not None and self.impressions_allowed_BX is not None:
            num_own = self.impressions_allowed_BX.shape[1]
            rows = replace(
                rows,
                impressions=self.impressions.part(start * num_own, stop * num_own),
                impressions_allowed_BX=self.impressions_allowed_BX[start:stop],
            )
        if self.known_places_M is not None and self.known_rows_M is not None:
            ends = torch.tensor([start, stop], device=self.known_places_M.device)
            first, last = torch.searchsorted(self.known_places_M, ends).tolist()
            rows = replace(
                rows,
                known_places_M=self.known_places_M[first:last] - start,
                known_rows_M=self.known_rows_M[first:last],
            )
        return rows


@final
class RetrievalTask(nn.Module):
    """Inner product, temperature, bias, log_q, candidates that are no negatives, allowed mask, hardest, loss.

    The steps do not commute, and this is their order; metrics are not computed here.
    """

    def __init__(self, settings: config.Loss, negatives: config.Negatives, num_candidates: int) -> None:
        """Keep the settings.

        Args:
            settings: kind of loss, correction and constants.
            negatives: masks, and how many of the hardest are kept.
            num_candidates: size V of the catalogue, which gBCE needs.
        """
        super().__init__()
        self._settings, self._negatives, self._num_candidates = settings, negatives, num_candidates

    def forward(
        self,
        rows: QueryRows,
        columns: Columns,
        bank: Columns | None = None,
        *,
        temperature: float | Tensor,
        sigmoid_bias: Tensor | None = None,
        total_weight: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            rows: B queries.
            columns: N candidates that all queries are scored with.
            bank: more of them, without a gradient.
            temperature: tau.
            sigmoid_bias: what the sigmoid loss adds to every logit [1].
            total_weight: what the weighted sum is divided by where these queries are a part of a larger batch; none
                means the sum of their weights.

        Returns:
            Scalar loss, nats per query.
        """
        if self._settings.kind == "full_softmax" and self._negatives.hardest is None:
            return self._catalogue_loss(rows, columns, temperature, total_weight)
        sum_B1 = None
        if bank is not None and self._needs_the_banks_sum_alone:
            sum_B1 = self._bank_sum(rows, columns, bank, temperature)
        elif bank is not None:
            columns = joined([columns, bank])
        logits_BN = self._shared_logits(rows, columns, temperature)
        if rows.impressions is not None:
            logits_BN = torch.cat([logits_BN, self._own_logits(rows, columns, temperature)], dim=1)
        if sum_B1 is not None:
            logits_BN = torch.cat([logits_BN, sum_B1], dim=1)
        if self._negatives.hardest is not None:
            logits_BN = keep_hardest(logits_BN, rows.positive_columns_B, self._negatives.hardest)
        return self._loss(logits_BN, rows, columns, sigmoid_bias, total_weight)

    @property
    def _subtracts_log_q(self) -> bool:
        # The refined loss takes it from the negatives alone, after everything else.
        return self._settings.log_q not in ("none", "refined")

    @property
    def _needs_the_banks_sum_alone(self) -> bool:
        # The refined loss counts negatives, the other losses look at each, and so do the hardest.
        settings = self._settings
        return settings.kind == "softmax" and settings.log_q != "refined" and self._negatives.hardest is None

    def _catalogue_loss(
        self, rows: QueryRows, columns: Columns, temperature: float | Tensor, total_weight: Tensor | None
    ) -> Tensor:
        """Full softmax; nothing was sampled, and every candidate has one column, so no accidental hits."""
        gone = None
        if rows.known_places_M is not None and rows.known_rows_M is not None:
            others_M = rows.known_rows_M != rows.positive_columns_B[rows.known_places_M]
            gone = rows.known_places_M[others_M], rows.known_rows_M[others_M]
        return catalogue_cross_entropy(
            rows.vectors_BD / temperature,
            columns.vectors_ND,
            columns.bias_N,
            rows.weights_B,
            rows.positive_columns_B,
            total_weight,
            gone=gone,
        )

    def _bank_sum(self, rows: QueryRows, columns: Columns, bank: Columns, temperature: float | Tensor) -> Tensor:
        """The bank as one column [B, 1]: logsumexp of its masked logits."""
        queries_B = torch.arange(len(rows), device=bank.rows_N.device)
        gone = [(queries_B[:0], queries_B[:0])]
        if self._settings.remove_accidental_hits:
            gone.append(matches(bank.rows_N, queries_B, columns.rows_N[rows.positive_columns_B]))
        if rows.known_places_M is not None and rows.known_rows_M is not None:
            gone.append(matches(bank.rows_N, rows.known_places_M, rows.known_rows_M))
        queries_H, places_H = (torch.cat(parts) for parts in zip(*gone, strict=True))
        added_S = torch.zeros_like(bank.log_q_N) if bank.bias_N is None else bank.bias_N
        if self._subtracts_log_q:
            added_S = added_S - bank.log_q_N
        return log_sum(rows.vectors_BD / temperature, bank.vectors_ND, added_S, (queries_H, places_H)).unsqueeze(1)

    def _shared_logits(self, rows: QueryRows, columns: Columns, temperature: float | Tensor) -> Tensor:
        """Logits [B, N] of the shared columns, masked."""
        positives_B = rows.positive_columns_B
        logits_BN = in_batch_logits(
            rows.vectors_BD,
            columns.vectors_ND,
            temperature=temperature,
            bias_N=columns.bias_N,
            log_q_N=columns.log_q_N if self._subtracts_log_q else None,
        )
        if self._settings.remove_accidental_hits:
            logits_BN = mask_accidental_hits(logits_BN, columns.rows_N, positives_B)
        if rows.known_places_M is not None and rows.known_rows_M is not None:
            known = rows.known_places_M, rows.known_rows_M
            logits_BN = mask_known_positives(logits_BN, columns.rows_N, positives_B, *known)
        if rows.allowed_BN is not None:
            uncovered = logits_BN.shape[1] - rows.allowed_BN.shape[1]
            logits_BN = mask_disallowed(logits_BN, functional.pad(rows.allowed_BN, (0, uncovered), value=True))
        return logits_BN

    def _own_logits(self, rows: QueryRows, columns: Columns, temperature: float | Tensor) -> Tensor:
        """Logits [B, X] of each query's own columns, masked."""
        own, allowed_BX = rows.impressions, rows.impressions_allowed_BX
        assert own is not None
        assert allowed_BX is not None
        shape = allowed_BX.shape
        logits_BX = row_wise_logits(
            rows.vectors_BD,
            own.vectors_ND.view(*shape, -1),
            temperature=temperature,
            bias_BX=None if own.bias_N is None else own.bias_N.view(shape),
            log_q_BX=own.log_q_N.view(shape) if self._subtracts_log_q else None,
        )
        rows_BX = own.rows_N.view(shape)
        if self._settings.remove_accidental_hits:
            allowed_BX = allowed_BX & (rows_BX != columns.rows_N[rows.positive_columns_B].unsqueeze(1))
        if rows.known_places_M is not None and rows.known_rows_M is not None:
            known_MX = rows_BX[rows.known_places_M] == rows.known_rows_M.unsqueeze(1)
            pairs_H, places_H = known_MX.nonzero(as_tuple=True)
            allowed_BX = allowed_BX.index_put(
                (rows.known_places_M[pairs_H], places_H), torch.tensor(False, device=allowed_BX.device)
            )
        return mask_disallowed(logits_BX, allowed_BX)

    def _loss(
        self,
        logits_BN: Tensor,
        rows: QueryRows,
        columns: Columns,
        sigmoid_bias: Tensor | None,
        total_weight: Tensor | None,
    ) -> Tensor:
        settings = self._settings
        arguments = (logits_BN, rows.weights_B, rows.positive_columns_B, total_weight)
        if settings.log_q == "refined":
            return refined_softmax(*arguments, log_q_N=_log_q_of_all(rows, columns))
        if settings.kind == "bpr":
            return pairwise.bpr(*arguments)
        if settings.kind == "triplet":
            return pairwise.triplet(*arguments, margin=settings.margin)
        if settings.kind == "contrastive":
            return pairwise.contrastive(*arguments, margin=settings.margin)
        if settings.kind == "sigmoid":
            assert sigmoid_bias is not None, "the sigmoid loss needs its bias"
            return pointwise.sigmoid(*arguments, bias=sigmoid_bias)
        if settings.kind == "gbce":
            return pointwise.gbce(*arguments, num_candidates=self._num_candidates, t=settings.gbce_t)
        return softmax_cross_entropy(*arguments)


def _log_q_of_all(rows: QueryRows, columns: Columns) -> Tensor:
    """log_q [N] of the shared columns; with columns of the queries' own [B, N + X]."""
    if rows.impressions is None:
        return columns.log_q_N
    return torch.cat([columns.log_q_N.expand(len(rows), -1), rows.impressions.log_q_N.view(len(rows), -1)], dim=1)

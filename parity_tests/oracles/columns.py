"""The candidates that stand against a query, by hand: which they are, and their vectors as nodes.

Columns of row i, in this order: positives of the batch | sampled columns | bank | the row's own impressions; with full
softmax the whole catalogue and nothing else. Written as if every row had columns of its own, [B, N, D]: that is the
definition, and at the size of these problems the memory does not matter. All of a batch's candidates are encoded in one
pass, which batch norm can tell.

Letters: B queries in the batch, N columns of a row, n columns of one kind, X impressions of a row, D vector width.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import towers
from parity_tests.oracles.differentiation import Array, Node, node
from parity_tests.oracles.inputs import NamedArrays, Nodes
from retrieval_contract.arrays import BankColumns, Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import CANDIDATE_BIAS


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Columns of one kind."""

    vectors: Node
    """[B, n, D]."""
    bias: Node
    """[B, n], zeros where the model has none."""
    rows: NDArray[Any]
    """Entity rows [B, n]."""
    log_q: Array
    """[B, n]."""
    allowed: NDArray[np.bool_]
    """False counts as absent [B, n]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Every kind of column, and what batch norm saw."""

    kinds: list[Columns]
    """In order."""
    statistics: dict[str, Array]
    """As `towers.Encoded.statistics`."""


def columns_of(
    config: RunConfig,
    weights: NamedArrays | Nodes,
    batch: Batch,
    *,
    catalogue: NamedArrays | None = None,
    bank: BankColumns | None = None,
) -> Candidates:
    """Every kind of column that the batch has.

    Args:
        config: the run.
        weights: canonical name -> array or node.
        batch: one training batch.
        catalogue: encoded features of all candidates; full softmax needs them.
        bank: stored columns; None where there are none.
    """
    weights = towers.leaves(weights)
    groups = encoded_together(config, batch, catalogue)
    features = towers.stacked(groups)
    encoded = towers.encode_candidate(config, weights, features, training=True)
    bias_N = bias_of(config, weights, features)
    ends = np.cumsum([num_candidates(group) for group in groups])
    parts = [slice(end - num_candidates(group), end) for end, group in zip(ends, groups, strict=True)]
    pieces = [(encoded.vectors[part], bias_N[part]) for part in parts]
    return Candidates(kinds=_kinds(config, batch, pieces, bank), statistics=encoded.statistics)


def encoded_together(config: RunConfig, batch: Batch, catalogue: NamedArrays | None) -> list[NamedArrays]:
    """Features of the positives, the sampled columns and the impressions; with full softmax of the catalogue alone."""
    if config.loss.kind == "full_softmax":
        assert catalogue is not None
        return [catalogue]
    others = [columns.features for columns in (batch.sampled, batch.impressions) if columns is not None]
    return [batch.candidate_features, *others]


def positive_columns(config: RunConfig, batch: Batch) -> NDArray[np.int64]:
    """Column of each row's positive [B]: the diagonal, or with full softmax the candidate's own row."""
    if config.loss.kind == "full_softmax":
        return np.asarray(batch.candidate_rows, np.int64)
    return np.arange(len(batch.candidate_rows))


def bias_of(config: RunConfig, weights: Nodes, features: NamedArrays) -> Node:
    """Candidate bias of encoded candidates, zeros where the model has none."""
    if not config.model.candidate_bias:
        return node(np.zeros(num_candidates(features)))
    return weights[CANDIDATE_BIAS][bias_rows(config, features)][:, 0]


def bias_rows(config: RunConfig, features: NamedArrays) -> NDArray[Any]:
    """Vocabulary rows of the candidate ids [B]."""
    assert config.candidate_id_feature is not None
    return features[config.candidate_id_feature.name]


def num_candidates(features: NamedArrays) -> int:
    """Leading dimension of encoded features."""
    return len(next(iter(features.values())))


def _kinds(config: RunConfig, batch: Batch, pieces: list[tuple[Node, Node]], bank: BankColumns | None) -> list[Columns]:
    num_rows, pieces = len(batch.candidate_rows), list(pieces)
    if config.loss.kind == "full_softmax":
        every_row = np.arange(pieces[0][0].shape[0])
        return [_shared(*pieces[0], every_row, np.zeros(len(every_row)), num_rows)]
    kinds = [_shared(*pieces.pop(0), batch.candidate_rows, batch.log_q, num_rows)]
    if batch.sampled is not None:
        kinds.append(_shared(*pieces.pop(0), batch.sampled.rows, batch.sampled.log_q, num_rows))
    if bank is not None:
        bias_S = np.zeros(len(bank.rows)) if bank.bias is None else bank.bias
        kinds.append(_shared(node(bank.vectors), node(bias_S), bank.rows, bank.log_q, num_rows))
    if batch.impressions is not None:
        kinds.append(_own(*pieces.pop(0), batch))
    return kinds


def _shared(vectors_ND: Node, bias_N: Node, rows: NDArray[Any], log_q: NDArray[Any], num_rows: int) -> Columns:
    """Candidates that are columns of every one of `num_rows` rows."""
    return Columns(
        vectors=vectors_ND[None] + np.zeros((num_rows, 1, 1)),
        bias=bias_N[None] + np.zeros((num_rows, 1)),
        rows=np.broadcast_to(rows, (num_rows, len(rows))),
        log_q=np.broadcast_to(np.asarray(log_q, np.float64), (num_rows, len(rows))),
        allowed=np.ones((num_rows, len(rows)), bool),
    )


def _own(vectors_ND: Node, bias_N: Node, batch: Batch) -> Columns:
    """Each row's own impressions."""
    shown = batch.impressions
    assert shown is not None
    return Columns(
        vectors=vectors_ND.reshape(*shown.rows.shape, vectors_ND.shape[1]),
        bias=bias_N.reshape(*shown.rows.shape),
        rows=shown.rows,
        log_q=np.asarray(shown.log_q, np.float64),
        allowed=shown.allowed,
    )

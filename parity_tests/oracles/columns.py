"""The candidates that stand against a query, by hand: which they are, and how a gradient at their logits goes back.

Columns of row i, in this order: positives of the batch | sampled columns | bank | the row's own impressions; with full
softmax the whole catalogue and nothing else. Written as if every row had columns of its own, [B, N, D]: that is the
definition, and at the size of these problems the memory does not matter.

Letters: B queries in the batch, N columns of a row, n columns of one kind, X impressions of a row, D vector width.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import towers
from parity_tests.oracles.towers import Array, Arrays, NamedArrays, Trace
from retrieval_contract.arrays import BankColumns, Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import CANDIDATE_BIAS


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Columns of one kind."""

    vectors: Array
    """[B, n, D]."""
    bias: Array
    """[B, n], zeros where the model has none."""
    rows: NDArray[Any]
    """Entity rows [B, n]."""
    log_q: Array
    """[B, n]."""
    allowed: NDArray[np.bool_]
    """False counts as absent [B, n]."""
    features: NamedArrays | None
    """What was encoded: leading dimension n, or B n where each row has its own; None where nothing was (bank)."""
    trace: Trace | None
    """Of the encoding."""
    shared: bool
    """True where all rows have the same columns."""


def columns_of(
    config: RunConfig,
    weights: NamedArrays,
    batch: Batch,
    *,
    catalogue: NamedArrays | None = None,
    bank: BankColumns | None = None,
) -> list[Columns]:
    """Every kind of column that the batch has, in order.

    Args:
        config: the run.
        weights: canonical name -> array.
        batch: one training batch.
        catalogue: encoded features of all candidates; full softmax needs them.
        bank: stored columns; None where there are none.
    """
    num_rows = len(batch.candidate_rows)
    if config.loss.kind == "full_softmax":
        assert catalogue is not None
        every_row = np.arange(num_candidates(catalogue))
        return [_shared(config, weights, catalogue, every_row, np.zeros(len(every_row)), num_rows)]
    kinds = [_shared(config, weights, batch.candidate_features, batch.candidate_rows, batch.log_q, num_rows)]
    if batch.sampled is not None:
        drawn = batch.sampled
        kinds.append(_shared(config, weights, drawn.features, drawn.rows, drawn.log_q, num_rows))
    if bank is not None:
        kinds.append(_stored(bank, num_rows))
    if batch.impressions is not None:
        kinds.append(_own(config, weights, batch))
    return kinds


def positive_columns(config: RunConfig, batch: Batch) -> NDArray[np.int64]:
    """Column of each row's positive [B]: the diagonal, or with full softmax the candidate's own row."""
    if config.loss.kind == "full_softmax":
        return np.asarray(batch.candidate_rows, np.int64)
    return np.arange(len(batch.candidate_rows))


def pulled_back(
    config: RunConfig, weights: NamedArrays, kinds: list[Columns], vector_flow_BND: Array, bias_flow_BN: Array
) -> Arrays:
    """Gradient of every parameter of the candidate's side, from that at the columns' vectors and biases.

    Args:
        config: the run.
        weights: canonical name -> array.
        kinds: from `columns_of`.
        vector_flow_BND: gradient at every column's vector, kinds one behind the other.
        bias_flow_BN: gradient at every column's bias.

    Returns:
        Canonical name -> dense gradient, summed over kinds and duplicates; nothing flows into a bank.
    """
    gradients = {name: np.zeros(np.shape(array)) for name, array in weights.items() if name.startswith("candidate.")}
    start = 0
    for kind in kinds:
        part = slice(start, start + kind.rows.shape[1])
        start = part.stop
        if kind.features is None or kind.trace is None:
            continue
        vector_flow, bias_flow = vector_flow_BND[:, part], bias_flow_BN[:, part]
        if kind.shared:
            vector_flow, bias_flow = vector_flow.sum(axis=0), bias_flow.sum(axis=0)
        flow = vector_flow.reshape(kind.trace.vectors.shape)
        pulled = towers.pull_back("candidate", config, weights, kind.features, kind.trace, flow)
        for name, gradient in pulled.items():
            gradients[name] += gradient
        if config.model.candidate_bias:
            np.add.at(gradients[CANDIDATE_BIAS][:, 0], bias_rows(config, kind.features), bias_flow.reshape(-1))
    return gradients


def bias_of(config: RunConfig, weights: NamedArrays, features: NamedArrays) -> Array:
    """Candidate bias of encoded candidates, zeros where the model has none."""
    if not config.model.candidate_bias:
        return np.zeros(num_candidates(features))
    return np.asarray(weights[CANDIDATE_BIAS], np.float64)[bias_rows(config, features), 0]


def bias_rows(config: RunConfig, features: NamedArrays) -> NDArray[Any]:
    """Vocabulary rows of the candidate ids [B]."""
    assert config.candidate_id_feature is not None
    return features[config.candidate_id_feature.name]


def num_candidates(features: NamedArrays) -> int:
    """Leading dimension of encoded features."""
    return len(next(iter(features.values())))


def _shared(
    config: RunConfig, weights: NamedArrays, features: NamedArrays, rows: NDArray[Any], log_q: NDArray[Any], num: int
) -> Columns:
    """Candidates that are columns of every one of `num` rows."""
    trace = towers.encode("candidate", config, weights, features)
    return Columns(
        vectors=np.broadcast_to(trace.vectors, (num, *trace.vectors.shape)),
        bias=np.broadcast_to(bias_of(config, weights, features), (num, len(rows))),
        rows=np.broadcast_to(rows, (num, len(rows))),
        log_q=np.broadcast_to(np.asarray(log_q, np.float64), (num, len(rows))),
        allowed=np.ones((num, len(rows)), bool),
        features=features,
        trace=trace,
        shared=True,
    )


def _stored(bank: BankColumns, num: int) -> Columns:
    bias_S = np.zeros(len(bank.rows)) if bank.bias is None else np.asarray(bank.bias, np.float64)
    return Columns(
        vectors=np.broadcast_to(np.asarray(bank.vectors, np.float64), (num, *bank.vectors.shape)),
        bias=np.broadcast_to(bias_S, (num, len(bank.rows))),
        rows=np.broadcast_to(bank.rows, (num, len(bank.rows))),
        log_q=np.broadcast_to(np.asarray(bank.log_q, np.float64), (num, len(bank.rows))),
        allowed=np.ones((num, len(bank.rows)), bool),
        features=None,
        trace=None,
        shared=True,
    )


def _own(config: RunConfig, weights: NamedArrays, batch: Batch) -> Columns:
    """Each row's own impressions."""
    shown = batch.impressions
    assert shown is not None
    trace = towers.encode("candidate", config, weights, shown.features)
    return Columns(
        vectors=trace.vectors.reshape((*shown.rows.shape, trace.vectors.shape[1])),
        bias=bias_of(config, weights, shown.features).reshape(shown.rows.shape),
        rows=shown.rows,
        log_q=np.asarray(shown.log_q, np.float64),
        allowed=shown.allowed,
        features=shown.features,
        trace=trace,
        shared=False,
    )

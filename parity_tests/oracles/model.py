"""The whole model by hand: logits, loss, gradient of every parameter by canonical name, served vectors, in float64."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import columns, logits, losses, negatives, towers
from parity_tests.oracles.columns import Columns
from parity_tests.oracles.towers import Array, Arrays, NamedArrays, Trace
from retrieval_contract.arrays import BankColumns, Batch
from retrieval_contract.config import RunConfig, Side, table_width
from retrieval_contract.weights.names import CANDIDATE_BIAS, LOG_TEMPERATURE, SIGMOID_BIAS, embedding_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What a forward pass leaves for the backward pass."""

    query: Trace
    kinds: list[Columns]
    """Columns, kind by kind."""
    products: Array
    """Inner products [B, N]."""
    logits: Array
    """What enters the loss [B, N]; the sigmoid's bias not yet added."""
    log_q: Array
    """log_q of every column [B, N]."""
    positives: NDArray[np.int64]
    """Column of each row's positive [B]."""


def loss_and_gradients(
    config: RunConfig,
    weights: NamedArrays,
    batch: Batch,
    *,
    catalogue: NamedArrays | None = None,
    bank: BankColumns | None = None,
) -> tuple[float, Arrays]:
    """Loss in nats per query, and its gradient with respect to every parameter, duplicates summed.

    Args:
        config: the run; dropout is not applied, and chunks change nothing.
        weights: canonical name -> array.
        batch: one training batch.
        catalogue: encoded features of all candidates; full softmax and gBCE need them.
        bank: stored columns; None where there are none.

    Returns:
        Loss, and canonical name -> dense gradient.
    """
    passed = forward(config, weights, batch, catalogue=catalogue, bank=bank)
    size = 0 if catalogue is None else columns.num_candidates(catalogue)
    beta = float(weights[SIGMOID_BIAS][0]) if config.loss.kind == "sigmoid" else 0.0
    loss, flow_BN = losses.weighted_mean(
        losses.row_loss(config.loss, num_candidates=size),
        passed.logits + beta,
        passed.log_q,
        np.asarray(batch.weights, np.float64),
        passed.positives,
    )
    return loss, pulled_back(config, weights, batch, passed, flow_BN)


def forward(
    config: RunConfig,
    weights: NamedArrays,
    batch: Batch,
    *,
    catalogue: NamedArrays | None = None,
    bank: BankColumns | None = None,
) -> Forward:
    """From features to the logits that enter the loss."""
    query = towers.encode("query", config, weights, batch.query_features)
    kinds = columns.columns_of(config, weights, batch, catalogue=catalogue, bank=bank)
    vectors_BND, bias_BN, log_q_BN = (
        np.concatenate([getattr(kind, name) for kind in kinds], axis=1) for name in ("vectors", "bias", "log_q")
    )
    products_BN = logits.products(query.vectors, vectors_BND)
    logits_BN = logits.logits(
        products_BN,
        temperature=logits.temperature(config, weights),
        bias_BN=bias_BN,
        log_q_BN=logits.subtracted_log_q(config, log_q_BN),
    )
    positives_B = columns.positive_columns(config, batch)
    return Forward(
        query=query,
        kinds=kinds,
        products=products_BN,
        logits=masked(config, batch, logits_BN, kinds, positives_B),
        log_q=log_q_BN,
        positives=positives_B,
    )


def masked(config: RunConfig, batch: Batch, logits_BN: Array, kinds: list[Columns], positives_B: NDArray[Any]) -> Array:
    """Steps 4 to 6: -inf where a column does not count for a row."""
    rows_BN, allowed_BN = (
        np.concatenate([getattr(kind, name) for kind in kinds], axis=1) for name in ("rows", "allowed")
    )
    if config.loss.remove_accidental_hits:
        logits_BN = negatives.select(logits_BN, negatives.accidental_hits(rows_BN, positives_B))
    if batch.known_positives is not None:
        logits_BN = negatives.select(logits_BN, negatives.known(rows_BN, positives_B, batch.known_positives))
    if batch.allowed is not None:
        allowed_BN[:, : batch.allowed.shape[1]] &= batch.allowed
    logits_BN = negatives.select(logits_BN, negatives.disallowed(allowed_BN))
    if config.negatives.hardest is not None:
        out_BN = negatives.all_but_hardest(logits_BN, positives_B, config.negatives.hardest)
        logits_BN = negatives.select(logits_BN, out_BN)
    return logits_BN


def pulled_back(config: RunConfig, weights: NamedArrays, batch: Batch, passed: Forward, flow_BN: Array) -> Arrays:
    """Gradient of every parameter, from that at the logits [B, N]."""
    tau = logits.temperature(config, weights)
    vectors_BND = np.concatenate([kind.vectors for kind in passed.kinds], axis=1)
    query_flow_BD = np.einsum("bn,bnd->bd", flow_BN, vectors_BND) / tau
    vector_flow_BND = flow_BN[:, :, None] * passed.query.vectors[:, None, :] / tau
    gradients = towers.pull_back("query", config, weights, batch.query_features, passed.query, query_flow_BD)
    gradients |= columns.pulled_back(config, weights, passed.kinds, vector_flow_BND, flow_BN)
    if config.loss.learn_temperature:
        by_theta = -(flow_BN * passed.products).sum() / tau * logits.clip_slope(config, weights)
        gradients[LOG_TEMPERATURE] = np.array([by_theta])
    if config.loss.kind == "sigmoid":
        gradients[SIGMOID_BIAS] = np.array([flow_BN.sum()])
    return gradients


def served_vectors(side: Side, config: RunConfig, weights: NamedArrays, features: NamedArrays) -> Array:
    """Vectors as an index holds them: [q, 1] and [v, tau b] where there is a candidate bias."""
    vectors_BD = towers.encode(side, config, weights, features).vectors
    if not config.model.candidate_bias:
        return vectors_BD
    if side == "query":
        return np.concatenate([vectors_BD, np.ones((len(vectors_BD), 1))], axis=1)
    bias_B1 = columns.bias_of(config, weights, features)[:, None]
    return np.concatenate([vectors_BD, logits.temperature(config, weights) * bias_B1], axis=1)


def looked_up_rows(
    config: RunConfig, batches: Sequence[Batch], catalogue: NamedArrays | None = None
) -> dict[str, NDArray[Any]]:
    """Distinct rows that the batches of a step look up, by canonical name of the table.

    Whatever is encoded is looked up: places without an impression too, and with full softmax the catalogue in the
    place of the positives.
    """
    rows: dict[str, list[NDArray[Any]]] = {}
    for side, features in (entry for batch in batches for entry in _encoded(config, batch, catalogue)):
        for feature in towers.tower_of(side, config).features:
            if table_width(feature):
                rows.setdefault(embedding_name(side, feature.name), []).append(features[feature.name].reshape(-1))
        if side == "candidate" and config.model.candidate_bias:
            rows.setdefault(CANDIDATE_BIAS, []).append(columns.bias_rows(config, features))
    return {name: np.unique(np.concatenate(parts)) for name, parts in rows.items()}


def _encoded(config: RunConfig, batch: Batch, catalogue: NamedArrays | None) -> Iterator[tuple[Side, NamedArrays]]:
    yield "query", batch.query_features
    if config.loss.kind == "full_softmax":
        assert catalogue is not None
        yield "candidate", catalogue
        return
    yield "candidate", batch.candidate_features
    for columns_of_batch in (batch.sampled, batch.impressions):
        if columns_of_batch is not None:
            yield "candidate", columns_of_batch.features

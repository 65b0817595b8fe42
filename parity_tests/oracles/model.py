"""The whole model by hand: logits, loss, gradient of every parameter by canonical name, served vectors, in float64."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import columns, interests, logits, losses, negatives, towers
from parity_tests.oracles.columns import Columns
from parity_tests.oracles.differentiation import Array, Node, concatenated, gradients
from parity_tests.oracles.inputs import NamedArrays, Nodes
from parity_tests.oracles.towers import Arrays
from retrieval_contract.arrays import BankColumns, Batch
from retrieval_contract.config import MindPooling, RunConfig, Side
from retrieval_contract.weights.names import CANDIDATE_BIAS, LOG_TEMPERATURE, SIGMOID_BIAS


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What a forward pass leaves for the backward pass."""

    leaves: dict[str, Node]
    """Weights by canonical name."""
    query: Node
    """Query vectors [B, D]: of several interests what the label took."""
    kinds: list[Columns]
    """Columns, kind by kind."""
    products: Node
    """Inner products [B, N]."""
    unmasked: Node
    """Logits before any mask [B, N]."""
    logits: Array
    """What enters the loss [B, N]; the sigmoid's bias not yet added."""
    log_q: Array
    """log_q of every column [B, N]."""
    positives: NDArray[np.int64]
    """Column of each row's positive [B]."""
    statistics: Arrays
    """Mean and variance of this pass, by the canonical names of the moving ones."""


def loss_and_gradients(
    config: RunConfig,
    weights: NamedArrays,
    batch: Batch,
    *,
    catalogue: NamedArrays | None = None,
    bank: BankColumns | None = None,
) -> tuple[float, Arrays]:
    """Loss in nats per query, and its gradient with respect to every trained parameter, duplicates summed.

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
    return loss, pulled_back(config, weights, passed, flow_BN)


def forward(
    config: RunConfig,
    weights: NamedArrays,
    batch: Batch,
    *,
    catalogue: NamedArrays | None = None,
    bank: BankColumns | None = None,
) -> Forward:
    """From features to the logits that enter the loss."""
    leaves = towers.leaves(weights)
    candidates = columns.columns_of(config, leaves, batch, catalogue=catalogue, bank=bank)
    kinds, positives_B = candidates.kinds, columns.positive_columns(config, batch)
    vectors_BND = concatenated([kind.vectors for kind in kinds], axis=1)
    query, statistics = query_vectors(config, leaves, batch, vectors_BND[np.arange(len(positives_B)), positives_B])
    products_BN = logits.products(query, vectors_BND)
    log_q_BN = np.concatenate([kind.log_q for kind in kinds], axis=1)
    unmasked_BN = logits.logits(
        products_BN,
        temperature=logits.temperature(config, weights),
        bias_BN=concatenated([kind.bias for kind in kinds], axis=1),
        log_q_BN=logits.subtracted_log_q(config, log_q_BN),
    )
    return Forward(
        leaves=leaves,
        query=query,
        kinds=kinds,
        products=products_BN,
        unmasked=unmasked_BN,
        logits=masked(config, batch, unmasked_BN.value, kinds, positives_B),
        log_q=log_q_BN,
        positives=positives_B,
        statistics=statistics | candidates.statistics,
    )


def query_vectors(config: RunConfig, weights: Nodes, batch: Batch, positive_BD: Node) -> tuple[Node, Arrays]:
    """One vector for each row [B, D]: at its place, or what its positive takes of several interests."""
    encoded = towers.encode_query(config, weights, batch.query_features, training=True, places=batch.places is not None)
    vectors = encoded.vectors
    if batch.places is not None:
        vectors = vectors[predicted_places(batch)]
    if config.num_interests > 1:
        vectors = taken_by_the_label(config, vectors, positive_BD)
    return vectors, encoded.statistics


def predicted_places(batch: Batch) -> NDArray[Any]:
    """Place of each row among the S L places."""
    assert batch.places is not None
    return batch.places


def taken_by_the_label(config: RunConfig, interests_BID: Node, positive_BD: Node) -> Node:
    """MIND attends, ComiRec chooses."""
    [pooling] = [history.pooling for history in config.query.histories if history.num_interests > 1]
    if isinstance(pooling, MindPooling):
        return interests.attended(interests_BID, positive_BD, pooling.power)
    return interests.chosen(interests_BID, positive_BD)


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


def pulled_back(config: RunConfig, weights: NamedArrays, passed: Forward, flow_BN: Array) -> Arrays:
    """Gradient of every trained parameter, from that at the logits [B, N]."""
    trained = {name: leaf for name, leaf in passed.leaves.items() if is_trained(name)}
    found = gradients([(passed.unmasked, flow_BN)], trained)
    if config.loss.learn_temperature:
        tau = logits.temperature(config, weights)
        by_theta = -(flow_BN * passed.products.value).sum() / tau * logits.clip_slope(config, weights)
        found[LOG_TEMPERATURE] = np.array([by_theta])
    if config.loss.kind == "sigmoid":
        found[SIGMOID_BIAS] = np.array([flow_BN.sum()])
    return found


def is_trained(name: str) -> bool:
    """False of moving statistics and of a routing's fixed draw, by canonical name."""
    is_drawn = name.startswith("query.history.") and name.endswith(".routing")
    return not is_drawn and not name.endswith((".norm.mean", ".norm.variance"))


def served_vectors(side: Side, config: RunConfig, weights: NamedArrays, features: NamedArrays) -> Array:
    """Vectors as an index holds them: [q, 1] and [v, tau b] where there is a candidate bias."""
    encode = towers.encode_query if side == "query" else towers.encode_candidate
    vectors = encode(config, weights, features, training=False).vectors.value
    if not config.model.candidate_bias:
        return vectors
    if side == "query":
        return np.concatenate([vectors, np.ones((*vectors.shape[:-1], 1))], axis=-1)
    bias_B1 = columns.bias_of(config, towers.leaves(weights), features).value[:, None]
    return np.concatenate([vectors, logits.temperature(config, weights) * bias_B1], axis=1)


def served_scores(query: Array, candidate_ND: Array) -> Array:
    """Inner products [B, N]; of several interests the largest."""
    scores = query @ candidate_ND.T
    return scores.max(axis=1) if scores.ndim == 3 else scores


def looked_up_rows(
    config: RunConfig, batches: Sequence[Batch], catalogue: NamedArrays | None = None
) -> dict[str, NDArray[Any]]:
    """Distinct rows that the batches of a step look up, by canonical name of the table.

    Whatever is encoded is looked up: places without an impression too, and with full softmax the catalogue in the
    place of the positives.
    """
    rows: dict[str, list[NDArray[Any]]] = {}
    for side, features in (entry for batch in batches for entry in _encoded(config, batch, catalogue)):
        for name, found in towers.tower_lookups(side, config, features):
            rows.setdefault(name, []).append(found.reshape(-1))
        if side == "candidate" and config.model.candidate_bias:
            rows.setdefault(CANDIDATE_BIAS, []).append(columns.bias_rows(config, features))
    return {name: np.unique(np.concatenate(parts)) for name, parts in rows.items()}


def _encoded(config: RunConfig, batch: Batch, catalogue: NamedArrays | None) -> Iterator[tuple[Side, NamedArrays]]:
    yield "query", batch.query_features
    for features in columns.encoded_together(config, batch, catalogue):
        yield "candidate", features

"""The whole model by hand: logits, loss, gradient of every parameter by canonical name, served vectors, in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import softmax, towers
from parity_tests.oracles.towers import Array, Arrays, NamedArrays, Trace
from retrieval_contract.arrays import Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import CANDIDATE_BIAS, Side, embedding_name


def loss_and_gradients(config: RunConfig, weights: NamedArrays, batch: Batch) -> tuple[float, Arrays]:
    """Loss in nats per query, and its gradient with respect to every parameter, duplicates summed.

    Args:
        config: the run; dropout is not applied.
        weights: canonical name -> array.
        batch: one training batch.

    Returns:
        Loss, and canonical name -> dense gradient.
    """
    query, candidate, logits_BN = forward(config, weights, batch)
    loss, flow_BN = softmax.softmax_cross_entropy(logits_BN, np.asarray(batch.weights, np.float64))
    tau = config.loss.temperature
    query_flow, candidate_flow = flow_BN @ candidate.vectors / tau, flow_BN.T @ query.vectors / tau
    gradients = towers.pull_back("query", config, weights, batch.query_features, query, query_flow)
    gradients |= towers.pull_back("candidate", config, weights, batch.candidate_features, candidate, candidate_flow)
    if config.model.candidate_bias:
        gradients[CANDIDATE_BIAS] = np.zeros(weights[CANDIDATE_BIAS].shape)
        np.add.at(gradients[CANDIDATE_BIAS][:, 0], bias_rows(config, batch.candidate_features), flow_BN.sum(axis=0))
    return loss, gradients


def forward(config: RunConfig, weights: NamedArrays, batch: Batch) -> tuple[Trace, Trace, Array]:
    """Both towers' traces and the logits [B, B] that enter the softmax."""
    query = towers.encode("query", config, weights, batch.query_features)
    candidate = towers.encode("candidate", config, weights, batch.candidate_features)
    bias_N = None
    if config.model.candidate_bias:
        bias_N = np.asarray(weights[CANDIDATE_BIAS], np.float64)[bias_rows(config, batch.candidate_features), 0]
    logits_BN = softmax.in_batch_logits(
        query.vectors,
        candidate.vectors,
        temperature=config.loss.temperature,
        bias_N=bias_N,
        log_q_N=np.asarray(batch.log_q, np.float64),
    )
    if config.loss.remove_accidental_hits:
        logits_BN = softmax.without_accidental_hits(logits_BN, batch.candidate_rows)
    return query, candidate, logits_BN


def served_vectors(side: Side, config: RunConfig, weights: NamedArrays, features: NamedArrays) -> Array:
    """Vectors as an index holds them: [q, 1] and [v, tau b] where there is a candidate bias."""
    vectors_BD = towers.encode(side, config, weights, features).vectors
    if not config.model.candidate_bias:
        return vectors_BD
    if side == "query":
        return np.concatenate([vectors_BD, np.ones((len(vectors_BD), 1))], axis=1)
    bias_B1 = np.asarray(weights[CANDIDATE_BIAS], np.float64)[bias_rows(config, features)]
    return np.concatenate([vectors_BD, config.loss.temperature * bias_B1], axis=1)


def looked_up_rows(config: RunConfig, batches: Sequence[Batch]) -> dict[str, NDArray[Any]]:
    """Distinct rows that the batches of a step look up, by canonical name of the table."""
    rows: dict[str, list[NDArray[Any]]] = {}
    for batch in batches:
        sides: tuple[tuple[Side, NamedArrays], ...] = (
            ("query", batch.query_features),
            ("candidate", batch.candidate_features),
        )
        for side, features in sides:
            for feature in towers.tower_of(side, config).features:
                if feature.has_vocabulary:
                    rows.setdefault(embedding_name(side, feature.name), []).append(features[feature.name].reshape(-1))
        if config.model.candidate_bias:
            rows.setdefault(CANDIDATE_BIAS, []).append(bias_rows(config, batch.candidate_features))
    return {name: np.unique(np.concatenate(parts)) for name, parts in rows.items()}


def bias_rows(config: RunConfig, features: NamedArrays) -> NDArray[Any]:
    """Vocabulary rows of the candidate ids [B]."""
    assert config.candidate_id_feature is not None
    return features[config.candidate_id_feature.name]

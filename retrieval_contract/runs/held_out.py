"""Query vectors of the held-out part, as many as a measurement needs, in an order that means nothing."""

import numpy as np

from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.runs.opened import QUERIES_AT_ONCE, OpenedRun
from retrieval_contract.sampling.streams import stream, uniforms

LEAST = 2
"""Held-out queries below which all queries are taken."""


def held_out_queries(opened: OpenedRun, at_most: int) -> tuple[Float32Array, str]:
    """Draw queries of the configured part, each as evaluation asks it; without such, of all queries as they stand now.

    Args:
        opened: the run.
        at_most: queries to return.

    Returns:
        Vectors [Q, D] or [Q, I, D], none of them all zero, Q possibly 0; and what they are, in a few words.
    """
    part = opened.config.evaluation.part
    requests = opened.prepared.evaluation_requests(part)
    held_out = len(requests) >= LEAST
    total = len(requests) if held_out else len(opened.prepared.queries.ids)
    order = np.argsort(uniforms(stream(opened.config.seed), total), kind="stable")[:at_most]
    blocks = [order[start : start + QUERIES_AT_ONCE] for start in range(0, len(order), QUERIES_AT_ONCE)]
    if held_out:
        vectors = np.concatenate([_asked(opened, requests[block]) for block in blocks])
    else:
        vectors = np.concatenate([opened.query_vectors(block.astype(np.int32)) for block in blocks])
    vectors = vectors[vectors.reshape(len(vectors), -1).any(axis=1)]
    what = f"queries of the {part} part" if held_out else f"queries, whether held out or not: the {part} part has none"
    return vectors, f"{len(vectors):,} {what}"


def _asked(opened: OpenedRun, requests: Int64Array) -> Float32Array:
    """Vectors of the queries of some held-out interactions, as known at their moments."""
    prepared = opened.prepared
    rows, times = prepared.interactions.query_rows[requests], prepared.interactions.times[requests]
    features = prepared.query_features(rows, times, requests, part=opened.config.evaluation.part)
    return opened.encoders.encode_queries(features)

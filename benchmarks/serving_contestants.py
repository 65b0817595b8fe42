"""Who is compared in `benchmarks.serving_latency`: each answers one query with ids, the excluded ones left out.

PyTorch must be imported before TensorFlow, so frameworks are imported where a contestant is built.

Letters: N candidates, Q queries, D width, M excluded, K results.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.train_ours import run_config
from benchmarks.train_problem import draw_weights
from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Int32Array, Vectors
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.stack import Stack

HOMES: Mapping[str, tuple[str, str]] = {
    "scann": ("tfrs_models.indexes.scann_index", "ScannIndex"),
    "partitioned": ("tfrs_models.indexes.partitioned_index", "PartitionedIndex"),
    "faiss": ("torch_reference.indexes.faiss_index", "FaissIndex"),
}
"""Module and class of each backend here."""
KNOWN = 10_000
"""Rows of the table that query ids are looked up in."""
RAW_RESCORED = 300
"""Candidates that raw ScaNN reorders by float32."""

Answer = Callable[[int], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What everyone is asked."""

    vectors: Vectors
    """Of the catalogue."""
    queries: Float32Array
    """[Q, D]."""
    excluded: Int32Array
    """Distinct candidate rows that each query must not be given [Q, M]."""
    k: int
    """K."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to answer."""

    name: str
    answer: Answer
    """Place of a query -> at most K ids, best first."""
    settings: Mapping[str, Any]
    """What it was built with."""
    num_bytes: int | None
    """Memory, where it can be told."""
    build: record.Times
    """Seconds that its structure took, once."""
    encode: Callable[[int], object] | None = None
    """What comes before the answer: the query tower of the index's stack; None for others."""


def load_frameworks() -> None:
    """Import both, in the one order that works, TensorFlow on one thread for every operation."""
    importlib.import_module("torch_reference")
    importlib.import_module("torch").use_deterministic_algorithms(False)
    importlib.import_module("tfrs_models")
    threading = importlib.import_module("tensorflow").config.threading
    threading.set_intra_op_parallelism_threads(1)
    threading.set_inter_op_parallelism_threads(1)


def built_index(settings: config.Index, vectors: Vectors) -> Index:
    """An index of this project over vectors."""
    module, name = HOMES[settings.backend]
    kind: type[Index] = getattr(importlib.import_module(module), name)
    return kind.build(vectors, settings)


def index_of(settings: config.Index, asked: Asked) -> Contestant:
    """An index of this project, exclusions and ids included."""
    built: list[Index] = []
    build = record.Times().take(lambda: built.append(built_index(settings, asked.vectors)))
    (index,) = built
    digest, ids, k = index.weights_digest, index.ids, asked.k

    def answer(place: int) -> list[str]:
        query, excluded = asked.queries[place : place + 1], [asked.excluded[place]]
        top = index.search(query, k, weights_digest=digest, excluded=excluded)
        return [ids[row] for row in top.rows[0].tolist() if row >= 0]

    own = {field: value for field, value in settings.model_dump().items() if field.startswith(settings.backend)}
    return Contestant(
        name=settings.backend,
        answer=answer,
        settings={**own, "store": settings.store},
        num_bytes=index.num_bytes,
        build=build,
        encode=query_tower(HOMES[settings.backend][0].partition(".")[0]),
    )


def query_tower(stack_name: str) -> Callable[[int], Float32Array]:
    """A query's place -> its vector by a tower 64 -> 512 -> 256 -> 128 over its id, as a server computes it.

    The weights are drawn, as the candidates are, so the vector is only timed; it is not what the index is asked.
    """
    stack: Stack = importlib.import_module(f"{stack_name}.stack").STACK
    sizes = {side: {f"{side}_id": KNOWN} for side in ("query", "candidate")}
    encoders = stack.encoders(run_config("sgd"), sizes, draw_weights(KNOWN, seed=0))
    rows = np.random.default_rng(0).integers(2, KNOWN, KNOWN).astype(np.int32)
    return lambda place: encoders.encode_queries({"query_id": rows[place : place + 1]})


def tfrs_layer(asked: Asked) -> Contestant:
    """TFRS's layer with its defaults, and its own exclusions."""
    tf, tfrs = (importlib.import_module(name) for name in ("tensorflow", "tensorflow_recommenders"))
    layer = tfrs.layers.factorized_top_k.ScaNN(k=asked.k)
    ids = np.array(asked.vectors.ids)
    build = record.Times().take(lambda: layer.index(tf.constant(asked.vectors.values), tf.constant(ids)))

    def answer(place: int) -> list[str]:
        query, excluded = asked.queries[place : place + 1], ids[asked.excluded[place : place + 1]]
        _, found = layer.query_with_exclusions(tf.constant(query), tf.constant(excluded))
        return [id_.decode() for id_ in found.numpy()[0].tolist()]

    return Contestant(name="tfrs_layer", answer=answer, settings={}, num_bytes=None, build=build)


def raw_scann(asked: Asked) -> Contestant:
    """ScaNN's own searcher, set as its documentation advises; the excluded are dropped from so many more results."""
    scann = importlib.import_module("scann.scann_ops.py.scann_ops_pybind")
    num_leaves = round(math.sqrt(len(asked.vectors.ids)))
    tree = {"num_leaves": num_leaves, "num_leaves_to_search": math.ceil(2 * math.sqrt(num_leaves)), "soar_lambda": 1.5}
    builder = scann.builder(asked.vectors.values, asked.k + asked.excluded.shape[1], "dot_product").tree(**tree)
    builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(RAW_RESCORED)
    built: list[Any] = []
    build = record.Times().take(lambda: built.append(builder.build()))
    (searcher,) = built
    ids, k = asked.vectors.ids, asked.k

    def answer(place: int) -> list[str]:
        rows, _ = searcher.search(asked.queries[place])
        barred = set(asked.excluded[place].tolist())
        return [ids[row] for row in rows.tolist() if row not in barred][:k]

    settings = {**tree, "reorder": RAW_RESCORED}
    return Contestant(name="raw_scann", answer=answer, settings=settings, num_bytes=None, build=build)

"""A run -> the folder of a SavedModel, as TensorFlow Serving loads it.

saved_model.pb, variables/                 the model: raw features in, ids and scores out
assets.extra/tf_serving_warmup_requests    one request for each signature
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Int32Array
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import KIND as INDEX
from retrieval_contract.indexes.saved import read_settings
from retrieval_contract.manifest import read_manifest
from retrieval_contract.runs.export_recall import export_recall
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.weights.archive import read_weights
from retrieval_contract.weights.names import parameter_table
from tfrs_models.indexes.partitioned_index import PartitionedIndex
from tfrs_models.indexes.partitioned_search import PartitionedSearch
from tfrs_models.preprocessing import FeaturePreprocessor
from tfrs_models.preprocessing.inputs import missing
from tfrs_models.saved_model.each_interest import EachInterest
from tfrs_models.saved_model.exact_search import ExactSearch
from tfrs_models.saved_model.filters import CandidateFilters
from tfrs_models.saved_model.retriever import K, Retriever, Search, argument_name
from tfrs_models.saved_model.scann_search import ScannSearch, scann_library
from tfrs_models.saved_model.warmup import write_warmup
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.weights import assign

NEEDS_NOTHING = "TensorFlow Serving, or any program that loads a SavedModel of TensorFlow {tensorflow}; no custom op"
"""What a server of a model in plain ops needs."""
NEEDS_SCANN = (
    "a program of TensorFlow {tensorflow} that has loaded {library} of scann {scann} (TF_LoadLibrary, or "
    "tf.load_op_library); stock TensorFlow Serving has no way to load it and cannot serve this model"
)
WARMUP_K = 10
"""Candidates that a warm-up request asks for, where there are as many."""


def export(opened: OpenedRun, kind: str, folder: Path) -> dict[str, Any]:
    """Write the model (`retrieval_contract.stack.Stack.export` says what the arguments are)."""
    with tf.device("/CPU:0"):
        retriever, searched_by = build_retriever(opened, kind)
    several = [opened.config.num_interests] if opened.config.num_interests > 1 else []
    functions = retriever.signatures([None, *several, opened.config.vector_dim])
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"] if kind == "scann" else None)
    try:
        tf.saved_model.save(retriever, str(folder), signatures=functions, options=options)
        signatures = _named_signatures(folder, retriever)
        write_warmup(folder, _first_requests(retriever, signatures))
    except tf.errors.OpError as error:
        what = f"cannot write the model ({error.message})"
        raise UserError(what, where=str(folder), todo="free some space and run again") from None
    settings = searched_by.model_dump(mode="json")
    found = {} if kind == "exact" else export_recall(opened, lambda queries, k: _rows(retriever, queries, k))
    return {"signatures": signatures, "filters": retriever.filter_inputs, "settings": settings, **found, **_needs(kind)}


def build_retriever(opened: OpenedRun, kind: str) -> tuple[Retriever, config.Index]:
    """Put the module together from a run; with it come the settings of its search.

    Raises:
        UserError: the run's files do not fit, or this machine cannot build the kind.
    """
    prepared, sizes = opened.prepared, opened.prepared.features.sizes
    weights, digest = read_weights(opened.workdir.weights, parameter_table(opened.config, sizes))
    if digest != opened.weights_digest:
        where = str(opened.workdir.weights)
        raise UserError("the weights changed while they were exported", where=where, todo="run again")
    towers = TwoTower(opened.config, sizes)
    assign(towers, weights)
    ids, catalogue = prepared.candidates.ids, prepared.candidate_features()
    search, settings = _search(kind, opened)
    retriever = Retriever(
        towers,
        FeaturePreprocessor(prepared.features, "query", candidate_ids=ids, candidate_features=catalogue),
        FeaturePreprocessor(prepared.features, "candidate"),
        search,
        ids,
        CandidateFilters(opened.attributes().table),
    )
    return retriever, settings


def _search(kind: str, opened: OpenedRun) -> tuple[Search, config.Index]:
    if kind == "partitioned":
        index = opened.index(PartitionedIndex)
        assert isinstance(index, PartitionedIndex), "its own class"
        return EachInterest(PartitionedSearch.from_index(index)), index.settings
    values_ND = opened.candidate_vectors().values
    if kind == "scann":
        settings = _scann_settings(opened)
        return ScannSearch(values_ND, settings), settings
    assert kind == "exact", kind
    return ExactSearch(values_ND), opened.config.index


def _rows(retriever: Retriever, queries: Float32Array, k: int) -> Int32Array:
    """What the model finds for query vectors [Q, D] or [Q, I, D]: rows [Q, K]."""
    queries_QID = queries if queries.ndim == 3 else queries[:, None]
    with tf.device("/CPU:0"):
        rows_QK, _ = tf.function(retriever.find)(tf.constant(queries_QID), tf.constant(k))
    rows: Int32Array = rows_QK.numpy()
    return rows


def _scann_settings(opened: OpenedRun) -> config.Index:
    """Settings of the run's ScaNN index of these weights, which may have been tuned; else the run's own."""
    folder = opened.workdir.index("scann")
    if folder.is_dir():
        manifest = read_manifest(folder, INDEX)
        if manifest["weights_digest"] == opened.weights_digest:
            return read_settings(manifest["settings"], folder)
    return opened.config.index


def _named_signatures(folder: Path, retriever: Retriever) -> dict[str, Any]:
    """Give the filters of the written model their names, which no argument of a function can have.

    Returns:
        Inputs and outputs of every signature, with type and shape, for the manifest.
    """
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signatures = model.meta_graphs[0].signature_def
    filtered = signatures["retrieve_with_exclusions"].inputs
    for name in retriever.filter_inputs:
        filtered[name].CopyFrom(filtered[argument_name(name)])
        del filtered[argument_name(name)]
    path.write_bytes(model.SerializeToString(deterministic=True))
    # It is a digest of the file as it was; it may be missing, and must not be wrong.
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    return {
        name: {"inputs": _described(signature.inputs), "outputs": _described(signature.outputs)}
        for name, signature in sorted(signatures.items())
        if not name.startswith("__")
    }


def _described(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "dtype": tf.as_dtype(info.dtype).name,
            "shape": [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim],
        }
        for name, info in sorted(tensors.items())
    }


def _first_requests(retriever: Retriever, signatures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A request of one row for each signature, of which nothing is known."""

    def value_of(signature: str, name: str, spec: Mapping[str, Any]) -> Any:
        raw = (retriever.candidate if signature == "embed_candidate" else retriever.query).inputs
        if name == K:
            return tf.constant(min(WARMUP_K, retriever.size))
        if name not in raw:
            return tf.zeros([1 if dim is None else dim for dim in spec["shape"]], spec["dtype"])
        value = missing(raw[name], tf.constant(1))
        return value.to_tensor() if isinstance(value, tf.RaggedTensor) else value

    return {
        signature: {name: value_of(signature, name, spec) for name, spec in described["inputs"].items()}
        for signature, described in signatures.items()
    }


def _needs(kind: str) -> dict[str, Any]:
    """What the model depends on, for the manifest."""
    versions = {"tensorflow": tf.__version__}
    if kind != "scann":
        return {"versions": versions, "needs": NEEDS_NOTHING.format(**versions)}
    library = scann_library()
    versions["scann"] = importlib.metadata.version("scann")
    with library.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    needs = NEEDS_SCANN.format(**versions, library=library.name)
    return {"versions": versions, "op_library": {"file": library.name, "sha256": sha256}, "needs": needs}

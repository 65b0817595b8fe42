"""The stock stub of tensorflow-serving-api against a planted model."""

import socket
from itertools import permutations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from retrieval_contract.errors import UserError
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.planted import planted_version
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.signatures import signatures_of
from retrieval_contract.serving.watching import Serving
from tfrs_models.grpc_server import _in_order, start_grpc

LIMITS = Limits(wait_ms=0, body_bytes=20_000)
EXCLUDING = {"signature": "retrieve_with_exclusions"}


@pytest.fixture(scope="module")
def server():
    service = Service("films", Serving(planted_version(7)), LIMITS)
    server = start_grpc(service, "127.0.0.1", 0)
    yield server
    server.stop()
    service.close()


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request_of(signature="", name="films", version=None, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        request.inputs[key.replace("__", ".")].CopyFrom(tf.make_tensor_proto(value))
    return request


def columns(*ids, **more):
    likes = np.full((len(ids), 2), b"", object)
    return {
        "query_id": np.array(ids, object),
        "age": np.full(len(ids), np.nan),
        "likes": likes,
        "k": np.int32(2),
        **more,
    }


def answer_of(stub, *arguments, **inputs):
    response = stub.Predict(request_of(*arguments, **inputs), timeout=20)
    return response, {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def test_the_stock_stub_is_answered(stub):
    response, outputs = answer_of(stub, **columns(b"u1", b"u2"))
    assert (response.model_spec.name, response.model_spec.version.value) == ("films", 7)
    assert response.model_spec.signature_name == "serving_default"
    assert outputs["ids"].tolist() == [[b"c37", b"c33"], [b"c38", b"c34"]]
    np.testing.assert_array_equal(outputs["scores"], np.array([[5.625, 5.125], [5.75, 5.25]], np.float32))


def test_missing_values_are_those_of_an_exported_model(stub):
    inputs = {"query_id": [b"\xff", b"nobody"], "age": [3.0, np.nan], "likes": [[b""], [b"x"]]}
    _, outputs = answer_of(stub, "embed_query", **inputs)
    assert outputs["vectors"].tolist() == [[0, 0, 0, 0, 3], [0, 0, 0, 0, 0]]


def test_exclusions_filters_and_vectors(stub):
    beside = {"exclusions": [[b"c38", b""]], "filter__colour": [[b"red", b""]]}
    _, outputs = answer_of(stub, "retrieve_with_exclusions", **columns(b"u1"), **beside)
    assert outputs["ids"].tolist() == [[b"c36", b"c34"]]
    _, outputs = answer_of(stub, "search", vectors=np.eye(5, dtype=np.float32)[:1], k=np.int32(1))
    assert outputs["ids"].tolist() == [[b"c0"]]
    request = request_of(**columns(b"u1"))
    request.output_filter.append("scores")
    assert list(stub.Predict(request, timeout=20).outputs) == ["scores"]


@pytest.mark.parametrize(
    ("how", "inputs", "code", "named"),
    [
        ({"name": "other"}, columns(b"u1"), "NOT_FOUND", "Latest(other)"),
        ({"version": 8}, columns(b"u1"), "NOT_FOUND", "Specific(films, 8)"),
        ({"signature": "retrieve"}, columns(b"u1"), "INVALID_ARGUMENT", "no signature 'retrieve'"),
        ({}, columns(b"u1", k=np.int32(0)), "INVALID_ARGUMENT", "k: 0"),
        ({}, columns(b"u1", k=np.int32([2])), "INVALID_ARGUMENT", "k: list"),
        ({}, columns(b"u1", age=[1.0, 2.0]), "INVALID_ARGUMENT", "age: 2 rows"),
        ({}, columns(b"u1", age=[b"old"]), "INVALID_ARGUMENT", "field 'age', row 0"),
        ({}, columns(b"u1", age=[np.inf]), "INVALID_ARGUMENT", "field 'age', row 0"),
        ({}, columns(b"\xfe"), "INVALID_ARGUMENT", "field 'query_id', row 0"),
        ({}, columns(b"u1", agee=[1.0]), "INVALID_ARGUMENT", "agee: signature serving_default has no input"),
        ({}, {"k": np.int32(2)}, "INVALID_ARGUMENT", "query_id: missing"),
        (EXCLUDING, columns(b"u1", exclusions=[[b"\xfe"]]), "INVALID_ARGUMENT", "exclusions: bytes that are not UTF-8"),
        ({"signature": "search"}, {"vectors": [[1.0]], "k": np.int32(1)}, "INVALID_ARGUMENT", "vectors: shape"),
        ({"signature": "search"}, {"vectors": np.zeros((1_100, 5)), "k": np.int32(1)}, "RESOURCE_EXHAUSTED", "larger"),
    ],
)  # fmt: skip
def test_faults_are_statuses_that_name_the_field(stub, how, inputs, code, named):
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(request_of(**how, **inputs), timeout=20)
    assert refused.value.code().name == code and named in refused.value.details()
    assert answer_of(stub, **columns(b"u1"))[1]["ids"].shape == (1, 2)


def test_inputs_are_read_as_the_signature_has_them_whatever_the_order_of_a_map():
    version = planted_version(7)
    signature = signatures_of(version.model)["serving_default"]
    for names in permutations(["zz", "aa", "k", "likes", "query_id"]):
        assert _in_order(names, signature) == ["query_id", "likes", "k", "aa", "zz"]


def test_a_few_bytes_that_would_fill_the_memory_are_refused(stub):
    request = request_of(**columns(b"u1"))
    shape = request.inputs["age"].tensor_shape
    shape.dim[0].size = 10**12
    with pytest.raises(grpc.RpcError, match="age: a tensor larger"):
        stub.Predict(request, timeout=20)


def test_an_occupied_port_is_refused():
    service = Service("films", Serving(planted_version(7)), LIMITS)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--grpc_port"):
            start_grpc(service, "127.0.0.1", taken.getsockname()[1])
    service.close()

"""One server, two stacks: whatever is asked over REST or gRPC, the same weights give the same answers.

What the contract answers (`parity_tests.exported_models`) is compared too, and with it the exported model.
"""

import dataclasses

import grpc
import numpy as np
import pytest
import tensorflow as tf
from starlette.testclient import TestClient
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from parity_tests.exported_models import (
    as_tensors,
    exact_index,
    opened_run,
    padded_texts,
    query_vectors,
    requests,
    restrictions,
)
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.serving.http_server import make_app
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.run_model import RunModel
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Serving, warm_up
from retrieval_contract.weights.archive import read_weights
from retrieval_contract.weights.names import parameter_table
from tfrs_models.grpc_server import start_grpc
from torch_reference.stack import STACK as TORCH

BASE = "/v1/models/films"
NUM_ROWS, K = 150, 25
NAMES = ("genres", "creator")


class Servers:
    """A run behind a server of each stack."""

    def __init__(self, name, folder):
        self.opened = opened_run(name, folder)
        self.index = exact_index(self.opened)
        self.rows = requests(self.opened, NUM_ROWS)
        self.services = {"tf": service_of(self.opened, self.index)}
        self.services["torch"] = service_of(by_torch(self.opened), self.index)
        self.clients = {stack: TestClient(make_app(service)) for stack, service in self.services.items()}

    def predict(self, stack, signature, **inputs):
        """Outputs in column form."""
        body = {"signature_name": signature, "inputs": inputs}
        answer = self.clients[stack].post(f"{BASE}:predict", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["outputs"]

    def same(self, signature, **inputs):
        """Outputs, which are the same in both."""
        outputs = self.predict("tf", signature, **inputs)
        assert outputs == self.predict("torch", signature, **inputs)
        return outputs


def by_torch(opened: OpenedRun) -> OpenedRun:
    sizes = opened.prepared.features.sizes
    weights, digest = read_weights(opened.workdir.weights, parameter_table(opened.config, sizes))
    assert digest == opened.weights_digest
    return dataclasses.replace(opened, encoders=TORCH.encoders(opened.config, sizes, weights))


def service_of(opened, index):
    version = Version(number=1, model=RunModel(opened, index))
    warm_up(version)
    return Service("films", Serving(version), Limits(wait_ms=0))


@pytest.fixture(scope="module", params=["kinds", "interests"])
def servers(request, tmp_path_factory):
    servers = Servers(request.param, tmp_path_factory.mktemp(request.param))
    yield servers
    for service in servers.services.values():
        service.close()


def restricted(num_rows=NUM_ROWS):
    """Exclusions and filters as inputs of a signature, and as the index takes them."""
    excluded, filters = restrictions(num_rows)
    inputs = {f"filter.{name}": [list(wanted.get(name, [])) for wanted in filters] for name in NAMES}
    return {"exclusions": excluded, **inputs}, excluded, filters


def test_both_answer_as_the_contract_does(servers):
    outputs = servers.same("serving_default", k=K, **servers.rows)
    vectors = query_vectors(servers.opened, servers.rows)
    expected = servers.index.search(vectors, K, weights_digest=servers.index.weights_digest)
    assert outputs["ids"] == [[servers.index.ids[row] for row in rows] for rows in expected.rows]
    np.testing.assert_array_equal(np.array(outputs["scores"], np.float32), expected.scores)


def test_both_exclude_and_filter_as_the_contract_does(servers):
    inputs, excluded, filters = restricted()
    outputs = servers.same("retrieve_with_exclusions", k=K, **servers.rows, **inputs)
    row_of = {id_: row for row, id_ in enumerate(servers.index.ids)}
    rows = [np.array([row_of[id_] for id_ in ids if id_ in row_of], np.int32) for ids in excluded]
    vectors, digest = query_vectors(servers.opened, servers.rows), servers.index.weights_digest
    expected = servers.index.search(vectors, K, weights_digest=digest, excluded=rows, filters=filters)
    ids = np.array([*servers.index.ids, ""], object)[expected.rows]
    assert outputs["ids"] == ids.tolist() and "" in ids
    scores = np.array([[-np.inf if score is None else score for score in row] for row in outputs["scores"]], np.float32)
    np.testing.assert_array_equal(scores, expected.scores)


def test_row_form_and_vectors_say_the_same(servers):
    columns = servers.same("serving_default", k=3, **servers.rows)
    instances = [{name: values[row] for name, values in servers.rows.items()} for row in range(NUM_ROWS)]
    for client in servers.clients.values():
        answer = client.post(f"{BASE}:predict", json={"instances": instances, "k": 3}).json()["predictions"]
        assert [row["ids"] for row in answer] == columns["ids"]
    vectors = servers.same("embed_query", **servers.rows)
    assert servers.same("search", vectors=vectors, k=3) == columns


def test_candidates_by_features_are_those_of_the_index(servers):
    model = servers.services["tf"].serving.version.model
    table = servers.opened.prepared.candidates.table.slice(0, 40)
    ids, columns = servers.opened.prepared.candidates.ids[:40], {}
    for name, raw in model.candidate_inputs.items():
        values = ids if raw.column == "candidate_id" else table[raw.column].to_pylist()
        columns[name] = [value.timestamp() if hasattr(value, "timestamp") else value for value in values]
    vectors = servers.same("embed_candidate", **columns)
    np.testing.assert_array_equal(np.array(vectors, np.float32), servers.opened.candidate_vectors().values[:40])


def test_both_recommend_the_same_to_known_and_unknown_queries(servers):
    asked = [
        {"query_id": servers.opened.prepared.queries.ids[3], "exclude_seen": True, "k": 7},
        {"query_id": "nobody", "features": {name: values[0] for name, values in servers.rows.items()}, "k": 7},
        {"query_id": "nobody", "filters": {"genres": ["Drama"]}, "exclude": ["c1"]},
    ]
    sources = []
    for body in asked:
        answers = [client.post(f"{BASE}:recommend", json=body).json() for client in servers.clients.values()]
        for answer in answers:
            answer.pop("timings_ms")
        assert answers[0] == answers[1] and answers[0]["results"]
        sources.append(answers[0]["source"])
    assert sources[0] == "query" and set(sources[1:]) <= {"query", "content", "popularity"}


def test_grpc_says_the_same_as_rest(servers):
    inputs, _, _ = restricted(8)
    rows = {name: values[:8] for name, values in servers.rows.items()}
    outputs = servers.same("retrieve_with_exclusions", k=K, **rows, **inputs)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "films", "retrieve_with_exclusions"
    tensors = {**as_tensors(servers.opened, rows), "k": tf.constant(K)}
    tensors |= {name: padded_texts(values) for name, values in inputs.items()}
    for name, tensor in tensors.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
    server = start_grpc(servers.services["tf"], "127.0.0.1", 0)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    server.stop()
    ids = tf.make_ndarray(response.outputs["ids"])
    assert [[id_.decode() for id_ in row] for row in ids.tolist()] == outputs["ids"]


def test_servers_notice_other_weights_and_a_past_turned_round(servers):
    outputs = servers.predict("tf", "serving_default", k=K, **servers.rows)
    turned = servers.rows | {"history": [ids[::-1] for ids in servers.rows["history"]]}
    assert servers.predict("torch", "serving_default", k=K, **turned) != outputs
    opened = servers.opened
    sizes = opened.prepared.features.sizes
    weights, _ = read_weights(opened.workdir.weights, parameter_table(opened.config, sizes))
    other = {name: array * np.float32(1.001) for name, array in weights.items()}
    service = service_of(
        dataclasses.replace(opened, encoders=TORCH.encoders(opened.config, sizes, other)), servers.index
    )
    client = TestClient(make_app(service))
    body = {"inputs": {**servers.rows, "k": K}}
    assert client.post(f"{BASE}:predict", json=body).json()["outputs"] != outputs
    service.close()

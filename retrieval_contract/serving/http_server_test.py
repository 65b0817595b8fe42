"""The addresses over HTTP, on a planted model: no framework, no data."""

import json
import time

import pytest
from starlette.testclient import TestClient

from retrieval_contract.serving.http_planted import BASE, LIMITS, ids_of, predict, recommend, refused
from retrieval_contract.serving.http_server import make_app
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.planted import planted_version
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Serving

# ---------------------------------------------------------------- TF Serving's pages


def test_status_and_metadata_are_tf_servings(client):
    fine = {"error_code": "OK", "error_message": ""}
    status = {"model_version_status": [{"version": "7", "state": "AVAILABLE", "status": fine}]}
    assert client.get(BASE).json() == client.get(f"{BASE}/versions/7").json() == status
    metadata = client.get(f"{BASE}/metadata").json()
    assert metadata == client.get(f"{BASE}/versions/7/metadata").json()
    assert metadata["model_spec"] == {"name": "films", "signature_name": "", "version": "7"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {
        "serving_default", "retrieve_with_exclusions", "embed_query", "embed_candidate", "search",
    }  # fmt: skip
    inputs = signatures["retrieve_with_exclusions"]["inputs"]
    assert set(inputs) == {"query_id", "age", "likes", "k", "exclusions", "filter.colour"}
    assert inputs["k"]["dtype"] == "DT_INT32" and inputs["k"]["tensor_shape"]["dim"] == []
    assert [dim["size"] for dim in inputs["likes"]["tensor_shape"]["dim"]] == ["-1", "-1"]
    assert set(signatures["search"]["outputs"]) == {"ids", "scores"}


@pytest.mark.parametrize("path", ["/v1/models/other", f"{BASE}/versions/8", f"{BASE}/versions/seven"])
def test_another_model_or_version_is_not_found(client, path):
    assert "Could not find" in refused(client.get(path), 404)
    assert "Servable not found for request: " in refused(client.get(f"{path}/metadata"), 404)
    assert "Servable not found for request: " in refused(predict(client, {"instances": []}, path), 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("POST", f"{BASE}:classify", 405), ("GET", f"{BASE}:predict", 404)],
)
def test_other_addresses_are_refused_in_the_same_form(client, method, path, status):
    refused(client.request(method, path), status)


# ---------------------------------------------------------------- bodies


def post(client, content, **headers):
    return client.post(f"{BASE}:recommend", content=content, headers=headers)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"k": NaN}', b'{"k": Infinity}', b"[" * 100_0, b'"\\ud800"'])
def test_what_is_no_json_is_refused(client, content):
    assert "JSON Parse Error" in refused(post(client, content))


def test_deep_json_is_refused(client):
    depth = LIMITS.depth
    assert "exclude[0]" in refused(
        post(client, b'{"query_id":"u1","exclude":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}")
    )
    assert "deeper than 8" in refused(post(client, b'{"a":' + b"[" * depth + b"]" * depth + b"}"))
    assert "deeper than 8" in refused(post(client, b'{"a":' * depth + b"[]" + b"}" * depth))
    wide = b'{"query_id":"u1","exclude":[' + b",".join([b"[]"] * 100) + b"]}"
    assert "exclude" in refused(post(client, wide)), "many brackets beside each other are not deep"


def test_a_body_that_is_too_large_is_refused_by_its_header_and_by_counting(client):
    sent = []

    def chunks(number):
        for _ in range(number):
            sent.append(1)
            yield b" " * 1_000

    assert "more than 20,000 bytes" in refused(post(client, chunks(1_000)), 413)
    answer = post(client, b"{}", **{"content-length": "100000000"})
    assert "more than" in refused(answer, 413) and answer.headers["connection"] == "close"
    assert "more than" in refused(post(client, b"{}", **{"content-length": "-1"}), 413)
    assert ids_of(recommend(client, query_id="u1", k=1)) == ["c37"]


# ---------------------------------------------------------------- the rest


def test_changes_are_off_without_a_token(client):
    for verb in ("update", "remove"):
        assert "--token_file" in refused(client.post(f"{BASE}:{verb}", content=b"no matter"), 403)


def test_pages(client):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "films", "model_version": "7"}
    schema = client.get("/openapi.json").json()
    assert f"{BASE}:predict" in schema["paths"] and client.get("/docs").status_code == 200
    recommend(client, query_id="u1")
    predict(client, {"inputs": {}})
    text = client.get("/metrics").text
    assert 'retrieval_requests_total{route="/v1/models/{name}:recommend",status="200"}' in text
    assert 'retrieval_requests_total{route="/v1/models/{name}:predict",status="400"}' in text
    assert "retrieval_model_version 7.0" in text and "retrieval_candidates 40.0" in text
    for stage in ("queue", "encode", "search"):
        assert f'retrieval_stage_seconds_bucket{{le="0.0005",stage="{stage}"}}' in text
    assert 'retrieval_answers_total{source="query"}' in text


def test_without_a_version_nothing_is_ready():
    with TestClient(make_app(Service("films", Serving(), LIMITS))) as client:
        assert "no version" in refused(client.get("/readyz"), 503)
        assert client.get("/healthz").status_code == 200
        refused(recommend(client, query_id="u1"), 404)


class Slow:
    """A model that takes its time, or fails."""

    def __init__(self, model, *, seconds=0.0, error=None):
        self._model, self._seconds, self._error = model, seconds, error

    def __getattr__(self, name):
        return getattr(self._model, name)

    def encode_known(self, rows):
        time.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        return self._model.encode_known(rows)


def one_off(limits=LIMITS, **how):
    version = planted_version(7)
    version = type(version)(number=7, model=Slow(version.model, **how))
    return TestClient(make_app(Service("films", Serving(version), limits)))


def test_an_answer_that_takes_too_long_is_given_up():
    with one_off(Limits(seconds=0.05, wait_ms=0), seconds=0.3) as client:
        assert "no answer after 0.05 s" in refused(recommend(client, query_id="u1"), 504)


def test_our_own_fault_is_told_in_the_log_without_what_was_asked(caplog):
    with one_off(error=RuntimeError("the secret u1")) as client:
        message = refused(recommend(client, query_id="u1"), 500)
        assert "secret" not in message and "internal error" in message
        assert recommend(client, features={"age": 3}).status_code == 200
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.fields["error"] == "RuntimeError" and "secret" not in json.dumps(line.fields)


def test_log_lines_hold_nothing_of_what_was_asked(client, caplog):
    caplog.set_level("INFO", logger="retrieval_contract.serving")
    # Words that no random request id, of hexadecimal digits, and no time can hold by chance.
    answer = recommend(client, query_id="u1", exclude=["zebra"], features={"age": 1234567.25})
    recommend(client, query_id="u1", k="zebra")
    lines = [record.fields for record in caplog.records if record.getMessage() == "request"]
    assert [line["status"] for line in lines] == [200, 400]
    assert lines[0].keys() == {"request_id", "route", "status", "ms"}
    assert lines[0]["request_id"] == answer.headers["x-request-id"]
    assert not any(word in json.dumps(lines) for word in ("u1", "zebra", "1234567.25", "films"))

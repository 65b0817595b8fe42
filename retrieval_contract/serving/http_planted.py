"""What tests of the addresses share: a client of the planted model over HTTP, and how it asks."""

from typing import Any

from starlette.testclient import TestClient

from retrieval_contract.serving.http_server import make_app
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.planted import planted_version
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Serving

BASE = "/v1/models/films"
LIMITS = Limits(body_bytes=20_000, depth=8, k=30, rows=8, exclusions=5, filter_values=3, wait_ms=0)


def planted_client() -> TestClient:
    """A client of version 7; enter it before use."""
    return TestClient(make_app(Service("films", Serving(planted_version(7)), LIMITS)))


def predict(client: TestClient, body: Any, path: str = BASE) -> Any:
    """`:predict`."""
    return client.post(f"{path}:predict", json=body)


def recommend(client: TestClient, **body: Any) -> Any:
    """`:recommend`."""
    return client.post(f"{BASE}:recommend", json=body)


def ids_of(answer: Any) -> list[str]:
    """Ids of a recommendation, which must have been answered."""
    assert answer.status_code == 200, answer.text
    return [result["id"] for result in answer.json()["results"]]


def refused(answer: Any, status: int = 400) -> str:
    """The message of a refusal, in TF Serving's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    return answer.json()["error"]

import numpy as np
import pytest
from starlette.testclient import TestClient

from retrieval_contract.config import Index
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.planted import clustered, vectors_of
from retrieval_contract.serving.http_planted import BASE, ids_of, recommend, refused
from retrieval_contract.serving.http_server import make_app
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.vector_model import VectorModel
from retrieval_contract.serving.watching import Serving, warm_up


@pytest.fixture(scope="module")
def planted():
    values_ND, queries_QD = clustered(500, 6)
    index = ExactIndex.build(vectors_of(values_ND), Index())
    version = Version(number=1, model=VectorModel([f"q{row}" for row in range(6)], queries_QD, index))
    warm_up(version)
    with TestClient(make_app(Service("films", Serving(version), Limits(wait_ms=0)))) as client:
        yield client, index, queries_QD


def test_known_queries_get_what_the_index_finds(planted):
    client, index, queries_QD = planted
    found = index.search(queries_QD, 10, weights_digest=index.weights_digest)
    for row, rows_K in enumerate(found.rows):
        assert ids_of(recommend(client, query_id=f"q{row}")) == [index.ids[place] for place in rows_K]
    body = {"signature_name": "search", "inputs": {"vectors": queries_QD.tolist(), "k": 10}}
    outputs = client.post(f"{BASE}:predict", json=body).json()["outputs"]
    np.testing.assert_array_equal(np.array(outputs["scores"], np.float32), found.scores)


def test_of_others_nothing_is_known(planted):
    client, *_ = planted
    answer = recommend(client, query_id="nobody")
    assert answer.json()["source"] == "popularity" and ids_of(answer) == []
    body = {"signature_name": "embed_candidate", "inputs": {"title": ["x"]}}
    assert "no input 'title'" in refused(client.post(f"{BASE}:predict", json=body))

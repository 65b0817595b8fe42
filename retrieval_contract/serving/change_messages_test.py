"""`:update` and `:remove` over HTTP, on a planted model whose index is live."""

import pytest
from starlette.testclient import TestClient

from retrieval_contract.serving.http_planted import BASE, LIMITS, ids_of, recommend, refused
from retrieval_contract.serving.http_server import make_app
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.planted import PlantedModel
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Serving

TOKEN = "sesame-open-sesame"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
BEST = [0, 0, 0, 0, 9]


def client_of(service):
    return TestClient(make_app(service, token=TOKEN), headers=HEADERS)


def live_client(folder):
    version = Version(number=7, model=PlantedModel(live=folder))
    return client_of(Service("films", Serving(version), LIMITS))


@pytest.fixture
def client(tmp_path):
    with live_client(tmp_path / "live") as client:
        yield client


def update(client, *candidates, **headers):
    return client.post(f"{BASE}:update", json={"candidates": list(candidates)}, headers=headers)


def remove(client, *ids):
    return client.post(f"{BASE}:remove", json={"ids": list(ids)})


def test_what_is_added_replaced_and_removed_is_seen_at_once_and_after_a_restart(client, tmp_path):
    new, old = {"id": "new", "vector": BEST}, {"id": "c3", "vector": [v + 1 for v in BEST]}
    answer = update(client, new, old)
    assert answer.json() == {"model_version": "7", "added": 1, "updated": 1, "candidates": 41}
    assert ids_of(recommend(client, query_id="u1", k=3)) == ["c3", "new", "c37"]
    assert update(client, {"id": "c3", "vector": [0] * 5}).json()["updated"] == 1
    assert remove(client, "c37", "what").json() == {
        "model_version": "7", "removed": 1, "absent": ["what"], "candidates": 40,
    }  # fmt: skip
    best = ["new", "c33", "c39"]
    assert ids_of(recommend(client, query_id="u1", k=3)) == best
    client.__exit__(None, None, None)
    with live_client(tmp_path / "live") as again:
        assert ids_of(recommend(again, query_id="u1", k=3)) == best
        assert again.get("/readyz").status_code == 200


def test_candidates_by_features_bring_their_attributes(client):
    assert update(client, {"id": "new", "features": {"taste": 1, "colour": "green"}}).status_code == 200
    answer = recommend(client, query_id="u1", k=3, filters={"colour": ["green"]})
    assert answer.json()["results"] == [{"id": "new", "score": 101, "fields": {}}]
    assert update(client, {"id": "new", "vector": BEST}).status_code == 200
    assert ids_of(recommend(client, query_id="u1", filters={"colour": ["green"]})) == ["new"], "it keeps its own"
    told = {"id": "new", "vector": BEST, "attributes": {"colour": "pink"}}
    assert update(client, told).status_code == 200
    assert ids_of(recommend(client, query_id="u1", filters={"colour": ["green"]})) == []
    assert ids_of(recommend(client, query_id="u1", k=1, filters={"colour": ["pink"]})) == ["new"]


def test_removed_candidates_are_not_popular_any_more(client):
    assert remove(client, "c0", "c2").json()["removed"] == 2
    assert ids_of(recommend(client, query_id="stranger", k=2)) == ["c1", "c3"]


def test_what_piles_up_is_moved_into_the_big_index(client, tmp_path):
    before = (tmp_path / "live" / "manifest.json").read_bytes()
    for number in range(10):
        assert update(client, {"id": f"new{number}", "vector": [v + number for v in BEST]}).status_code == 200
    client.__exit__(None, None, None)
    assert (tmp_path / "live" / "manifest.json").read_bytes() != before
    with live_client(tmp_path / "live") as again:
        assert ids_of(recommend(again, query_id="u1", k=2)) == ["new9", "new8"]


def test_a_version_that_answers_no_more_takes_no_changes(tmp_path):
    version = Version(number=7, model=PlantedModel(live=tmp_path / "live"))
    service = Service("films", Serving(version), LIMITS)
    with client_of(service) as client:
        service.swapped(version, version)
        assert "another version answers by now" in refused(update(client, {"id": "new", "vector": BEST}), 503)
        assert "another version answers by now" in refused(remove(client, "c1"), 503)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer " + "ä" * 16]
)
def test_another_token_is_refused_before_the_body_is_read(client, header):
    answer = client.post(f"{BASE}:update", content=b"no json", headers={"Authorization": header.encode()})
    assert "Authorization" in refused(answer, 401) and answer.headers["www-authenticate"] == "Bearer"
    assert "JSON" in refused(client.post(f"{BASE}:update", content=b"no json"))


ONE = {"id": "new", "vector": BEST}


@pytest.mark.parametrize(
    ("candidates", "named"),
    [
        ([], "candidates: not one"),
        ([3], "candidates[0]: number 3"),
        ([{"id": "x"}], "candidates[0]: one of features and vector"),
        ([{**ONE, "features": {}}], "candidates[0]: one of features and vector"),
        ([{"vector": BEST}], "candidates[0].id: null where a text"),
        ([{**ONE, "id": ""}], "candidates[0].id: an empty text"),
        ([ONE, ONE], "candidates[1]: the id of candidates[0] again"),
        ([ONE, {"id": "y", "features": {}}], "candidates[1]: some are given by vectors"),
        ([{**ONE, "vector": [1]}], "vector: shape [1, 1]"),
        ([{**ONE, "vector": [BEST]}], "vector: several vectors"),
        ([{**ONE, "vector": [0, 0, 0, 0, 1e300]}], "vector: entries that are not finite"),
        ([{**ONE, "tilte": "x"}], "candidates[0].tilte: unknown field"),
        ([{"id": "x", "features": {"tast": 1}}], "candidates[0].features.tast: no feature"),
        ([{"id": "x", "features": {"taste": "sweet"}}], "field 'taste', row 0: text where a number"),
        ([{**ONE, "attributes": {"color": ["red"]}}], "candidates[0].attributes.color: candidates have no attribute"),
        ([{**ONE, "attributes": {"colour": [1.5]}}], "candidates[0].attributes.colour[0]: number 1.5"),
        ([{**ONE, "attributes": {"colour": ["red"]}}], "colour"),
        ([{**ONE, "attributes": {"colour": "red"}}, {**ONE, "id": "y"}], "candidates[1]: nothing is said"),
    ],
)
def test_faults_of_an_update_are_named_and_nothing_is_done(client, candidates, named):
    assert named in refused(client.post(f"{BASE}:update", json={"candidates": candidates}))
    assert update(client, {"id": "c1", "vector": BEST}).json()["candidates"] == 40


@pytest.mark.parametrize(
    ("body", "named"),
    [({}, "ids: null"), ({"ids": []}, "ids: not one"), ({"ids": ["a", "a"]}, "ids[1]"), ({"id": ["a"]}, "id: unknown")],
)
def test_faults_of_a_removal_are_named(client, body, named):
    assert named in refused(client.post(f"{BASE}:remove", json=body))


def test_a_model_that_cannot_change_says_so(client):
    service = Service("films", Serving(Version(number=7, model=PlantedModel())), LIMITS)
    with client_of(service) as fixed:
        assert "cannot be changed" in refused(update(fixed, ONE), 501)

"""Requests that are generated from the OpenAPI description: whatever comes, the server answers in its own form.

In the suite a few hundred; `GENERATED=100000 pytest …` makes about as many, half of them against the description.
"""

import os
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from schemathesis.generation import GenerationMode
from starlette.testclient import TestClient

from retrieval_contract.serving.http_planted import LIMITS
from retrieval_contract.serving.http_server import make_app
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.openapi import openapi_of
from retrieval_contract.serving.planted import PlantedModel
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Serving

TOKEN = "sesame-open-sesame"
GENERATED = int(os.environ.get("GENERATED", "300"))
REFUSED = {400, 401, 404, 405, 413, 422}
NAMED = re.compile(r"^(JSON Parse Error: |body: |.{0,200}?: |.* \[[^\]]+\])", re.DOTALL)
"""A refusal begins with a field, or ends in where it is."""


def live_service(folder):
    return Service("films", Serving(Version(number=7, model=PlantedModel(live=folder))), LIMITS)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    app = make_app(live_service(tmp_path_factory.mktemp("live") / "index"), token=TOKEN)
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def operations():
    """Every operation of the description; it is that of the model that the fixture serves."""
    service = Service("films", Serving(Version(number=7, model=PlantedModel())), LIMITS)
    description = openapi_of(service, changes=True)
    service.close()
    schema = schemathesis.openapi.from_dict(description)
    return [found.ok() for found in schema.get_all_operations()]


OPERATIONS = operations()


def sent_of(case):
    """The request, with the true token: a generated one would end every change at the door."""
    sent = case.as_transport_kwargs(base_url="http://testserver")
    sent["headers"] = {**(sent.get("headers") or {}), "Authorization": f"Bearer {TOKEN}"}
    return {name: value for name, value in sent.items() if value is not None}


def check(answer):
    """200, or a refusal in TF Serving's form that says where the fault is."""
    if answer.status_code == 200:
        return
    assert answer.status_code in REFUSED, (answer.status_code, answer.text)
    tree = answer.json()
    assert tree.keys() == {"error"}
    named = (
        "not found for" in tree["error"] or "Could not find" in tree["error"] if answer.status_code == 404 else False
    )
    assert named or NAMED.match(tree["error"]), tree


CASES = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in GenerationMode
    # An address without parameters cannot be asked against its description.
    if mode == GenerationMode.POSITIVE or operation.method == "post"
]


# Pytest's own limit is for the few hundred.
@pytest.mark.timeout(600 + GENERATED)
@pytest.mark.parametrize(("operation", "mode"), CASES, ids=[f"{op.label} {mode.value}" for op, mode in CASES])
def test_whatever_is_generated_is_answered(client, operation, mode):
    posted = [found for found in OPERATIONS if found.method == "post"]
    share = GENERATED // (2 * len(posted)) if operation.method == "post" else GENERATED // 100

    @settings(
        max_examples=max(2, share),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode))
    def ask(case):
        check(client.request(**sent_of(case)))

    ask()
    assert client.get("/healthz").status_code == 200


def test_what_is_generated_reaches_answers(client):
    """The description is not so wrong that everything is refused."""
    operation = next(found for found in OPERATIONS if found.label.endswith("films:recommend"))
    statuses = []

    @settings(
        max_examples=30, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(GenerationMode.POSITIVE))
    def ask(case):
        statuses.append(client.post("/v1/models/films:recommend", json=case.body).status_code)

    ask()
    assert statuses.count(200) > len(statuses) / 2

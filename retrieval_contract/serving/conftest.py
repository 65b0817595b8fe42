"""One planted server for all tests of the addresses."""

import pytest

from retrieval_contract.serving.http_planted import planted_client


@pytest.fixture(scope="session")
def client():
    with planted_client() as client:
        yield client

import socket
import urllib.parse

import pytest

from retrieval_contract.serving.header_limit import HEADER_BYTES
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.planted import planted_version
from retrieval_contract.serving.served import served


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    (folder / "1").mkdir()
    with served(folder, lambda _: planted_version(1), Limits(seconds=0.5, body_bytes=500_000), poll_seconds=60) as base:
        yield urllib.parse.urlsplit(base).port


def asked(port, *pieces):
    """What a connection gets for some bytes, until it is closed or silent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while piece := connection.recv(65_536):
                answer += piece
                if answer.endswith(b"}"):
                    break
        except ConnectionError:
            pass
    return answer


def request(body=b"", method=b"GET /healthz"):
    return method + b" HTTP/1.1\r\nHost: x\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


def test_endless_headers_are_cut_off_and_the_server_lives(address):
    answer = asked(address, b"GET /healthz HTTP/1.1\r\nX: ", *[b"a" * 65_536] * 50)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), "closed, with an answer where it still could be read"
    assert asked(address, request()).startswith(b"HTTP/1.1 200")


def test_large_headers_and_large_bodies_pass_and_one_connection_is_asked_again(address):
    header = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (HEADER_BYTES - 100) + b"\r\n\r\n"
    assert asked(address, header).startswith(b"HTTP/1.1 200")
    large = request(b" " * 400_000 + b'{"query_id": "u1"}', b"POST /v1/models/films:recommend")
    with socket.create_connection(("127.0.0.1", address), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(large)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_a_body_that_comes_too_slowly_is_given_up(address):
    answer = asked(address, b"POST /v1/models/films:recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408") and b"not here after 0.5 s" in answer


@pytest.mark.parametrize("noise", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00" * 20])
def test_what_is_no_http_is_refused(address, noise):
    assert asked(address, noise).startswith(b"HTTP/1.1 400")
    assert asked(address, request()).startswith(b"HTTP/1.1 200")

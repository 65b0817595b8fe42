"""What is asked, and that a wrong answer is noticed before a time is written."""

import json
import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from benchmarks import serving_load
from benchmarks.serving_load import KINDS, bodies, load, recall, summary

IDS = [f"item-{row}" for row in range(300)]
EXCLUDED = [list(range(50)), list(range(100, 150))]
TRUTH = [IDS[50:150], IDS[150:250]]


def answers(found):
    """In place of `post`: what the server would find for each query."""
    return lambda address, body: {"results": [{"id": id_} for id_ in found[int(json.loads(body)["query_id"][1:])]]}


def test_bodies_ask_for_what_their_kind_says():
    plain, excluding = (list(map(json.loads, bodies(kind, IDS, EXCLUDED))) for kind in KINDS)
    assert plain == [{"query_id": "q0", "k": 10}, {"query_id": "q1", "k": 10}]
    assert [body["exclude"] for body in excluding] == [IDS[:50], IDS[100:150]]
    assert {body["k"] for body in excluding} == {100}


def test_recall_counts_and_notices_what_must_not_come(monkeypatch):
    sent = bodies("excluding", IDS, EXCLUDED)
    monkeypatch.setattr(serving_load, "post", answers([TRUTH[0], [*TRUTH[1][:75], *IDS[275:]]]))
    assert recall("", sent, TRUTH) == pytest.approx(0.875)
    for wrong in ([*TRUTH[0][:99], IDS[0]], [*TRUTH[0][:99], TRUTH[0][0]], TRUTH[0][:99]):
        monkeypatch.setattr(serving_load, "post", answers([wrong, TRUTH[1]]))
        with pytest.raises(AssertionError, match="not k that count"):
            recall("", sent, TRUTH)


def test_a_summary_says_whether_memory_grew():
    line = {"resident_bytes": [1e6, 1e6, 2e6, 3e6], "recall": 1.0, "requests": 10, "seconds": 2.0, "errors": 0}
    said = summary(line | {"ms": {"p50": 1.0, "p99": 2.0}, "cpu_seconds": [0.02]})
    assert (said["resident_mb_first_quarter"], said["resident_mb_last_quarter"]) == (1.0, 3.0)
    assert (said["requests_a_second"], said["server_cpu_ms_a_request"]) == (5.0, 2.0)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.parametrize("status", [200, 500])
def test_the_load_generator_sends_the_bodies_and_counts_refusals(status):
    received = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            received.add(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        figures = load(address, ["one", "two"], connections=1, seconds=1, rate=200.0)
        server.shutdown()
    assert received == {"one", "two"}
    assert figures["errors"] == (0 if status == 200 else figures["requests"]) and figures["requests"] > 10

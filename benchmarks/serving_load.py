"""How many requests a second does the server answer over HTTP, how late, and does its memory grow?

    python -m benchmarks.serving_load [--quick] [--seconds S] [--results FOLDER]

A server of vectors alone (`serving.vector_model`) in a process of its own, 1 million candidates x 128 (`--quick`:
20,000) behind ScaNN or FAISS; `wrk`, an outside load generator, asks `:recommend` for queries it draws, over loopback,
on the same cores. First as many requests as a few connections carry (`closed`), then at a rate (`paced`). Before a time
is printed, answers over HTTP are compared with exact search. The last line is one JSON object.

Two kinds of request: `plain`, 10 results; `excluding`, 100 results with 50 seen candidates left out.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.serving_latency import catalogue, problem
from benchmarks.serving_load_server import NUM_QUERIES, Served
from retrieval_contract.errors import UserError

NAME = "serving_load"
NUM_CHECKED = 50
"""Queries whose answers over HTTP are compared with the truth."""
LEAST_RECALL = 0.98
SAMPLE_SECONDS = 1.0
KINDS: Mapping[str, Mapping[str, int]] = {"plain": {"k": 10, "excluded": 0}, "excluding": {"k": 100, "excluded": 50}}
CONNECTIONS = 4
WAIT_MS = 1.0
"""The server's default."""
PACED_CONNECTIONS = 64
"""So many that they wait far longer than they are answered, as users do."""
LUA = """
local bodies = {}
for line in io.lines("%(bodies)s") do bodies[#bodies + 1] = line end
math.randomseed(%(seed)d)
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
function request() return wrk.format(nil, nil, nil, bodies[math.random(#bodies)]) end
%(delay)s
function done(summary, latency, requests)
  local errors, parts = summary.errors, {}
  for _, share in ipairs({50, 75, 90, 95, 99, 99.9, 100}) do
    parts[#parts + 1] = string.format('"p%%s": %%.4f', tostring(share), latency:percentile(share) / 1000)
  end
  print(string.format('{"requests": %%d, "seconds": %%.3f, "errors": %%d, "ms": {%%s}}', summary.requests,
    summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    table.concat(parts, ", ")))
end
"""
PACED = "function delay() return -math.log(1 - math.random()) * %(mean_ms)f end"
"""Between an answer and the connection's next request, milliseconds; exponential, as independent users come."""


def bodies(kind: str, ids: Sequence[str], excluded: Sequence[Sequence[int]]) -> list[str]:
    """One body a known query, as one line of JSON each.

    Args:
        kind: of `KINDS`.
        ids: of candidates.
        excluded: rows that each query has seen.
    """
    wanted, lines = KINDS[kind], list[str]()
    for place, rows in enumerate(excluded):
        body: dict[str, Any] = {"query_id": f"q{place}", "k": wanted["k"]}
        if wanted["excluded"]:
            body["exclude"] = [ids[row] for row in rows[: wanted["excluded"]]]
        lines.append(json.dumps(body))
    return lines


def post(address: str, body: str) -> Any:
    """Parsed answer of one request."""
    sent = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(sent, timeout=30) as answer:
        return json.load(answer)


def recall(address: str, sent: Sequence[str], truth: Sequence[Sequence[str]]) -> float:
    """Share of the true best that answers over HTTP hold.

    Raises:
        AssertionError: an answer holds an excluded candidate, one twice, or too few.
    """
    shares = []
    for body, best in zip(sent, truth, strict=True):
        asked, found = json.loads(body), [result["id"] for result in post(address, body)["results"]]
        assert len(set(found) - set(asked.get("exclude", ()))) == len(found) == asked["k"], "not k that count"
        shares.append(len(set(found) & set(best[: asked["k"]])) / asked["k"])
    return float(np.mean(shares))


def load(address: str, sent: Sequence[str], *, connections: int, seconds: int, rate: float | None) -> dict[str, Any]:
    """Let `wrk` ask for some seconds; its figures.

    Args:
        address: asked.
        sent: bodies to draw from.
        connections: each has one request under way at a time.
        seconds: of load.
        rate: requests a second of all connections together, were answers immediate; None: as many as they carry.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed, script = Path(folder) / "bodies", Path(folder) / "load.lua"
        listed.write_text("\n".join(sent) + "\n", encoding="utf-8")
        delay = PACED % {"mean_ms": 1e3 * connections / rate} if rate else ""
        script.write_text(LUA % {"bodies": listed, "seed": 0, "delay": delay}, encoding="utf-8")
        words = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), address]
        done = subprocess.run(["wrk", *words], check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


class Memory:
    """Resident bytes of a process, sampled while something runs."""

    def __init__(self, process: int) -> None:
        self.samples: list[int] = []
        self._status, self._ended = Path(f"/proc/{process}/statm"), threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.samples.append(4096 * int(self._status.read_text().split()[1]))
            if self._ended.wait(SAMPLE_SECONDS):
                return


def measure(served: Served, kind: str, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Check the answers, then load the server; one line a way of loading."""
    ids, address = served.problem.asked.vectors.ids, served.address
    sent = bodies(kind, ids, served.problem.asked.excluded.tolist())
    found = recall(address, sent[:NUM_CHECKED], served.truths(NUM_CHECKED, **KINDS[kind]))
    assert found >= LEAST_RECALL, f"{served.backend} finds {found:.4f} of the best over HTTP, not {LEAST_RECALL}"
    lines = []
    for way, connections, rate in (("closed", flags.connections, None), ("paced", PACED_CONNECTIONS, flags.rate)):
        load(address, sent, connections=connections, seconds=2, rate=rate)  # warm-up
        with Memory(served.process) as memory:
            cpu = served.cpu_seconds()
            figures = load(address, sent, connections=connections, seconds=flags.seconds, rate=rate)
            cpu = served.cpu_seconds() - cpu
        settings = {"kind": kind, "way": way, "backend": served.backend, "candidates": len(ids), **KINDS[kind]}
        settings |= {"connections": connections, "rate": rate, "seconds": flags.seconds, "wait_ms": flags.wait_ms}
        times = record.Times(wall=[figures["seconds"]], cpu=[cpu])
        case = f"{served.backend}, {len(ids):,} candidates, {kind}, {way}"
        beside = {"recall": found, "resident_bytes": memory.samples, **figures}
        lines.append(record.line(NAME, case, times, settings=settings, seed=0, **beside))
    return lines


def summary(line: Mapping[str, Any]) -> dict[str, float]:
    """What the last line of the script says of a case."""
    samples = line["resident_bytes"]
    quarter = max(1, len(samples) // 4)
    return {
        "recall": round(line["recall"], 4),
        "requests_a_second": round(line["requests"] / line["seconds"], 1),
        "errors": line["errors"],
        "p50_ms": line["ms"]["p50"],
        "p99_ms": line["ms"]["p99"],
        "server_cpu_ms_a_request": round(1e3 * line["cpu_seconds"][0] / max(1, line["requests"]), 3),
        "resident_mb_first_quarter": round(float(np.median(samples[:quarter])) / 1e6, 1),
        "resident_mb_last_quarter": round(float(np.median(samples[-quarter:])) / 1e6, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve, check, load, write the raw lines, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 candidates, in under half a minute")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--candidates", type=int, help="another number of them")
    parser.add_argument("--backend", choices=("scann", "faiss"), default="scann")
    parser.add_argument("--kind", choices=tuple(KINDS), action="append", help="of requests; both by default")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of the closed load")
    parser.add_argument("--rate", type=float, default=530.0, help="a second, of the paced load, were answers immediate")
    parser.add_argument("--wait_ms", type=float, default=WAIT_MS, help="for others to share a batch with")
    parser.add_argument("--seconds", type=int, help="of each load; 3,600 shows whether memory grows")
    flags = parser.parse_args(arguments)
    flags.seconds = flags.seconds or (3 if flags.quick else 20)
    if shutil.which("wrk") is None:
        raise SystemExit(str(UserError("no load generator", where="wrk", todo="install it (Debian: apt install wrk)")))
    num_candidates = flags.candidates or (20_000 if flags.quick else 1_000_000)
    asked = problem(*catalogue(num_candidates, NUM_QUERIES), seed=0)
    figures: dict[str, Any] = {}
    with Served(asked, flags.backend, wait_ms=flags.wait_ms) as served:
        for kind in flags.kind or KINDS:
            lines = measure(served, kind, flags)
            record.append(flags.results / f"{NAME}.jsonl", lines)
            for line in lines:
                figures[line["case"]] = summary(line)
                print(f"{line['case']}: {json.dumps(figures[line['case']])}", file=sys.stderr, flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

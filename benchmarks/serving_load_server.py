"""The server that `benchmarks.serving_load` loads, in a process of its own.

    python -m benchmarks.serving_load_server BACKEND CANDIDATES WAIT_MS

prints its port when it answers. Both processes draw the same vectors from the same seed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from benchmarks.serving_contestants import built_index, load_frameworks
from benchmarks.serving_latency import Problem, catalogue, settings_of
from retrieval_contract import config
from retrieval_contract.indexes.exact import ExactIndex

NUM_QUERIES = 1_000
"""Known queries, which requests draw from."""
MODEL = "vectors"
_TICKS = os.sysconf("SC_CLK_TCK")


class Served:
    """A running server; leaving it ends it."""

    def __init__(self, problem: Problem, backend: str, *, wait_ms: float) -> None:
        """Start the process and wait until it answers.

        Args:
            problem: of the catalogue that the process draws too.
            backend: of its index.
            wait_ms: for others to share a batch with.
        """
        self.problem, self.backend = problem, backend
        words = [sys.executable, "-m", "benchmarks.serving_load_server", backend]
        words += [str(len(problem.asked.vectors.ids)), str(wait_ms)]
        # Log lines cost what they cost in real life; nobody reads them here.
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None, "a pipe"
        port = self._process.stdout.readline().strip()
        assert port, "the server ended before it answered"
        self.address = f"http://127.0.0.1:{port}/v1/models/{MODEL}:recommend"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """What it has used so far, all threads."""
        fields = Path(f"/proc/{self.process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def truths(self, num_queries: int, *, k: int, excluded: int) -> list[list[str]]:
        """Best ids of the first queries; those they have seen left out where requests exclude them."""
        asked, rows_QK = self.problem.asked, self.problem.truth[:num_queries, :k]
        if not excluded:
            exact, digest = ExactIndex.build(asked.vectors, config.Index()), asked.vectors.weights_digest
            rows_QK = exact.search(asked.queries[:num_queries], k, weights_digest=digest).rows
        return [[asked.vectors.ids[row] for row in rows_K] for rows_K in rows_QK.tolist()]


def main() -> None:
    """Build, serve, print the port, and answer until told to stop."""
    backend, num_candidates = sys.argv[1], int(sys.argv[2])
    load_frameworks()
    from retrieval_contract.serving import logs
    from retrieval_contract.serving.http_server import make_app
    from retrieval_contract.serving.limits import Limits
    from retrieval_contract.serving.model import Version
    from retrieval_contract.serving.running import bound_socket, run_until_stopped
    from retrieval_contract.serving.service import Service
    from retrieval_contract.serving.vector_model import VectorModel
    from retrieval_contract.serving.watching import Serving
    from retrieval_contract.verbs.serve import settle

    vectors, queries = catalogue(num_candidates, NUM_QUERIES)
    (settings,) = [found for found in settings_of(num_candidates) if found.backend == backend]
    index = built_index(settings, vectors)
    model = VectorModel([f"q{place}" for place in range(NUM_QUERIES)], queries, index)
    del vectors
    logs.log_to_stderr()
    settle(())
    limits = Limits(wait_ms=float(sys.argv[3]))
    service = Service(MODEL, Serving(Version(number=1, model=model)), limits)
    with bound_socket("127.0.0.1", 0) as listening:
        print(listening.getsockname()[1], flush=True)
        run_until_stopped(make_app(service), listening, limits)


if __name__ == "__main__":
    main()

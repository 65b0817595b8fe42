"""The server that `benchmarks.serving_load` loads, in a process of its own.

    python -m benchmarks.serving_load_server BACKEND CANDIDATES WAIT_MS

prints its port when it answers. Both processes draw the same vectors from the same seed.
"""

import importlib
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.serving_contestants import HOMES, load_frameworks
from benchmarks.serving_latency import DIM, SEEN_AMONG, Problem, problem, settings_of
from benchmarks.serving_vectors import draw
from retrieval_contract.arrays import Vectors
from retrieval_contract.indexes.protocol import Index

NUM_QUERIES = 1_000
"""Known queries, which requests draw from."""
MODEL = "vectors"
_TICKS = os.sysconf("SC_CLK_TCK")


@cache
def problem_of(num_candidates: int) -> Problem:
    """Catalogue, queries, what each has seen, and the truth."""
    drawn = draw(num_candidates, NUM_QUERIES, DIM, seed=0)
    ids = tuple(f"item-{row}" for row in range(num_candidates))
    return problem(Vectors(ids=ids, values=drawn.candidates, weights_digest="0" * 64), drawn.queries, seed=0)


class Served:
    """A running server; leaving it ends it."""

    def __init__(self, problem: Problem, backend: str, *, wait_ms: float) -> None:
        """Start the process and wait until it answers.

        Args:
            problem: from `problem_of`.
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

    def truths(self, *, k: int, excluded: int) -> list[list[str]]:
        """Each query's best ids; those it has seen left out where requests exclude them."""
        asked, truth = self.problem.asked, self.problem.truth
        if not excluded:
            scores_QN = asked.queries[:SEEN_AMONG] @ asked.vectors.values.T
            best = np.argpartition(-scores_QN, k, axis=1)[:, :k]
            return [[asked.vectors.ids[row] for row in rows] for rows in best.tolist()]
        return [[asked.vectors.ids[row] for row in rows[:k]] for rows in truth.tolist()]


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

    drawn = draw(num_candidates, NUM_QUERIES, DIM, seed=0)
    ids = tuple(f"item-{row}" for row in range(num_candidates))
    vectors = Vectors(ids=ids, values=drawn.candidates, weights_digest="0" * 64)
    module, name = HOMES[backend]
    kind: type[Index] = getattr(importlib.import_module(module), name)
    (settings,) = [found for found in settings_of(num_candidates) if found.backend == backend]
    model = VectorModel([f"q{place}" for place in range(NUM_QUERIES)], drawn.queries, kind.build(vectors, settings))
    del vectors, drawn
    logs.log_to_stderr()
    settle(())
    limits = Limits(wait_ms=float(sys.argv[3]))
    service = Service(MODEL, Serving(Version(number=1, model=model)), limits)
    with bound_socket("127.0.0.1", 0) as listening:
        print(listening.getsockname()[1], flush=True)
        run_until_stopped(make_app(service), listening, limits)


if __name__ == "__main__":
    main()

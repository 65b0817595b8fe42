"""A process that serves one FAISS index and nothing else: what it holds in memory, and what it answers.

    python -m benchmarks.index_resident INDEX.faiss QUERIES.npy K

The last line is one JSON object.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np

STATUS = Path("/proc/self/status")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the index, answer every query on one thread, print what it took."""
    path, queries, k = sys.argv[1:] if arguments is None else arguments
    queries_QD = np.load(queries)
    faiss.omp_set_num_threads(1)
    before = resident()
    index = faiss.read_index(path)
    seconds, rows = [], []
    for query_D in queries_QD:
        began = time.perf_counter()
        rows.append(index.search(query_D[None], int(k))[1][0].tolist())
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"before": before, "resident": resident(), "seconds": seconds, "rows": rows}))


def resident() -> int | None:
    """Bytes of this process that are in memory now; None where Linux does not tell."""
    if not STATUS.exists():
        return None
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(1_024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()

"""The main job, end to end, on simulated data: what `make demo` shows.

Both stacks train the same configuration, each is evaluated beside popularity, EASE and the oracle, TensorFlow's vectors
go into a ScaNN index and PyTorch's into a FAISS index, and three queries are answered by both, side by side.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from retrieval_contract.config_text import read_config
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.verbs.recommend import Recommendation, open_index, recommend

STACKS = ("tfrs_models", "torch_reference")
BACKENDS = {"tfrs_models": "scann", "torch_reference": "faiss"}
SHOWN = ("recall@10", "recall@100", "ndcg@10", "mrr")
NUM_QUERIES = 3


def main() -> None:
    """Run the demo and print its last line, a JSON object with the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("build/demo"))
    workdir = parser.parse_args().workdir
    began = time.monotonic()
    backends = dict(BACKENDS) if sys.platform == "linux" else {**BACKENDS, "tfrs_models": "exact"}
    for stack in STACKS:
        run_verb(stack, "train", workdir / stack, "--preset=simulated", "--overwrite")
        run_verb(stack, "build_index", workdir / stack, f"--backend={backends[stack]}")
    reports = {stack: json.loads((workdir / stack / "metrics.json").read_text()) for stack in STACKS}
    print("\n" + metrics_table(reports))
    print("\n" + side_by_side(workdir, backends))
    figures = {stack: report["metrics"]["recall@10"]["value"] for stack, report in reports.items()}
    baselines = reports[STACKS[0]]["baselines"]
    figures |= {name: row["recall@10"]["value"] for name, row in baselines.items()}
    print(json.dumps({"recall@10": figures, "seconds": round(time.monotonic() - began, 1)}))


def run_verb(stack: str, verb: str, workdir: Path, *flags: str) -> None:
    """Run a verb as a person would, in a process of its own, showing the command."""
    words = ["-m", f"{stack}.{verb}", f"--workdir={workdir}", *flags]
    print(f"\n$ python {' '.join(words)}", flush=True)
    code = subprocess.run([sys.executable, *words], check=False).returncode
    if code:
        sys.exit(code)


def metrics_table(reports: dict[str, dict[str, Any]]) -> str:
    """Both models beside their baselines, with 95 % intervals over queries."""
    rows = {stack: report["metrics"] for stack, report in reports.items()} | reports[STACKS[0]]["baselines"]
    lines = [" ".join([f"{'':<16}", *(f"{name:>24}" for name in SHOWN)])]
    for label, row in rows.items():
        cells = [f"{row[name]['value']:.4f} ({row[name]['low']:.4f}-{row[name]['high']:.4f})" for name in SHOWN]
        lines.append(" ".join([f"{label:<16}", *(f"{cell:>24}" for cell in cells)]))
    return "\n".join(lines)


def side_by_side(workdir: Path, backends: dict[str, str]) -> str:
    """Top-10 of three queries from both stacks; what they share is counted."""
    importlib.import_module("torch")  # before TensorFlow, where one process holds both
    answers = {stack: recommendations(stack, workdir / stack, backend) for stack, backend in backends.items()}
    blocks = []
    for query_id in next(iter(answers.values())):
        pair = [answers[stack][query_id] for stack in STACKS]
        same = len({item.id for item in pair[0]} & {item.id for item in pair[1]})
        head = [f"{stack} + {backends[stack]}" for stack in STACKS]
        lines = [f"query {query_id}: {same} of {len(pair[0])} shared", f"  {head[0]:<44}{head[1]}"]
        for items in zip(*pair, strict=True):
            cells = [f"{item.id:<8}{item.score:>8.3f}  {item.title[:24]}" for item in items]
            lines.append(f"  {cells[0]:<44}{cells[1]}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def recommendations(stack_name: str, workdir: Path, backend: str) -> dict[str, tuple[Recommendation, ...]]:
    """Answer the first test queries of a run in this process, unseen candidates only."""
    stack = importlib.import_module(f"{stack_name}.stack").STACK
    place = Workdir(workdir)
    opened = open_run(stack, read_config(place.config), place)
    index = open_index(stack.indexes[backend], opened, backend)
    query_rows, _ = opened.prepared.held_out_rows("test")
    query_ids = [opened.prepared.queries.ids[row] for row in sorted(set(query_rows.tolist()))[:NUM_QUERIES]]
    return {
        query_id: recommend(opened, index, query_id, 10, exclude_seen=True).recommendations for query_id in query_ids
    }


if __name__ == "__main__":
    main()

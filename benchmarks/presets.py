"""How good is each preset, in both stacks, beside what knows less and what knows all?

    python -m benchmarks.presets [--quick] [--preset NAME ...] [--stack NAME ...] [--seeds N] [--data FOLDER]

Every preset is trained as a person would, by `python -m STACK.train` in a process of its own, and the metrics that the
run reports (whole catalogue, 95 % intervals over queries) become a raw line, beside those of EASE, popularity and, on
simulated data, the oracle. Before a line is written both stacks must have ranked the same rows: their baselines agree.
Presets whose data is absent are named and left out. `--seeds=9` trains nine seeds of each, for comparing the stacks.
The last line is one JSON object.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.preset_cases import CASES, Case, chosen
from benchmarks.quality_runs import settings_digest
from retrieval_contract.config import MovieLensSource, RunConfig
from retrieval_contract.config_text import read_config
from retrieval_contract.errors import RunError, UserError
from retrieval_contract.runs.workdir import Workdir

NAME = "presets"
STACKS = ("tfrs_models", "torch_reference")
REPORTED = ("recall@10", "recall@100", "ndcg@10", "mrr", "accuracy@10", "accuracy@50", "accuracy@100")
"""Metrics that a line holds."""
SLICE = "cold_candidates"
ENDS = ("value", "low", "high")
DIGITS = 6
COUNTS = ("num_queries", "num_excluded", "num_held_out_rows", "num_candidates", "exclude_seen")
Line = Mapping[str, Any]


def train(case: Case, stack: str, seed: int | None, shared: Path) -> dict[str, Any]:
    """Train one preset in one stack, and compose its raw line.

    Args:
        case: the preset.
        stack: which of both.
        seed: of weights, order and dropout; None leaves the preset's own.
        shared: folder of the data sets.

    Raises:
        RunError: the command failed; its message is on stderr.
    """
    with tempfile.TemporaryDirectory() as scratch:
        workdir = Workdir(Path(scratch) / "run")
        words = ["-m", f"{stack}.train", f"--workdir={workdir.path}", *case.flags(shared, Path(scratch))]
        words += [f"--seed={seed}"] if seed is not None else []
        times = timed([sys.executable, *words])
        tree, config = json.loads(workdir.metrics.read_text(encoding="utf-8")), read_config(workdir.config)
    settings = {
        "stack": stack,
        "preset": case.name,
        "seed": config.seed,
        "epochs": config.training.epochs,
        "config": settings_digest(_without_cache(config)),
    }
    figures = {
        "metrics": _reported(tree["metrics"]),
        "baselines": {name: _reported(row) for name, row in tree["baselines"].items()},
        **({"slice": _slice(tree["slices"][SLICE])} if tree["slices"][SLICE]["num_queries"] else {}),
        **{name: tree[name] for name in COUNTS},
    }
    return record.line(NAME, f"{case.name}, {stack}", times, settings=settings, seed=config.seed, **figures)


def _without_cache(config: RunConfig) -> RunConfig:
    """The run, whichever folder held the download."""
    if not isinstance(config.source, MovieLensSource):
        return config
    return config.model_copy(update={"source": config.source.model_copy(update={"download_dir": ""})})


def timed(command: Sequence[str]) -> record.Times:
    """Run a command to its end, and tell the time of it and of its processes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RunError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr[-2_000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return record.Times(wall=[wall], cpu=[cpu])


def _slice(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of candidates that training never saw."""
    return {
        "num_queries": tree["num_queries"],
        "num_relevant": tree["num_relevant"],
        "metrics": _reported(tree["metrics"]),
        "baselines": {name: _reported(row) for name, row in tree["baselines"].items()},
        "chance": {name: round(row["value"], DIGITS) for name, row in tree["chance"].items() if name in REPORTED},
    }


def _reported(row: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    return {name: {end: _rounded(row[name][end]) for end in ENDS} for name in REPORTED if name in row}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def check(lines: Sequence[Line]) -> None:
    """Make sure that the stacks were measured on the same rows, and that every figure is one.

    Args:
        lines: of one preset and seed, a stack each.

    Raises:
        AssertionError: sizes, configuration or a baseline differ, or a value is outside of its interval.
    """
    for line in lines:
        for name, entry in line["metrics"].items():
            assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1, f"{line['case']}: {name} is {entry}"
    for field in (*COUNTS, "baselines"):
        said = [json.dumps(line[field], sort_keys=True) for line in lines]
        assert len(set(said)) <= 1, f"{lines[0]['case']}: {field} differs between the stacks: {said}"
    digests = {line["settings"]["config"] for line in lines}
    assert len(digests) <= 1, f"{lines[0]['case']}: the stacks were configured differently: {digests}"


def run(cases: Sequence[Case], flags: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Train every case whose data is there, and append its lines.

    Returns:
        Recall at 10 by preset and stack, of the last seed.
    """
    found: dict[str, dict[str, float]] = {}
    for case in cases:
        try:
            case.check(flags.data)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        for seed in range(flags.seeds) if flags.seeds else (None,):
            lines = [train(case, stack, seed, flags.data) for stack in flags.stack or STACKS]
            check(lines)
            record.append(flags.results / f"{NAME}.jsonl", lines)
            said = {line["settings"]["stack"]: line["metrics"]["recall@10"]["value"] for line in lines}
            print(f"{case.name}, seed {lines[0]['seed']}: recall@10 {said}", file=sys.stderr, flush=True)
            found[case.name] = said
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, verify, write the raw lines, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="simulated data alone, in under a minute")
    parser.add_argument("--preset", action="append", choices=CASES, help="this one alone; may be repeated")
    parser.add_argument("--stack", action="append", choices=STACKS, help="this one alone; may be repeated")
    parser.add_argument("--seeds", type=int, default=0, help="seeds 0 to N - 1 of each, instead of the preset's own")
    shared = Path(os.environ.get("TWO_TOWER_SHARED", "../shared"))
    parser.add_argument("--data", type=Path, default=shared, help="folder that holds `data` and `tfds_downloads`")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    flags = parser.parse_args(arguments)
    try:
        found = run(chosen(flags.preset, quick=flags.quick), flags)
    except (UserError, RunError) as error:
        print(error, file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    print(json.dumps({"recall@10": found}))


if __name__ == "__main__":
    main()

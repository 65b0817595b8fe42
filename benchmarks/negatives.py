"""Which source of negatives, which correction and which loss help, on which data, and what do they cost?

    python -m benchmarks.negatives [--dataset NAME ...] [--strategy NAME ...] [--stack NAME] [--seeds N] [--again]
    python -m benchmarks.negatives --quick
    python -m benchmarks.negatives --report

The first form fills the table: every strategy gets the same towers and the same number of steps, is tuned by itself on
the validation part (temperature, or margin) and measured on test. It reads data sets from the folder TWO_TOWER_SHARED,
writes a raw line after every run, and goes on where it was stopped. `--quick` measures costs alone, without data, in
under four minutes. `--report` measures nothing: it writes negatives.md and negatives.svg from the raw lines. The last
line printed is one JSON object.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import negative_costs, record
from benchmarks.negative_datasets import DATASETS
from benchmarks.negative_quality import NAME, Lines, run_table
from benchmarks.negative_report import write_report
from benchmarks.negative_strategies import STRATEGIES
from retrieval_contract.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the table, measure costs, or write the report."""
    flags = _flags(arguments)
    try:
        if flags.report:
            found = write_report(flags.results, flags.stack)
        elif flags.part:
            found = negative_costs.part(flags.part, flags.results, seconds=flags.seconds)
        elif flags.quick:
            found = negative_costs.measure_all(flags.results, seconds=flags.seconds)
        else:
            found = _table(flags)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(json.dumps(found))


def _table(flags: argparse.Namespace) -> dict[str, object]:
    datasets = [DATASETS[name] for name in flags.dataset or DATASETS]
    for dataset in datasets:
        dataset.check()
    lines = Lines(flags.results / f"{NAME}.jsonl", again=flags.again)
    stack = importlib.import_module(f"{flags.stack}.stack").STACK
    return run_table(stack, datasets, flags.strategy or list(STRATEGIES), lines, seeds=flags.seeds)


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", choices=DATASETS, help="this one alone; may be repeated")
    parser.add_argument("--strategy", action="append", choices=STRATEGIES, help="this one alone; may be repeated")
    parser.add_argument("--stack", choices=negative_costs.STACKS, default="torch_reference")
    parser.add_argument("--seeds", type=int, default=1, help="runs of the chosen value that test measures")
    parser.add_argument("--again", action="store_true", help="repeat runs whose lines are there")
    parser.add_argument("--quick", action="store_true", help="costs alone")
    parser.add_argument(
        "--seconds", type=float, default=negative_costs.SECONDS, help="of --quick, for the turns of a pair"
    )
    parser.add_argument(
        "--part", choices=(*negative_costs.STACKS, "streaming"), help="of --quick alone, in this process"
    )
    parser.add_argument("--report", action="store_true", help="write tables and plot from the lines")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

"""How good are the towers on real data, leave one out, over the whole catalogue?

    python -m benchmarks.quality --dataset=ml-1m --recipe=movielens_1m_sasrec --seed=0 [--stack=NAME] [--resume]
    python -m benchmarks.quality --report

The first form trains one seed of a recipe on all but the last row of each query, measures it on those beside popularity
and EASE, and adds a raw line; a run that was stopped goes on with `--resume`. `--part=validation` holds the last row
but one out too and measures that instead; with `--set`, for choosing hyperparameters, its lines lie beside the
workdirs. Data sets are read from the folder TWO_TOWER_SHARED. `--report` measures nothing: it writes quality.md and
quality.svg from the raw lines and prints the table; the last line printed is one JSON object. On Linux large arrays go
back to the system at every step, which can cost half of the time; it is saved by `MALLOC_MMAP_MAX_=0
MALLOC_TRIM_THRESHOLD_=100000000000 THP_MEM_ALLOC_ENABLE=1` in the environment.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.quality_recipes import DATASETS, RECIPES
from benchmarks.quality_report import write_report
from benchmarks.quality_runs import Job, run
from retrieval_contract.errors import RunError, UserError

STACKS = ("torch_reference", "tfrs_models")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one run, or write the report."""
    flags = _flags(arguments)
    try:
        found = _reported(flags) if flags.report else _trained(flags)
    except (UserError, RunError) as error:
        print(error, file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    print(json.dumps(found))


def _reported(flags: argparse.Namespace) -> dict[str, Any]:
    """Write the report, print its page, and answer with its figures."""
    page, found = write_report(flags.results)
    print(page)
    return found


def _trained(flags: argparse.Namespace) -> dict[str, Any]:
    """Train, and answer with what the line says in short."""
    recipe = RECIPES.get(flags.recipe)
    if recipe is None or flags.dataset not in (None, recipe.dataset):
        known = ", ".join(f"{name} ({recipe.dataset})" for name, recipe in RECIPES.items())
        raise UserError(
            f"no recipe {flags.recipe!r} on {flags.dataset or 'any data set'}", where="command line", todo=known
        )
    recipe.check()
    stack = importlib.import_module(f"{flags.stack}.stack").STACK
    _set_matmul(flags.stack, flags.matmul)
    job = Job(
        recipe=recipe,
        stack=stack,
        seed=flags.seed,
        part=flags.part,
        settings=tuple(flags.set),
        curve_epochs=flags.curve_epochs,
        matmul=flags.matmul,
        baselines=not flags.no_baselines,
    )
    results = flags.runs if job.settings else flags.results
    line = run(job, job.workdir(flags.runs), results, resume=flags.resume, overwrite=flags.overwrite)
    return {"case": line["case"], "seed": line["seed"], "metrics": line["metrics"]}


def _set_matmul(stack: str, matmul: str) -> None:
    """Let PyTorch multiply float32 in shorter numbers where the processor has them (`medium`: bfloat16)."""
    if matmul == "highest":
        return
    if stack != "torch_reference":
        raise UserError(f"{stack} multiplies float32 as float32", where="--matmul", todo="leave it out")
    importlib.import_module("torch").set_float32_matmul_precision(matmul)


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=DATASETS, help="checked against the recipe's own")
    parser.add_argument("--recipe", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stack", choices=STACKS, default=STACKS[0])
    parser.add_argument("--part", choices=("test", "validation"), default="test")
    parser.add_argument("--set", action="append", default=[], help="PATH=VALUE over the recipe; may be given again")
    parser.add_argument("--matmul", choices=("highest", "high", "medium"), default="highest", help="PyTorch alone")
    parser.add_argument("--no_baselines", action="store_true", help="another seed's line has them")
    parser.add_argument("--curve_epochs", type=int, default=5, help="epochs between points of the validation curve")
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="folder of all workdirs")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="begin the run anew")
    parser.add_argument("--report", action="store_true", help="write table and plot from the lines")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

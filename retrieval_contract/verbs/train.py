"""`train`: towers, checkpoints, weights, report."""

from collections.abc import Sequence
from pathlib import Path

from retrieval_contract.flags import Command, run_config
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack
from retrieval_contract.verbs.command import run_command


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.train`."""
    run_command("train", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Train as the command asks and print the report."""
    config, workdir = run_config(command), Workdir(command.workdir)
    resume, overwrite = command.values["resume"], command.values["overwrite"]
    warm_start = Path(command.values["warm_start"]) if command.values["warm_start"] else None
    report = train_run(stack, config, workdir, resume=resume, overwrite=overwrite, warm_start=warm_start)
    if report is None:
        # Another process of the same run writes and speaks.
        return
    print(report.to_text())
    print(f"{stack.name}: run written to {workdir.path}")

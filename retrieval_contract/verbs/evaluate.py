"""`evaluate`: exact metrics of a run that either stack trained."""

from collections.abc import Sequence

from retrieval_contract.files import write_text
from retrieval_contract.flags import Command, saved_config
from retrieval_contract.runs.opened import evaluate_encoders, open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack
from retrieval_contract.verbs.command import run_command


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.evaluate`."""
    run_command("evaluate", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Evaluate, write metrics.json, print the report."""
    opened = open_run(stack, saved_config(command), Workdir(command.workdir))
    report = evaluate_encoders(opened.config, opened.prepared, opened.encoders, learned=opened.learned)
    write_text(opened.workdir.metrics, report.to_json())
    print(report.to_text())

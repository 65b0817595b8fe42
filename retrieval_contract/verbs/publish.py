"""`publish`: the run's weights and its index as the next version for a server to take up."""

from collections.abc import Sequence

from retrieval_contract.flags import Command, saved_config
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.serving.published import publish
from retrieval_contract.stack import Stack
from retrieval_contract.verbs.build_index import chosen_backend, index_class
from retrieval_contract.verbs.command import run_command
from retrieval_contract.verbs.recommend import open_index


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.publish`."""
    run_command("publish", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Write the next version."""
    config = saved_config(command)
    backend = chosen_backend(config, command)
    kind = index_class(stack, backend)
    opened = open_run(stack, config, Workdir(command.workdir))
    index = open_index(kind, opened, backend)
    folder = publish(opened, index)
    print(f"{stack.name}: version {folder.name}, {backend} search of {index.size:,} candidates: {folder}", flush=True)

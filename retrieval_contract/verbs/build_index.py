"""`build_index`: an index over the catalogue, which names the weights it was built from."""

import time
from collections.abc import Sequence

from retrieval_contract.config import RunConfig
from retrieval_contract.errors import UserError
from retrieval_contract.flags import Command, saved_config
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack
from retrieval_contract.verbs.command import run_command

_HOME = {"scann": "tfrs_models (Linux only)", "faiss": "torch_reference"}


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.build_index`."""
    run_command("build_index", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Build the index and save it in the workdir."""
    config = saved_config(command)
    backend = chosen_backend(config, command)
    kind = index_class(stack, backend)
    opened = open_run(stack, config, Workdir(command.workdir))
    vectors = opened.candidate_vectors()
    began = time.perf_counter()
    index = kind.build(vectors, config.index, opened.attributes())
    folder = opened.workdir.index(backend)
    index.save(folder)
    seconds = time.perf_counter() - began
    print(f"{backend} index of {index.size:,} candidates of width {index.dim} in {seconds:.2f} s: {folder}")


def chosen_backend(config: RunConfig, command: Command) -> str:
    """The backend that a command names, or the run's own."""
    return command.values["backend"] or config.index.backend


def index_class(stack: Stack, backend: str) -> type[Index]:
    """The stack's index class of a backend.

    Raises:
        UserError: the stack, or this machine, has no such backend.
    """
    if backend not in stack.indexes:
        todo = f"here: {', '.join(stack.indexes)}"
        if backend in _HOME:
            todo += f"; {backend} belongs to {_HOME[backend]}"
        raise UserError(f"{stack.name} has no backend {backend!r}", where="--backend", todo=todo)
    return stack.indexes[backend]

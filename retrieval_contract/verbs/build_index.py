"""`build_index`: an index over the catalogue, or the fastest that reaches a recall; it names the weights it is of."""

import time
from collections.abc import Sequence

from retrieval_contract.config import RunConfig
from retrieval_contract.errors import UserError
from retrieval_contract.flags import Command, saved_config
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.indexes.tuning_report import as_text, changes
from retrieval_contract.runs.choice import forget_choice, read_choice
from retrieval_contract.runs.index_tuning import DEFAULT_K, tune_index
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack
from retrieval_contract.verbs.command import run_command

ALL = "all"
"""As a backend of tuning: every one that the stack has."""
_HOME = {"scann": "tfrs_models (Linux only)", "partitioned": "tfrs_models", "faiss": "torch_reference"}


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.build_index`."""
    run_command("build_index", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Build the index, or the best of many, and save it in the workdir."""
    if command.values["target_recall"] is None:
        _build(stack, command)
    else:
        _tune(stack, command)


def _build(stack: Stack, command: Command) -> None:
    stray = [name for name in ("k", "max_bytes") if command.values[name] is not None]
    stray += ["backend=all"] if command.values["backend"] == ALL else []
    if stray:
        todo = "say what recall to reach, or leave it out"
        raise UserError(f"--{stray[0]} goes with --target_recall", where="command line", todo=todo)
    config = saved_config(command)
    backend = command.values["backend"] or config.index.backend
    kind = index_class(stack, backend)
    opened = open_run(stack, config, Workdir(command.workdir))
    vectors = opened.candidate_vectors()
    began = time.perf_counter()
    index = kind.build(vectors, config.index.model_copy(update={"backend": backend}), opened.attributes())
    folder = opened.workdir.index(backend)
    if forget_choice(opened.workdir, backend):
        print(f"the {backend} index that was tuned is replaced; the run's own index.backend serves again")
    index.save(folder)
    seconds = time.perf_counter() - began
    print(f"{backend} index of {index.size:,} candidates of width {index.dim} in {seconds:.2f} s: {folder}")


def _tune(stack: Stack, command: Command) -> None:
    named = command.values["backend"]
    backends = list(stack.indexes) if named in (None, ALL) else [named]
    classes = {backend: index_class(stack, backend) for backend in backends}
    opened = open_run(stack, saved_config(command), Workdir(command.workdir))
    kept, tried = tune_index(
        opened,
        classes,
        target=command.values["target_recall"],
        k=DEFAULT_K if command.values["k"] is None else command.values["k"],
        max_bytes=command.values["max_bytes"],
    )
    assert kept.checked is not None, "what is kept was checked"
    settings = changes(kept.settings)
    recall = f"recall@{kept.k} {as_text(kept.checked)} over {kept.checked.num_queries:,} queries"
    cost = f"p50 {kept.p50_ms:.3f} ms, p99 {kept.p99_ms:.3f} ms, {kept.num_bytes:,} bytes"
    print(f"kept of {len(tried.trials):,} settings measured: {kept.settings.backend} {settings}".rstrip())
    print(f"{recall}; {cost}")
    print(f"index: {opened.workdir.index(kept.settings.backend)}, all that was tried: {opened.workdir.indexes}")


def chosen_backend(config: RunConfig, command: Command) -> str:
    """The backend to search by: the one that a command names, or that tuning has chosen, or the run's own.

    Raises:
        UserError: what tuning has left is damaged.
    """
    if command.values.get("backend"):
        return str(command.values["backend"])
    if any(setting.startswith("index.backend=") for setting in command.settings):
        return config.index.backend
    return read_choice(Workdir(command.workdir)) or config.index.backend


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

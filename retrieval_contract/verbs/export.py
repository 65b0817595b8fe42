"""`export`: a model that serves without this project, as the next version of a folder that a server watches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_contract.errors import UserError
from retrieval_contract.files import add_version
from retrieval_contract.flags import Command, saved_config
from retrieval_contract.manifest import read_manifest, write_manifest
from retrieval_contract.runs.opened import OpenedRun, open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack
from retrieval_contract.verbs.build_index import chosen_backend
from retrieval_contract.verbs.command import run_command

KIND = "export"
"""What the manifest of a version says it is."""


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.export`."""
    run_command("export", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Write the next version."""
    parent = checked_export_dir(command)
    config = saved_config(command)
    kind = checked_kind(stack, command.values["kind"] or chosen_backend(config, command))
    opened = open_run(stack, config, Workdir(command.workdir))
    folder = write_version(stack, opened, kind, parent)
    recall = read_manifest(folder, KIND).get("recall")
    found = f", recall@{recall['k']} {recall['value']:.3f} over {recall['queries']}" if recall else ""
    print(f"{kind} model of {len(opened.prepared.candidates.ids):,} candidates written to {folder}{found}")


def write_version(stack: Stack, opened: OpenedRun, kind: str, parent: Path) -> Path:
    """Export a run into `parent/N`, N one more than the largest number there; whole or not at all.

    Raises:
        UserError: the stack cannot export the run so, or the disk is full.
    """

    def write(folder: Path) -> None:
        own = stack.export(opened, kind, folder)
        write_manifest(folder, KIND, {**common_fields(stack, opened, kind), **own})

    return add_version(parent, write)


def common_fields(stack: Stack, opened: OpenedRun, kind: str) -> dict[str, Any]:
    """What the manifest of every version says, whichever stack wrote it."""
    return {
        "stack": stack.name,
        "backend": kind,
        "weights_digest": opened.weights_digest,
        "config_digest": opened.config.digest(),
        "size": len(opened.prepared.candidates.ids),
        "dim": opened.config.vector_dim,
    }


def checked_kind(stack: Stack, kind: str) -> str:
    """The kind, where the stack has it on this machine.

    Raises:
        UserError: it has not.
    """
    if kind not in stack.indexes:
        todo = f"here: {', '.join(stack.indexes)}"
        raise UserError(f"{stack.name} exports no kind {kind!r}", where="--kind", todo=todo)
    return kind


def checked_export_dir(command: Command) -> Path:
    """The folder of versions that a command names.

    Raises:
        UserError: it names none, or a file.
    """
    if not command.values["export_dir"]:
        raise UserError("--export_dir is missing", where="command line", todo="name a folder for the model's versions")
    parent = Path(command.values["export_dir"])
    if parent.exists() and not parent.is_dir():
        raise UserError("--export_dir is no folder", where=str(parent), todo="name another, or remove what lies there")
    return parent

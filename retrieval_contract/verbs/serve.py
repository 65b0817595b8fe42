"""`serve`: the newest published version of a run over HTTP, and each newer one when it comes."""

import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from retrieval_contract.errors import UserError
from retrieval_contract.files import versions
from retrieval_contract.flags import Command
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.published import live_folder, load_version, versions_folder
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Serving, Watcher
from retrieval_contract.stack import Stack
from retrieval_contract.verbs import publish
from retrieval_contract.verbs.command import run_command

SWITCH_SECONDS = 0.0005
"""Python's default is ten times as long."""
LEAST_TOKEN = 16
"""Letters of a token, so that nobody guesses it."""


class Stoppable(Protocol):
    """A server beside the one over HTTP."""

    def stop(self) -> None:
        """Take nothing more, and finish what is under way."""
        ...


StartGrpc = Callable[[Service, str, int], Stoppable]
"""Begins to answer TF Serving's gRPC interface on an address and a port."""


def main(
    stack: Stack,
    arguments: Sequence[str] | None = None,
    *,
    modules: Sequence[str] = (),
    start_grpc: StartGrpc | None = None,
) -> None:
    """Entry of `python -m STACK.serve`.

    Args:
        stack: the implementation.
        arguments: words of the command line; those of the process by default.
        modules: what brings the framework in, to be imported before any version is loaded.
        start_grpc: the TensorFlow stack's, which has the messages of gRPC.
    """

    def body(stack: Stack, command: Command) -> None:
        run(stack, command, modules=modules, start_grpc=start_grpc)

    run_command("serve", stack, body, arguments)


def run(stack: Stack, command: Command, *, modules: Sequence[str] = (), start_grpc: StartGrpc | None = None) -> None:
    """Serve until the process is told to stop."""
    # These take a second to import, and `--help` needs none of them.
    from retrieval_contract.serving import logs
    from retrieval_contract.serving.http_server import make_app
    from retrieval_contract.serving.running import bound_socket, run_until_stopped

    values = command.values
    limits, token = limits_of(command), read_token(values["token_file"])
    if values["grpc_port"] and start_grpc is None:
        raise UserError(
            f"{stack.name} has no gRPC", where="--grpc_port", todo="leave it out, or serve with tfrs_models"
        )
    listening = bound_socket(values["host"], values["port"])
    with listening:
        logs.log_to_stderr()
        settle(modules)
        service = Service(values["name"], Serving(), limits)
        watcher = watch(stack, command, service, changes=token is not None)
        grpc = start_grpc(service, values["host"], values["grpc_port"]) if start_grpc and values["grpc_port"] else None
        host, port = listening.getsockname()[:2]
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1/models/{service.name}"
        logs.say("listening", host=host, port=port, grpc_port=values["grpc_port"] or None)
        print(f"{stack.name}: serving {where}; stop with Ctrl-C or SIGTERM", flush=True)
        stop_grpc = grpc.stop if grpc is not None else lambda: None
        run_until_stopped(make_app(service, watcher=watcher, token=token, stop_beside=stop_grpc), listening, limits)
    logs.say("stopped")


def settle(modules: Sequence[str]) -> None:
    """Import what stays for the life of the process, and let requests pass while a version is loaded beside them.

    The garbage collector never again looks at what is imported here: of a framework that is some hundred thousand
    objects, and every thread stands still for as long as they are looked at.
    """
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    # A thread that loads gives way after so long; a request takes turns with it several times.
    sys.setswitchinterval(SWITCH_SECONDS)


def watch(stack: Stack, command: Command, service: Service, *, changes: bool) -> Watcher:
    """Load the newest version, having published the first where there is none, and a watcher for those to come.

    Raises:
        UserError: no version can be loaded.
    """
    folder = versions_folder(command.workdir)
    if not versions(folder):
        publish.run(stack, command)
    live = live_folder(command.workdir) if changes else None
    shown = [name for name in command.values["fields"].split(",") if name] if command.values["fields"] else None

    def load(version: Path) -> Version:
        return load_version(stack, version, settings=command.settings, shown=shown, live=live)

    poll_seconds = command.values["poll_seconds"]
    watcher = Watcher(service.serving, folder, load, poll_seconds=poll_seconds, swapped=service.swapped)
    if not watcher.poll():
        todo = "see the lines above for the reasons, and publish again"
        raise UserError("not one version can be served", where=str(folder), todo=todo)
    return watcher


def limits_of(command: Command) -> Limits:
    """Limits as the flags say."""
    values = command.values
    return Limits(
        body_bytes=values["max_body_bytes"],
        k=values["max_k"],
        rows=values["max_rows"],
        exclusions=values["max_exclusions"],
        waiting_rows=values["max_waiting"],
        batch_rows=values["max_batch"],
        wait_ms=values["max_wait_ms"],
        seconds=values["max_seconds"],
    )


def read_token(path: str) -> str | None:
    """The token that changes of candidates ask for; None where no file is named.

    Raises:
        UserError: the file cannot be read, or holds too little.
    """
    if not path:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the token: {error}", where="--token_file", todo="check the path") from None
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        todo = f"write {LEAST_TOKEN} or more ASCII letters and digits into it, on one line"
        raise UserError("no token in the file", where=f"--token_file={path}", todo=todo)
    return token

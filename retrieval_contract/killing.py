"""Test support: a process that is killed, at a random moment or at each step of what it does to files in turn."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

NUM_KILLS = int(os.environ.get("TWO_TOWER_KILLS", "4"))
"""Moments of each test; more by hand."""
PRELOADED = ("pytest", "retrieval_contract.indexes.live_killing")
"""What takes long to import, once for all processes."""
STEPS = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def killed(work: Callable[..., None], arguments: Sequence[Any], seconds: float) -> list[Any]:
    """Run `work(*arguments, say)` in a process of its own and end it by SIGKILL so long after it first said something.

    Args:
        work: a function of a module (it is imported by name); must not return before it is killed.
        arguments: what can be pickled.
        seconds: from the first thing said until the kill.

    Returns:
        All that was said through `say(thing)`: everything that `say` returned from.
    """
    ours, process = _started(_run, work, arguments)
    said = []
    # The end of the pipe, or half a message there, is the end of the process.
    with contextlib.suppress(EOFError, OSError):
        said.append(ours.recv())
        until = time.monotonic() + seconds
        while ours.poll(max(0.0, until - time.monotonic())):
            said.append(ours.recv())
        process.kill()
        while True:
            said.append(ours.recv())
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"it ended by itself, with code {process.exitcode}"
    assert said, "it said nothing"
    return said


def killed_at_step(work: Callable[..., None], arguments: Sequence[Any], step: int) -> list[Any] | None:
    """Run `work(*arguments, say)` in a process of its own that is ended by SIGKILL before a step.

    Every opening for writing, renaming, linking, making or removing of a file is a step, counted from 0 from the first
    thing said; waiting for the disk is none, nor is a call through ctypes.

    Returns:
        All that was said, None where the work ended by itself before that many steps.
    """
    ours, process = _started(_run_to, work, (step, *arguments))
    said = []
    with contextlib.suppress(EOFError, OSError):
        while True:
            said.append(ours.recv())
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"it failed, with code {process.exitcode}"
    return said if process.exitcode else None


def _started(run: Callable[..., None], work: Callable[..., None], arguments: Sequence[Any]) -> tuple[Connection, Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(work, arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _run(work: Callable[..., None], arguments: Sequence[Any], theirs: Connection) -> None:
    work(*arguments, theirs.send)


def _run_to(work: Callable[..., None], arguments: Sequence[Any], theirs: Connection) -> None:
    step, *rest = arguments
    left = [-1]

    def say(thing: Any) -> None:
        theirs.send(thing)
        if left[0] < 0:
            left[0] = step

    def count(event: str, values: Any) -> None:
        if left[0] >= 0 and (event in STEPS or (event == "open" and values[2] & WRITING)):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    work(*rest, say)

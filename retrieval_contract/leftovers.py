"""What a killed writer leaves beside its target: `.name.pid.hex`, found and removed by the next writer of that name.

A living writer is never disturbed. It is known by its process, and by a lock on what it writes, which the kernel drops
when the process dies: processes of other containers, which cannot be seen from here, may write to the same disk.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from retrieval_contract.file_lock import HAS_LOCKS, try_lock

STEPPED_ASIDE = ".old"
"""Behind the name of a whole folder that stepped aside for a new one, where the two cannot be exchanged."""
_ours: set[Path] = set()
"""What this process is writing now."""


def beside(path: Path) -> Path:
    """A name in the same folder that no other writer has, this process's number in it."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def claimed(written: Path, *, folder: bool) -> Iterator[None]:
    """Make the empty file or folder that is to be written, named by `beside`, and mark it as a living process's."""
    _ours.add(written)
    try:
        written.mkdir() if folder else written.touch(exist_ok=False)
        with _locked(written):
            yield
    finally:
        _ours.discard(written)


def clear_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left; a whole folder that had stepped aside takes its place back.

    Nothing is raised: what cannot be removed does no harm but for the room it takes.
    """
    if not HAS_LOCKS:
        return
    form = re.compile(re.escape(f".{path.name}.") + r"(\d+)\.[0-9a-f]{8}(" + re.escape(STEPPED_ASIDE) + ")?")
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found.extend(path.parent.iterdir())
    for leftover in found:
        parts = form.fullmatch(leftover.name)
        if parts and leftover not in _ours and not _lives(int(parts[1])):
            with contextlib.suppress(OSError), _locked(leftover):
                if parts[2] and not path.exists():
                    leftover.rename(path)
                else:
                    remove(leftover)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    """True for a process that runs here; not for our own, whose writings are known.

    A leftover of our own number is an earlier process's: a container that is started again counts from 1 again.
    """
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder.

    Raises:
        BlockingIOError: another holds it.
    """
    if not HAS_LOCKS:
        yield
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        if not try_lock(opened):
            raise BlockingIOError(f"{path} is being written")
        yield
    finally:
        os.close(opened)

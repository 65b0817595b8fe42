"""Write beside, then rename: a reader sees the old file or the new one, never half of one, whenever a writer is killed.

Source: renameat2(2), RENAME_EXCHANGE: Linux exchanges two folders in one step.
"""

import contextlib
import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from retrieval_contract.errors import UserError
from retrieval_contract.leftovers import STEPPED_ASIDE, beside, claimed, clear_leftovers, remove

AT_FDCWD, RENAME_EXCHANGE = -100, 2
CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""What a kernel or a disk that cannot exchange answers."""
NO_SECOND_NAMES = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a disk without hard links answers."""
T = TypeVar("T")


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it takes the place of `path`, on any failure it is removed.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.
    """
    with _writing(path, folder=False) as written:
        yield written
        _sync(written)
        written.replace(path)


@contextlib.contextmanager
def creating_file(path: Path) -> Iterator[Path]:
    """As `replacing_file`, but where another process has made that file meanwhile, it is kept.

    Raises:
        UserError: the file is there; or as `replacing_file`.
    """
    with _writing(path, folder=False) as written:
        yield written
        _sync(written)
        try:
            # A second name, unlike a renaming, is refused where the name is taken.
            os.link(written, path)
        except OSError as error:
            if error.errno not in NO_SECOND_NAMES or path.exists():
                raise
            written.replace(path)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success it takes its place, on any failure it is removed.

    On Linux there is no instant without a whole folder, where the disk can exchange two (ext4, xfs, btrfs, tmpfs and
    overlays of them can, NFS cannot). Elsewhere a writer that is killed in the instant of renaming leaves the old
    folder under a hidden name, and the next writer puts it back.

    Raises:
        UserError: the parent cannot be made or written, or the disk is full.
    """
    with _writing(folder, folder=True) as written:
        yield written
        _sync(written)
        _swap(written, folder)


def read_steadily(folder: Path, read: Callable[[Path], T]) -> T:
    """Read a folder that a writer may replace meanwhile: where one did, read again, so that nothing is mixed.

    Args:
        folder: what is read.
        read: reads several files of it; what it raises counts only where the folder stayed the same.
    """
    while True:
        before = _identity(folder)
        try:
            result = read(folder)
        except Exception:  # halves of two folders may fail anyhow
            if _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return result


def add_version(parent: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder and put it into `parent` under the next number, as TensorFlow Serving looks for it.

    Until it is whole it has a hidden name that is no number. Two processes that add at the same time get two numbers.

    Args:
        parent: folder of versions, made where it is missing.
        write: fills an empty folder; whatever it raises removes the folder.

    Returns:
        The folder `parent/N`, N one more than the largest number there, from 1.

    Raises:
        UserError: the parent cannot be made or written, or the disk is full.
    """
    with _writing(parent / "version", folder=True) as written:
        write(written)
        _sync(written)
        return _numbered(written, parent)


def versions(parent: Path) -> list[int]:
    """Numbers that stand in a folder of versions, ascending; none where it is missing."""
    if not parent.is_dir():
        return []
    return sorted(int(path.name) for path in parent.iterdir() if path.name.isascii() and path.name.isdecimal())


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, UTF-8, beside and renamed."""
    with replacing_file(path) as written:
        written.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _writing(path: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a new empty file or folder beside `path`, claimed; what is left of it afterwards is removed."""
    written = beside(path)
    try:
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            clear_leftovers(path)
            with claimed(written, folder=folder):
                yield written
                _sync_names(path.parent)
    finally:
        remove(written)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder and all in it, is on the disk: some disks say only then that they are full."""
    inner = list(path.rglob("*")) if path.is_dir() else []
    for file in [path, *inner]:
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    for folder in [path, *inner]:
        _sync_names(folder)


def _sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; some systems cannot, and some disks."""
    if folder.is_dir() and sys.platform != "win32":
        with contextlib.suppress(OSError):
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; the old one, where there was one, is removed or left under the name `new`.

    A folder cannot be renamed over a full one, so the two are exchanged, or the old one steps aside.
    """
    if not os.path.lexists(folder):
        new.replace(folder)
    elif not _exchange(new, folder):
        old = new.with_name(new.name + STEPPED_ASIDE)
        folder.replace(old)
        try:
            new.replace(folder)
        except BaseException:
            old.replace(folder)
            raise
        remove(old)


def _exchange(new: Path, folder: Path) -> bool:
    """Let two paths change names in one step; False where this system or disk cannot."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    if renameat2(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(folder), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(folder))


@functools.cache
def _renameat2() -> Any:
    """The C library's function; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None


def _identity(folder: Path) -> tuple[int, ...]:
    """Differs between two folders that stood under one name; inode numbers alone are used again."""
    try:
        found = folder.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_ctime_ns, found.st_mtime_ns


def _numbered(written: Path, parent: Path) -> Path:
    """Rename to the next number; where another process took it meanwhile, to the one after."""
    while True:
        folder = parent / str(max(versions(parent), default=0) + 1)
        try:
            # Unlike a file, a folder is never renamed over another that holds something.
            return written.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        todo = "free some space and run again" if error.errno == 28 else "check the path and its permissions"
        raise UserError(f"cannot write: {error.strerror or error}", where=str(path), todo=todo) from error

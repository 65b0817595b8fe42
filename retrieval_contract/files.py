"""Write beside, then rename: a reader sees the old file or the new one, never half of one."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from retrieval_contract.errors import UserError


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it takes the place of `path`, on any failure it is removed.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.
    """
    beside = _beside(path)
    try:
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            _sync(beside)
            beside.replace(path)
    finally:
        # Where a file stands in the place of the folder, this fails too, and would hide what is wrong.
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success it takes its place, on any failure it is removed.

    Raises:
        UserError: the parent cannot be made or written, or the disk is full.
    """
    beside = _beside(folder)
    try:
        with _disk_errors(folder):
            beside.mkdir(parents=True)
            yield beside
            _sync(beside)
            _swap(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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
    beside = _beside(parent / "version")
    try:
        with _disk_errors(parent):
            beside.mkdir(parents=True)
            write(beside)
            _sync(beside)
            return _numbered(beside, parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def versions(parent: Path) -> list[int]:
    """Numbers that stand in a folder of versions, ascending; none where it is missing."""
    if not parent.is_dir():
        return []
    return sorted(int(path.name) for path in parent.iterdir() if path.name.isascii() and path.name.isdecimal())


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, UTF-8, beside and renamed."""
    with replacing_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    """Wait until a file, or every file of a folder, is on the disk: some disks say only then that they are full."""
    for file in [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]:
        with file.open("rb") as written:
            os.fsync(written.fileno())


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; a folder cannot be renamed over a full one, so the old one steps aside."""
    if not folder.exists():
        new.replace(folder)
        return
    old = _beside(folder)
    folder.replace(old)
    try:
        new.replace(folder)
    except BaseException:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _numbered(beside: Path, parent: Path) -> Path:
    """Rename to the next number; where another process took it meanwhile, to the one after."""
    while True:
        folder = parent / str(max(versions(parent), default=0) + 1)
        try:
            # Unlike a file, a folder is never renamed over another that holds something.
            return beside.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        todo = "free some space and run again" if error.errno == 28 else "check the path and its permissions"
        raise UserError(f"cannot write: {error.strerror or error}", where=str(path), todo=todo) from error

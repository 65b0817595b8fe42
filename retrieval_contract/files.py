"""Write beside, then rename: a reader sees the old file or the new one, never half of one."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
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


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        todo = "free some space and run again" if error.errno == 28 else "check the path and its permissions"
        raise UserError(f"cannot write: {error.strerror or error}", where=str(path), todo=todo) from error

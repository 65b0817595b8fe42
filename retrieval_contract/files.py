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
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            beside.replace(path)
    finally:
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
            old = _beside(folder)
            if folder.exists():
                folder.replace(old)
            beside.replace(folder)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, UTF-8, beside and renamed."""
    with replacing_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        todo = "free some space and run again" if error.errno == 28 else "check the path and its permissions"
        raise UserError(f"cannot write: {error.strerror or error}", where=str(path), todo=todo) from error

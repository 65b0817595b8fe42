"""The updates of a live index on disk: one record each, appended and waited for before the update is seen.

header   magic (8 bytes), nonce (8), digest of the index that is updated (32), CRC32 of these (4)
record   marker (4), length of the payload (8), CRC32 of the payload (4), CRC32 of marker, length and CRC (4), payload
payload  length of the text (8), JSON text, float32 vectors

Numbers are little-endian. Every CRC continues that of the header, so a record belongs to one journal only. A record
that is not whole and has no whole record behind it was being written when its process ended: reading stops before it,
and the next append cuts it off. With a whole record behind it, it was damaged later, and the journal is refused.
"""

import json
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np

from retrieval_contract.arrays import Float32Array
from retrieval_contract.errors import UserError
from retrieval_contract.file_lock import try_lock
from retrieval_contract.files import creating_file

MAGIC = b"TTRLIVE1"
HEADER = struct.Struct("<8s8s32sI")
MARKER = b"\xf5REC"
RECORD = struct.Struct("<4sQII")
TEXT = struct.Struct("<Q")


Op = Literal["add", "update", "put", "remove"]
"""`put` adds what is not there and updates what is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One call that changed an index, as it is replayed."""

    op: Op
    ids: tuple[str, ...]
    """Candidate ids [M]."""
    values: Float32Array
    """Vectors [M, D]; of a removal [0, D]."""
    attributes: Mapping[str, list[Any]] | None = None
    """By name, a text, a list of texts or None for each candidate; None leaves them as they are."""


@final
class Journal:
    """A journal that is open; made by `begin` or `open`. One process at a time appends, and has the lock then."""

    def __init__(self, path: Path, descriptor: int, seed: int, end: int) -> None:
        """Take an open file.

        Args:
            path: where it lies, for messages.
            descriptor: open for reading and writing, or for reading.
            seed: CRC of the header.
            end: where the last whole record ends.
        """
        self._path, self._descriptor, self._seed, self.end = path, descriptor, seed, end
        self._locked = False

    @classmethod
    def begin(cls, path: Path, digest: str) -> Self:
        """Write a journal without updates, whole or not at all.

        Args:
            path: file to make.
            digest: SHA-256 of the index that the journal belongs to, in hexadecimal.

        Raises:
            UserError: another process has begun one there, the disk is full, or the folder cannot be written.
        """
        plain = MAGIC + secrets.token_bytes(8) + bytes.fromhex(digest)
        try:
            with creating_file(path) as beside:
                beside.write_bytes(plain + struct.pack("<I", zlib.crc32(plain)))
        except UserError as error:
            raise (_stale(path) if isinstance(error.__cause__, FileExistsError) else error) from None
        return cls(path, _opened(path), zlib.crc32(plain), HEADER.size)

    @classmethod
    def open(cls, path: Path, digest: str) -> tuple[Self, list[Update]]:
        """Open a journal and read its updates in order; one that was being written when its process ended is left out.

        Raises:
            UserError: it cannot be read, is damaged, or belongs to another index.
        """
        descriptor = _opened(path)
        try:
            content = _read(descriptor)
            seed = _seed(content, digest, path)
            updates, end = _updates(content, HEADER.size, seed, path)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, seed, end), updates

    def append(self, update: Update) -> None:
        """Write an update and wait until it is on the disk; what is cut off from an earlier failure is overwritten.

        Raises:
            UserError: the disk is full, or another process writes this journal or has written it since it was opened.
        """
        self.lock()
        payload = _payload(update)
        plain = MARKER + struct.pack("<QI", len(payload), zlib.crc32(payload, self._seed))
        record = plain + struct.pack("<I", zlib.crc32(plain, self._seed)) + payload
        try:
            os.ftruncate(self._descriptor, self.end)
            _write(self._descriptor, record, self.end)
            os.fsync(self._descriptor)
        except OSError as error:
            self._cut()
            what = f"the update cannot be written ({error.strerror or error})"
            raise UserError(what, where=str(self._path), todo="free some space and try again") from error
        self.check_named()
        self.end += len(record)

    def lock(self) -> None:
        """Become the one that writes.

        Raises:
            UserError: another process is, or was since this one read the journal.
        """
        if self._locked:
            return
        if not try_lock(self._descriptor):
            todo = "update it through that process, or stop it first"
            raise UserError("another process updates this index", where=str(self._path), todo=todo)
        self._locked = True
        self.check_named()
        if _whole(_read(self._descriptor), self.end, self._seed) is not None:
            raise _stale(self._path)

    def check_named(self) -> None:
        """Make sure that what is written here will be found again.

        Raises:
            UserError: the path names another file now, or none.
        """
        try:
            named = self._path.stat()
        except OSError:
            raise _stale(self._path) from None
        opened = os.fstat(self._descriptor)
        if (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino):
            raise _stale(self._path)

    def moved_to(self, path: Path) -> None:
        """Say that the folder was renamed."""
        self._path = path

    def since(self, end: int) -> list[Update]:
        """Read the updates from a place on where a record ended, as `end` said once."""
        assert end <= self.end, "a place that was the end once"
        return _updates(_read(self._descriptor)[: self.end], end, self._seed, self._path)[0]

    def close(self) -> None:
        """Give the file and the lock back; once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._locked = -1, False

    def __del__(self) -> None:
        """An index that nobody holds any more need not be closed."""
        self.close()

    def _cut(self) -> None:
        """Take back half a record; where that fails as well, reading and the next append see that it is not whole."""
        try:
            os.ftruncate(self._descriptor, self.end)
        except OSError:
            return


def _stale(path: Path) -> UserError:
    todo = "open the index again"
    return UserError("another process has updated this index meanwhile", where=str(path), todo=todo)


def _opened(path: Path) -> int:
    for flags in (os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except PermissionError:
            continue
        except OSError as error:
            raise UserError(f"cannot read the journal ({error.strerror})", where=str(path), todo="check it") from None
    raise UserError("cannot read the journal (Permission denied)", where=str(path), todo="check its permissions")


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1 << 24):
        parts.append(part)
    return b"".join(parts)


def _write(descriptor: int, content: bytes, start: int) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _seed(content: bytes, digest: str, path: Path) -> int:
    """CRC of the header.

    Raises:
        UserError: no header, a damaged one, or that of another index's journal.
    """
    todo = "restore it from a copy, or remove it, which loses the updates since the index was built"
    if len(content) < HEADER.size or not content.startswith(MAGIC):
        raise UserError("this is no journal of a live index", where=str(path), todo=todo)
    _, _, belongs_to, crc = HEADER.unpack_from(content)
    if crc != zlib.crc32(content[: HEADER.size - 4]):
        raise UserError("the header of the journal is damaged", where=str(path), todo=todo)
    if belongs_to.hex() != digest:
        where = f"{path}: journal of {belongs_to.hex()[:12]}, index {digest[:12]}"
        raise UserError("the journal belongs to another index", where=where, todo="remove it, or put its index back")
    return crc


def _updates(content: bytes, start: int, seed: int, path: Path) -> tuple[list[Update], int]:
    """Updates from a place on, and where the last whole one ends."""
    found = []
    while payload := _whole(content, start, seed):
        found.append(_update(payload))
        start += RECORD.size + len(payload)
    behind = next((at for at in _markers(content, start + 1) if _whole(content, at, seed)), None)
    if behind is not None:
        where = f"{path}, bytes {start:,} to {behind:,}"
        todo = "restore the journal from a copy; the updates before that place are whole"
        raise UserError("the journal is damaged in the middle", where=where, todo=todo)
    return found, start


def _markers(content: bytes, start: int) -> Iterator[int]:
    """Places where a record could begin."""
    at = content.find(MARKER, start)
    while at >= 0:
        yield at
        at = content.find(MARKER, at + 1)


def _whole(content: bytes, start: int, seed: int) -> bytes | None:
    """Payload of the record at `start`, None where there is no whole one."""
    if start + RECORD.size > len(content):
        return None
    marker, length, payload_crc, crc = RECORD.unpack_from(content, start)
    body = start + RECORD.size
    if marker != MARKER or crc != zlib.crc32(content[start : body - 4], seed) or body + length > len(content):
        return None
    payload = content[body : body + length]
    return payload if zlib.crc32(payload, seed) == payload_crc else None


def _payload(update: Update) -> bytes:
    tree = {"op": update.op, "ids": update.ids, "shape": update.values.shape, "attributes": update.attributes}
    text = json.dumps(tree, separators=(",", ":")).encode()
    return TEXT.pack(len(text)) + text + np.ascontiguousarray(update.values, "<f4").tobytes()


def _update(payload: bytes) -> Update:
    (length,) = TEXT.unpack_from(payload)
    tree = json.loads(payload[TEXT.size : TEXT.size + length])
    values = np.frombuffer(payload, "<f4", offset=TEXT.size + length).astype(np.float32).reshape(tree["shape"])
    return Update(op=tree["op"], ids=tuple(tree["ids"]), values=values, attributes=tree["attributes"])

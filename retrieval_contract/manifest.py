"""manifest.json: what a saved folder holds, with a SHA-256 of every file, so that a damaged folder is refused.

The manifest of a folder covers the files in it and in its sub-folders; of a sub-folder with a manifest of its own it
covers that manifest, which covers the rest. It holds no absolute path: a folder can be moved.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retrieval_contract.errors import UserError
from retrieval_contract.files import write_text

NAME = "manifest.json"
FORMAT = 1
"""Raised when the layout of a saved folder changes; older and newer ones are refused, not guessed at."""


def write_manifest(folder: Path, kind: str, fields: Mapping[str, object]) -> None:
    """Write `folder/manifest.json` over the files that lie there; call it last, inside `replacing_folder`.

    Args:
        folder: complete but for its manifest.
        kind: what the folder is, such as `vectors` or `index`; `read_manifest` asks for it again.
        fields: JSON values to keep; the names `kind`, `format`, `files` and `sha256` are taken.
    """
    tree = {"kind": kind, "format": FORMAT, **fields, "files": _digests(folder)}
    write_text(folder / NAME, json.dumps(tree | {"sha256": _seal(tree)}, indent=1) + "\n")


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read a manifest and check every file that it names.

    Returns:
        The fields as they were given to `write_manifest`, and the four names of its own.

    Raises:
        UserError: no folder or no manifest, one of another kind or format, or a file missing or damaged.
    """
    path = folder / NAME
    tree = _parsed(path, kind)
    if tree.get("kind") != kind:
        raise UserError(
            f"this folder holds {tree.get('kind')!r}, not {kind!r}", where=str(folder), todo="give another folder"
        )
    if tree.get("format") != FORMAT:
        todo = "write it again with this version"
        raise UserError(f"format {tree.get('format')} of {kind} is not {FORMAT}", where=str(path), todo=todo)
    sealed = tree.pop("sha256", None)
    if sealed != _seal(tree):
        raise UserError("the manifest was altered or damaged", where=str(path), todo=f"write the {kind} again")
    for name, digest in tree["files"].items():
        _check_file(folder / name, digest, kind)
    return tree


def _digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(_covered(folder))}


def _covered(folder: Path) -> Iterator[Path]:
    """Files of a folder whose manifest is being written."""
    for path in folder.iterdir():
        if (path / NAME).is_file():
            yield path / NAME
        elif path.is_dir():
            yield from _covered(path)
        elif path.name != NAME:
            yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(tree: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _parsed(path: Path, kind: str) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"no saved {kind} here" if isinstance(error, FileNotFoundError | NotADirectoryError) else "cannot read"
        raise UserError(
            f"{what} ({error.strerror})", where=str(path), todo="check the path, or write it first"
        ) from None
    except ValueError:
        raise UserError("the manifest is not JSON", where=str(path), todo=f"write the {kind} again") from None
    if not isinstance(tree, dict):
        raise UserError("the manifest is not a mapping", where=str(path), todo=f"write the {kind} again")
    return tree


def _check_file(path: Path, digest: str, kind: str) -> None:
    try:
        found = _sha256(path)
    except OSError as error:
        todo = f"copy the whole folder, or write the {kind} again"
        raise UserError(
            f"a file of the saved {kind} cannot be read ({error.strerror})", where=str(path), todo=todo
        ) from None
    if found != digest:
        todo = f"copy the folder again, or write the {kind} again"
        raise UserError(f"a file of the saved {kind} is truncated or damaged", where=str(path), todo=todo)

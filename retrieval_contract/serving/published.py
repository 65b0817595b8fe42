"""A version on disk: `RUN/versions/N`, everything that answers but the data, whole and under one manifest.

    manifest.json         kind `served`: digests of all files, backend, weights
    config.yaml           the run's configuration
    features.json         fitted features
    weights.safetensors   both towers
    index/                the index, with what candidates may be filtered by

It is laid out as a run's folder is, and opened like one; towers and index can only change together. Numbers grow; what
a published folder holds never changes. Where updates of candidates are taken, they go to a copy of its index,
`RUN/live/N-…`, named by the manifest's digest: a number that comes back with another content has another copy.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from retrieval_contract.config_text import read_config, with_settings
from retrieval_contract.errors import UserError
from retrieval_contract.files import add_version, replacing_folder, write_text
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.manifest import NAME, read_manifest, write_manifest
from retrieval_contract.runs.opened import OpenedRun, open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.run_model import RunModel
from retrieval_contract.serving.searchers import LiveSearcher
from retrieval_contract.stack import Stack

KIND = "served"
INDEX = "index"


def versions_folder(workdir: Path) -> Path:
    """Where a run's versions lie."""
    return workdir / "versions"


def live_folder(workdir: Path) -> Path:
    """Where copies of its indexes lie that take updates."""
    return workdir / "live"


def publish(opened: OpenedRun, index: Index) -> Path:
    """Write the next version of a run, whole or not at all.

    Args:
        opened: the run.
        index: of its candidates, by its weights.

    Returns:
        The version's folder.

    Raises:
        UserError: the index does not belong to the run, or the disk is full.
    """
    RunModel(opened, index)

    def write(folder: Path) -> None:
        own = Workdir(folder)
        write_text(own.config, opened.config.to_yaml())
        for source, target in ((opened.workdir.features, own.features), (opened.workdir.weights, own.weights)):
            shutil.copyfile(source, target)
        index.save(folder / INDEX)
        fields = {
            "backend": index.backend,
            "weights_digest": opened.weights_digest,
            "config_digest": opened.config.digest(),
            "size": index.size,
            "dim": index.dim,
        }
        write_manifest(folder, KIND, fields)

    return add_version(versions_folder(opened.workdir.path), write)


def load_version(
    stack: Stack,
    folder: Path,
    *,
    settings: Sequence[str] = (),
    shown: Sequence[str] | None = None,
    live: Path | None = None,
) -> Version:
    """Load a version, after every byte of it has been checked.

    Args:
        stack: the implementation.
        folder: `RUN/versions/N`.
        settings: `path=value` settings of the command line, such as where the data lies.
        shown: columns of candidates to show.
        live: folder of copies that take updates; None takes none.

    Raises:
        UserError: something is missing or damaged, the parts do not belong together, the stack has no such backend, or
            the data is not there any more.
    """
    manifest = read_manifest(folder, KIND)
    config = with_settings(read_config(folder / "config.yaml"), list(settings), where="command line")
    opened = open_run(stack, config, Workdir(folder))
    backend = manifest["backend"]
    if backend not in stack.indexes:
        todo = f"here: {', '.join(stack.indexes)}; publish again with one of them"
        raise UserError(f"{stack.name} has no backend {backend!r}", where=str(folder), todo=todo)
    kind, number = stack.indexes[backend], int(folder.name)
    if live is None:
        return Version(number=number, model=RunModel(opened, kind.load(folder / INDEX), shown=shown))
    copy = live / f"{number}-{hashlib.sha256(fingerprint(folder) or b'').hexdigest()[:12]}"
    if not copy.is_dir():
        with replacing_folder(copy) as beside:
            shutil.copytree(folder / INDEX, beside, dirs_exist_ok=True)
    candidates = LiveIndex.open(copy, kind)
    model = RunModel(opened, candidates.index, shown=shown, live=LiveSearcher(candidates))
    return Version(number=number, model=model)


def fingerprint(folder: Path) -> bytes | None:
    """What tells a version from another of the same number: its manifest; None without one."""
    try:
        return (folder / NAME).read_bytes()
    except OSError:
        return None

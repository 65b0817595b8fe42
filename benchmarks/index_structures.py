"""A structure for search: built once, searched with several widths; what building costs in time, memory and disk.

Peak memory is the rise of the process's resident size above what it was before the build, read from Linux's high-water
mark, which is reset before; memory that was freed earlier is given back first. Elsewhere it is not told.

Letters: N candidates, Q queries, D width, K results.
"""

import ctypes
import gc
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import threadpoolctl

from benchmarks import record
from retrieval_contract.arrays import Float32Array, Int32Array

Width = Mapping[str, int]
"""How far a search looks, by the names that its library gives."""
Search = Callable[[Float32Array, int, Width, int], Int32Array]
"""Queries [Q, D], K, width, threads -> rows [Q, K], -1 where there is none."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What `clear_refs` takes to reset the high-water mark (proc(5))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searcher:
    """What a build leaves."""

    search: Search
    save: Callable[[Path], object] | None
    """Write all that a search needs into a folder; None where that is the candidates alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One structure, to be built."""

    name: str
    library: str
    settings: Mapping[str, Any]
    """What it is built with."""
    widths: tuple[Width, ...]
    """What it is searched with."""
    build: Callable[[Float32Array], Searcher]
    """Candidates [N, D] -> its search."""
    is_exact: bool = False
    """It must find the truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One structure that was built."""

    structure: Structure
    search: Search
    times: record.Times
    """Of the build, once."""
    peak_bytes: int | None
    """Rise of the resident size while it was built."""
    disk_bytes: int
    """Of the files that a search needs."""


def built(structure: Structure, values_ND: Float32Array) -> Built:
    """Build, and note what it took."""
    before = _reset_peak()
    made: list[Searcher] = []
    times = record.Times().take(lambda: made.append(structure.build(values_ND)))
    peak = _resident("VmHWM")
    (searcher,) = made
    return Built(
        structure=structure,
        search=searcher.search,
        times=times,
        peak_bytes=None if before is None or peak is None else max(0, peak - before),
        disk_bytes=values_ND.nbytes if searcher.save is None else saved_bytes(searcher.save),
    )


def saved_bytes(save: Callable[[Path], object]) -> int:
    """Bytes of what is written into a folder, which is removed again."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def wait_patiently() -> None:
    """Let OpenMP's threads sleep while they wait, before the libraries that use it are imported.

    They spin by default, which on a machine that others use too made a codebook's training ten times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let BLAS and OpenMP use so many threads; TensorFlow's and ScaNN's are set where they start."""
    faiss = importlib.import_module("faiss")
    before = faiss.omp_get_max_threads()
    with threadpoolctl.threadpool_limits(limits=number):
        faiss.omp_set_num_threads(number)
        try:
            yield
        finally:
            faiss.omp_set_num_threads(before)


def peak_resident() -> int | None:
    """High-water mark of the process's resident size, in bytes."""
    return _resident("VmHWM")


def _reset_peak() -> int | None:
    """Give freed memory back, reset the high-water mark, and tell what is resident; None where that cannot be done."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_PEAK, encoding="ascii")
    except (AttributeError, OSError):
        return None
    return _resident("VmRSS")


def _resident(field: str) -> int | None:
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1_024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)

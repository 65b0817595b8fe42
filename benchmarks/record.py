"""One JSON line per measurement: what ran, where, beside what, and every raw time. Summaries are made later.

Lines are appended, never changed; `benchmarks.report` reads the latest of each case.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from retrieval_contract.errors import UserError
from retrieval_contract.files import write_text

RESULTS = Path(__file__).parent / "results"
"""Where the committed raw lines are."""
PACKAGES = (
    "numpy",
    "scipy",
    "tensorflow",
    "tf_keras",
    "tensorflow-recommenders",
    "scann",
    "torch",
    "faiss-cpu",
    "hnswlib",
    "threadpoolctl",
)
"""Packages whose versions a line names."""


@dataclass(slots=True)
class Times:
    """Raw times of one thing measured, in the order they were taken."""

    wall: list[float] = field(default_factory=list)
    """Seconds on the clock."""
    cpu: list[float] = field(default_factory=list)
    """Seconds of all this process's cores; below the clock's where others had the machine."""

    def take(self, run: Callable[[], object]) -> Self:
        """Run once and note its time."""
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return self


def line(
    benchmark: str, case: str, times: Times, *, settings: Mapping[str, Any], seed: int, **figures: Any
) -> dict[str, Any]:
    """Compose a measurement.

    Args:
        benchmark: name of the script.
        case: what was timed.
        times: its raw times.
        settings: everything that decides what was computed.
        seed: of the data.
        figures: what else was found.
    """
    return {
        "benchmark": benchmark,
        "case": case,
        "wall_seconds": times.wall,
        "cpu_seconds": times.cpu,
        "settings": dict(settings),
        "digest": digest(settings),
        "seed": seed,
        **figures,
        **machine(),
    }


def digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings' canonical JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def machine() -> dict[str, Any]:
    """Where and beside what: time, CPU, cores, load, versions."""
    return {
        "taken": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cores": num_cores(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


def append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines behind what a file holds; it is replaced whole, so that a reader never sees half a line.

    Raises:
        UserError: the file cannot be written.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, before + "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in lines))


def read(path: Path) -> list[dict[str, Any]]:
    """Read a file of lines.

    Raises:
        UserError: no such file, or a line that is not JSON.
    """
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read measurements: {error.strerror}", where=str(path)) from None
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"not a JSON line: {error}", where=f"{path}, line {number}") from None
    return lines


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

"""An environment for keras-rs, which needs Keras 3 where TensorFlow Recommenders needs Keras 2, and a process in it."""

import contextlib
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import final

from benchmarks.train_problem import Turn

REQUIREMENT = "keras-rs==0.4.0"
FOLDER = Path("build/keras_rs")


class NotAvailableError(Exception):
    """The environment cannot be made; says why."""


def python(folder: Path = FOLDER, requirement: str = REQUIREMENT) -> Path:
    """Make the environment where it is not there yet: this one's packages, and keras-rs before them.

    Returns:
        Its interpreter.

    Raises:
        NotAvailableError: the package cannot be had or imported.
    """
    interpreter = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, clear=True, with_pip=False)
        packages = Path(_ask(interpreter, "import sysconfig; print(sysconfig.get_path('purelib'))"))
        (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={packages}", requirement]
        done = subprocess.run(install, check=False, capture_output=True, text=True)
        if done.returncode:
            raise NotAvailableError(f"{requirement} could not be installed: {done.stderr.strip().splitlines()[-1]}")
        _ask(interpreter, "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'; import keras_rs")
        ready.write_text(requirement, encoding="utf-8")
    return interpreter


@final
class KerasRs:
    """A contender in a process of its own, which waits between its turns."""

    def __init__(self, interpreter: Path, optimizer: str, num_rows: int, seed: int) -> None:
        """Start the process."""
        words = [str(interpreter), "-m", "benchmarks.train_keras_rs", optimizer, str(num_rows), str(seed)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, num_steps: int) -> Turn:
        """Have it take steps.

        Raises:
            RuntimeError: the process ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{num_steps}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the keras-rs process ended with {self._process.wait()}")
        return Turn(**json.loads(answer))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _ask(interpreter: Path, code: str) -> str:
    done = subprocess.run([str(interpreter), "-c", code], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NotAvailableError(f"the environment does not work: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()

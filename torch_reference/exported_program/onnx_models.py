"""The programs once more in ONNX, for runtimes that are not torch: inputs by the features' own names."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch.export import ExportedProgram

from torch_reference.exported_program.programs import OUTPUT

PACKAGES = ("onnx", "onnxscript")
"""What the translation needs; the extra `onnx` installs them."""


def missing_packages() -> list[str]:
    """Packages of `PACKAGES` that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def write_onnx(program: ExportedProgram, inputs: Sequence[str], path: Path) -> None:
    """Translate a program and write it; one of 2 GB or more has its weights in a file beside.

    Args:
        program: from `tower_programs`.
        inputs: names of the features, in the program's order.
        path: the file.
    """
    assert not missing_packages(), "asked for without its packages"
    with _quiet():
        model = torch.onnx.export(program, dynamo=True, verbose=False, input_names=list(inputs), output_names=[OUTPUT])
        assert model is not None
        model.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of packages that are of no use here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)

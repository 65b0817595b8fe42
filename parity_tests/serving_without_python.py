"""Compiles and runs `serving_without_python.cc`, which loads an exported model as TensorFlow Serving does inside.

It links against the TensorFlow that is installed and starts no Python: what it returns, the SavedModel alone computes.
"""

import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import named_tensor_pb2

SOURCE = Path(__file__).with_suffix(".cc")


def compiled(folder: Path) -> Path:
    """Compile the program into a folder; its headers and libraries are the TensorFlow wheel's."""
    tensorflow, program = Path(tf.__file__).parent, folder / SOURCE.stem
    libraries = [str(tensorflow / f"libtensorflow_{name}.so.2") for name in ("cc", "framework")]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={tf.sysconfig.CXX11_ABI_FLAG}"
    words = ["g++", "-std=c++17", "-w", abi, str(SOURCE), "-o", str(program), f"-I{tensorflow / 'include'}"]
    subprocess.run([*words, *libraries, f"-Wl,-rpath,{tensorflow}"], check=True)
    return program


def answered(
    program: Path,
    model: Path,
    signature: str,
    inputs: Mapping[str, tf.Tensor],
    *,
    request: Path,
    libraries: Sequence[Path],
) -> NDArray[np.object_]:
    """Ask the program.

    Args:
        program: from `compiled`.
        model: folder of a SavedModel.
        signature: one with an output `ids`.
        inputs: of the signature, by name.
        request: where to write them for the program.
        libraries: of ops that the model needs; one or none.

    Returns:
        Ids [B, K].
    """
    write_request(request, inputs)
    done = subprocess.run([program, model, signature, request, *libraries], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return np.asarray([line.split("\t") for line in done.stdout.splitlines()], object)


def write_request(path: Path, inputs: Mapping[str, tf.Tensor]) -> None:
    """Write inputs as the program reads them: each a `NamedTensorProto` behind its length."""
    protos = {name: tf.make_tensor_proto(value.numpy(), value.dtype, value.shape) for name, value in inputs.items()}
    named = [named_tensor_pb2.NamedTensorProto(name=name, tensor=proto) for name, proto in protos.items()]
    texts = [message.SerializeToString() for message in named]
    path.write_bytes(b"".join(struct.pack("<I", len(text)) + text for text in texts))

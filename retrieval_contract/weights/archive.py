"""Named arrays in one safetensors file, with a digest: model weights, and everything a checkpoint holds.

The file is written here by its public format, not by the library, for two reasons: the same arrays and metadata must
give the same bytes (the library writes metadata in the order of a hash map), and large arrays must not be copied. It is
read back by the library.

Source: the safetensors format, github.com/huggingface/safetensors, README: 8 bytes of header length, little-endian; a
JSON header of name -> dtype, shape, [begin, end); the arrays, contiguous and C-ordered.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from retrieval_contract.arrays import AnyArray, Float32Array
from retrieval_contract.errors import UserError
from retrieval_contract.files import replacing_file
from retrieval_contract.weights.parameter import Parameter

DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}
"""NumPy's names of the types that an archive may hold, and the format's."""
DIGEST, SEAL = "digest", "sha256"
"""Metadata of our own: the digest of the arrays, and one of the metadata with that digest in it."""


def weights_digest(arrays: Mapping[str, AnyArray]) -> str:
    """SHA-256 of names, types, shapes and values; the order of the mapping does not count.

    Values count by their bits: -0.0 is not 0.0.
    """
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = _stored(arrays[name])
        sha.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        sha.update(_bytes(array))
    return sha.hexdigest()


def write_arrays(path: Path, arrays: Mapping[str, AnyArray], metadata: Mapping[str, str]) -> None:
    """Write an archive, whole or not at all; the same arrays and metadata give the same bytes.

    Args:
        path: the file, replaced if it exists.
        arrays: name -> array of any shape, scalars and empty ones included, of a type in `DTYPES`.
        metadata: text to keep; the names `digest` and `sha256` are taken.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    _write(path, arrays, metadata, weights_digest(arrays))


def read_arrays(path: Path) -> tuple[dict[str, AnyArray], dict[str, str]]:
    """Read an archive that `write_arrays` wrote.

    Returns:
        The arrays (writable, the caller's own) and the metadata, `digest` and `sha256` among it.

    Raises:
        UserError: missing, unreadable, truncated, not an archive of ours, or changed since it was written.
    """
    arrays, metadata = _read(path)
    if DIGEST not in metadata or SEAL not in metadata:
        raise UserError("a safetensors file, but no archive of this project", where=str(path), todo="give another file")
    if metadata[DIGEST] != weights_digest(arrays) or metadata[SEAL] != _seal(metadata):
        todo = "copy the file again, or take an older one"
        raise UserError("the archive does not match its digest: it was damaged or altered", where=str(path), todo=todo)
    return arrays, metadata


def write_weights(path: Path, arrays: Mapping[str, Float32Array], *, config_digest: str) -> str:
    """Write a model's weights by canonical name.

    Args:
        path: the file, replaced if it exists.
        arrays: canonical name -> float32 array.
        config_digest: digest of the run's configuration, kept in the metadata.

    Returns:
        The weights digest, which vectors and indexes made by these weights carry.

    Raises:
        UserError: a value that is not finite, or the file cannot be written.
    """
    for name, array in arrays.items():
        _check_values(name, array, path)
    digest = weights_digest(arrays)
    _write(path, arrays, {"kind": "weights", "config_digest": config_digest}, digest)
    return digest


def read_weights(path: Path, table: Mapping[str, Parameter]) -> tuple[dict[str, Float32Array], str]:
    """Read a model's weights and hold them against the table of parameters.

    Args:
        path: the file.
        table: canonical name -> parameter, from the configuration and the vocabularies.

    Returns:
        The weights in the table's order, and their digest.

    Raises:
        UserError: an unreadable file, a name on one side only, another shape or type, or a value that is not finite.
    """
    arrays, metadata = read_arrays(path)
    missing, unknown = sorted(table.keys() - arrays.keys()), sorted(arrays.keys() - table.keys())
    if missing or unknown:
        parts = [f"{what} {_some(names)}" for what, names in (("lacks", missing), ("has besides", unknown)) if names]
        todo = "use the configuration and features of the run that wrote it"
        raise UserError(f"the weights do not fit the model: the file {' and '.join(parts)}", where=str(path), todo=todo)
    for name, parameter in table.items():
        if arrays[name].shape != parameter.shape:
            what = f"{name} has shape {arrays[name].shape} in the file, {parameter.shape} in the model"
            raise UserError(what, where=str(path), todo="use the configuration and features of the run that wrote it")
        _check_values(name, arrays[name], path)
    return {name: arrays[name].astype(np.float32, copy=False) for name in table}, metadata[DIGEST]


def _check_values(name: str, array: AnyArray, path: Path) -> None:
    if array.dtype != np.float32:
        raise UserError(f"{name} is {array.dtype}", where=str(path), todo="weights are float32")
    num_bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if num_bad:
        todo = "go back to the last good checkpoint"
        raise UserError(
            f"{name} holds {num_bad:,} of {array.size:,} values that are not finite", where=str(path), todo=todo
        )


def _some(names: list[str], shown: int = 5) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


# ---------------------------------------------------------------- the format


def _write(path: Path, arrays: Mapping[str, AnyArray], metadata: Mapping[str, str], digest: str) -> None:
    assert not {DIGEST, SEAL} & metadata.keys(), "these names are ours"
    whole = {**metadata, DIGEST: digest}
    whole[SEAL] = _seal(whole)
    # Wider types first, as the library has it: each array then begins at a multiple of its own width.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    with replacing_file(path) as beside, beside.open("wb") as file:
        _write_header(file, [(name, arrays[name]) for name in order], whole)
        for name in order:
            file.write(_bytes(_stored(arrays[name])))


def _write_header(file: BinaryIO, arrays: Iterable[tuple[str, AnyArray]], metadata: Mapping[str, str]) -> None:
    tree: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    begin = 0
    for name, array in arrays:
        assert name != "__metadata__", "this name is the format's"
        assert array.dtype.name in DTYPES, f"{name} is {array.dtype}; an archive holds {', '.join(DTYPES)}"
        end = begin + array.nbytes
        tree[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    header = json.dumps(tree, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)


def _stored(array: AnyArray) -> AnyArray:
    """The array as the file has it: C-ordered, little-endian, the same shape; not copied where it is so already."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _bytes(stored: AnyArray) -> memoryview:
    # Viewed as bytes by NumPy: memoryview itself refuses to cast arrays that have a zero in their shape.
    return stored.reshape(-1).view(np.uint8).data


def _seal(metadata: Mapping[str, str]) -> str:
    rest = {name: text for name, text in metadata.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> tuple[dict[str, AnyArray], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), todo="check the path, or train first") from None
    except OSError as error:
        raise UserError(f"cannot read ({error.strerror or error})", where=str(path), todo="check the path") from None
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        todo = "copy the file again, or take an older one"
        raise UserError(f"truncated, or no safetensors file ({error})", where=str(path), todo=todo) from None

"""A folder that TFDS prepared, read without TensorFlow: the shards' records and the names of their labels.

TFDS's own reader without TensorFlow (`as_data_source`) takes 264 us a row and knows no TFRecord; this one takes 9 us
and reads TFRecord, ArrayRecord and Parquet shards. It counts: a shard with fewer records than TFDS noted is refused,
because TFDS 4.9.10 loses most records when it writes Parquet (`_batched` slices an iterator at a growing offset).
"""

import itertools
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from retrieval_contract.errors import UserError

CHUNK = 50_000
"""Records decoded at once; bounds the memory that Python objects take."""
INFO = "dataset_info.json"
Feature = Mapping[str, Any]
"""The features of one example by name, as the protocol buffer holds them."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of records."""

    path: Path
    num_records: int
    """What TFDS noted when it wrote the file."""
    file_format: str


def find_prepared(data_dir: Path, name: str, config: str) -> Path | None:
    """Find the newest prepared version, `data_dir/name/config/<version>`; None where there is none."""
    versions = [info.parent for info in (data_dir / name / config).glob(f"*/{INFO}")]
    return max(
        versions, key=lambda folder: [int(part) for part in folder.name.split(".") if part.isdigit()], default=None
    )


def read_labels(folder: Path, feature: str) -> list[str]:
    """Names of a ClassLabel feature, by number.

    Raises:
        UserError: the file is missing.
    """
    path = folder / f"{feature}.labels.txt"
    if not path.exists():
        raise UserError("the label names are missing", where=str(path), todo="prepare the dataset again")
    return path.read_text(encoding="utf-8").splitlines()


def read_shards(folder: Path) -> list[Shard]:
    """List the shards of the split `train`, which is all that these datasets have.

    Raises:
        UserError: `dataset_info.json` is damaged or names a format that is not known here.
    """
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        split = next(split for split in info["splits"] if split["name"] == "train")
        lengths = [int(length) for length in split["shardLengths"]]
        template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        file_format = info.get("fileFormat", "tfrecord")
        names = [
            template.format(
                DATASET=info["name"],
                SPLIT="train",
                FILEFORMAT=file_format,
                SHARD_X_OF_Y=f"{shard:05d}-of-{len(lengths):05d}",
            )
            for shard in range(len(lengths))
        ]
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise UserError(
            f"cannot read {INFO}: {error!r}", where=str(folder), todo="prepare the dataset again"
        ) from error
    if file_format not in READERS:
        todo = f"prepare it as one of {', '.join(READERS)}"
        raise UserError(f"TFDS file format {file_format!r} cannot be read", where=str(folder), todo=todo)
    return [Shard(folder / name, length, file_format) for name, length in zip(names, lengths, strict=True)]


def feature_chunks(folder: Path) -> Iterator[Sequence[Feature]]:
    """Decode the examples, `CHUNK` at a time, in shard order.

    Raises:
        UserError: a shard is missing, unreadable, or holds another number of records than TFDS noted.
    """
    decode = _decoder()
    for shard in read_shards(folder):
        found = 0
        records = _records(shard)
        while chunk := list(itertools.islice(records, CHUNK)):
            found += len(chunk)
            # One by one: a protocol buffer's map has no fixed order, so there is no column to slice.
            yield [decode(record).features.feature for record in chunk]
        _require_all(shard, found)


def _decoder() -> Callable[[bytes], Any]:
    try:
        # A module of generated code: importing it brings TFDS in, but not TensorFlow.
        from tensorflow_datasets.proto import tf_example_pb2
    except ModuleNotFoundError as error:
        raise UserError(
            f"MovieLens needs the package tensorflow-datasets ({error})",
            todo="pip install '.[tf]' or '.[torch]'; both bring it",
        ) from error
    return tf_example_pb2.Example.FromString


def _require_all(shard: Shard, found: int) -> None:
    if found == shard.num_records:
        return
    lost = " (TFDS 4.9.10 loses records when it writes parquet)" if shard.file_format == "parquet" else ""
    raise UserError(
        f"the prepared shard holds {found:,} records where {INFO} says {shard.num_records:,}{lost}",
        where=str(shard.path),
        todo="prepare the dataset again in an empty data_dir (as array_record or tfrecord), or read MovieLens's own "
        "files with source.kind=files",
    )


def _records(shard: Shard) -> Iterator[bytes]:
    if not shard.path.exists():
        raise UserError("a shard of the prepared dataset is missing", where=str(shard.path), todo="prepare it again")
    try:
        yield from READERS[shard.file_format](shard.path)
    except (pa.ArrowException, OSError, ValueError, RuntimeError, struct.error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"cannot read the shard: {error}", where=str(shard.path), todo="it is damaged; prepare the dataset again"
        ) from error


def _parquet_records(path: Path) -> Iterator[bytes]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["data"]):
            yield from batch.column(0).to_pylist()


def _array_records(path: Path) -> Iterator[bytes]:
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        total = reader.num_records()
        for start in range(0, total, CHUNK):
            yield from reader.read(start, min(start + CHUNK, total))
    finally:
        reader.close()


def _tfrecords(path: Path) -> Iterator[bytes]:
    """Framing: length as uint64, CRC of it (4 bytes), the record, CRC of it (4 bytes); the CRCs are not checked."""
    with path.open("rb") as file:
        while head := file.read(12):
            (length,) = struct.unpack("<Q", head[:8])
            record = file.read(length + 4)
            if len(record) != length + 4:
                raise ValueError(f"the file ends inside a record of {length:,} bytes")
            yield record[:-4]


READERS: Mapping[str, Callable[[Path], Iterator[bytes]]] = {
    "array_record": _array_records,
    "parquet": _parquet_records,
    "tfrecord": _tfrecords,
}

"""Candidate vectors on disk: shards, ids, and a manifest that names the weights that made them.

vectors-00000.npy …   float32 [n, D], in row order
ids.json              the N ids, strings
manifest.json         weights digest, N, D, and the SHA-256 of every file
"""

import json
from pathlib import Path

import numpy as np

from retrieval_contract.arrays import Float32Array, Vectors
from retrieval_contract.errors import UserError, first_rows
from retrieval_contract.files import replacing_folder
from retrieval_contract.manifest import read_manifest, write_manifest

KIND = "vectors"
SHARD_BYTES = 256_000_000
"""Bound on one shard, so that a damaged or half-copied file is small and is named."""


def check_vectors(vectors: Vectors) -> None:
    """Refuse what no index could serve.

    Raises:
        UserError: no vectors, not float32 [N, D], another number of ids, an id twice, or a value that is not finite.
    """
    values_ND, ids = vectors.values, vectors.ids
    if values_ND.ndim != 2 or values_ND.dtype != np.float32 or 0 in values_ND.shape:
        what = f"candidate vectors are {values_ND.dtype} {values_ND.shape}"
        raise UserError(what, todo="they must be float32 [N, D] with N and D of 1 or more")
    if len(ids) != len(values_ND):
        raise UserError(
            f"{len(ids):,} candidate ids for {len(values_ND):,} vectors", todo="give one id for each vector"
        )
    if len(set(ids)) != len(ids):
        first = {id_: row for row, id_ in reversed(list(enumerate(ids)))}
        again = [row for row, id_ in enumerate(ids) if first[id_] != row]
        what = f"candidate id {ids[again[0]]!r} stands twice"
        raise UserError(what, where=first_rows(again, len(again)), todo="make ids distinct")
    bad_rows = np.flatnonzero(~np.isfinite(values_ND).all(axis=1))
    if bad_rows.size:
        todo = "train again; the weights are not usable"
        raise UserError(
            "candidate vectors hold NaN or infinity", where=first_rows(bad_rows.tolist(), bad_rows.size), todo=todo
        )


def write_vectors(folder: Path, vectors: Vectors, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a folder of vectors, whole or not at all; a folder of that name is replaced.

    Args:
        folder: where to write.
        vectors: ids [N] and float32 values [N, D].
        shard_bytes: bound on one shard; a row is never cut.

    Raises:
        UserError: vectors that `check_vectors` refuses, or a full disk.
    """
    check_vectors(vectors)
    num_vectors, dim = vectors.values.shape
    shard_rows = max(1, shard_bytes // (4 * dim))
    with replacing_folder(folder) as beside:
        starts = range(0, num_vectors, shard_rows)
        for shard, start in enumerate(starts):
            np.save(beside / _shard_name(shard), vectors.values[start : start + shard_rows])
        (beside / "ids.json").write_text(json.dumps(list(vectors.ids)), encoding="utf-8")
        fields = {"weights_digest": vectors.weights_digest, "size": num_vectors, "dim": dim, "num_shards": len(starts)}
        write_manifest(beside, KIND, fields)


def read_vectors(folder: Path) -> Vectors:
    """Read a folder that `write_vectors` wrote.

    Raises:
        UserError: missing, of another kind, or damaged.
    """
    manifest = read_manifest(folder, KIND)
    values_ND: Float32Array = np.empty((manifest["size"], manifest["dim"]), np.float32)
    start = 0
    for shard in range(manifest["num_shards"]):
        rows_ND = np.load(folder / _shard_name(shard), allow_pickle=False)
        values_ND[start : start + len(rows_ND)] = rows_ND
        start += len(rows_ND)
    assert start == len(values_ND), "the digests held, so the shards are those that were written"
    ids = tuple(json.loads((folder / "ids.json").read_text(encoding="utf-8")))
    return Vectors(ids=ids, values=values_ND, weights_digest=manifest["weights_digest"])


def _shard_name(shard: int) -> str:
    return f"vectors-{shard:05d}.npy"

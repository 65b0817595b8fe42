"""Files of a saved index beside its structure: ids, vectors in the stated precision, attributes.

vectors/             ids and float32 vectors, where `index.store` is float32
ids.json, stored.npy, scales.npy    where it is another precision
attributes.parquet   where requests may filter
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pydantic

from retrieval_contract import config
from retrieval_contract.arrays import Vectors
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Attributes
from retrieval_contract.indexes.stored import Store, StoredVectors
from retrieval_contract.vectors.store import read_vectors, write_vectors

VECTORS, IDS, ATTRIBUTES = "vectors", "ids.json", "attributes.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an index is, without its structure."""

    ids: tuple[str, ...]
    stored: StoredVectors
    attributes: Attributes


def write_parts(
    folder: Path, ids: tuple[str, ...], stored: StoredVectors, attributes: Attributes, weights_digest: str
) -> None:
    """Write the parts into a folder that is being made."""
    if stored.kind == "float32":
        write_vectors(folder / VECTORS, Vectors(ids=ids, values=stored.all(), weights_digest=weights_digest))
    else:
        stored.write(folder)
        (folder / IDS).write_text(json.dumps(list(ids)), encoding="utf-8")
    if attributes.names:
        pq.write_table(attributes.table, folder / ATTRIBUTES)


def read_parts(folder: Path, store: Store, manifest: Mapping[str, Any]) -> Parts:
    """Read what `write_parts` wrote; the files have been checked against the manifest.

    Args:
        folder: of the index.
        store: precision of the vectors.
        manifest: `size`, `dim` and names of `attributes`.
    """
    if store == "float32":
        vectors = read_vectors(folder / VECTORS)
        ids, stored = vectors.ids, StoredVectors.keep(vectors.values, store)
    else:
        ids = tuple(json.loads((folder / IDS).read_text(encoding="utf-8")))
        stored = StoredVectors.read(folder, store, (manifest["size"], manifest["dim"]))
    known = Attributes(pq.read_table(folder / ATTRIBUTES)) if manifest["attributes"] else Attributes.none(len(ids))
    return Parts(ids=ids, stored=stored, attributes=known)


def read_settings(tree: object, folder: Path) -> config.Index:
    """Settings as a manifest holds them.

    Raises:
        UserError: they are not those of this version.
    """
    try:
        return config.Index.model_validate_json(json.dumps(tree))
    except pydantic.ValidationError:
        todo = "build the index again"
        raise UserError("the saved settings are not those of this version", where=str(folder), todo=todo) from None

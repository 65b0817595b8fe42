"""Dense features: vectors made elsewhere, from a column of lists or from a Parquet file by id.

Letters: E entities, D width of a vector.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval_contract.arrays import BoolArray, Float32Array, Int64Array
from retrieval_contract.config import DenseFeature
from retrieval_contract.data.columns import NUMBERS, as_text, refuse_rows
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.multivalent import is_list
from retrieval_contract.errors import UserError

FILE_COLUMNS = ("id", "vector")


def encode_dense(spec: DenseFeature, table: FeatureTable) -> Float32Array:
    """Vector of each entity [E, D].

    Raises:
        UserError: no such column or file, a vector of another width, numbers that are not finite in float32, or an
            entity without a vector where `missing` is `refuse`.
    """
    if spec.file is None:
        return _vectors(spec, table.column(spec), where=table.where(spec))
    path = table.data_dir / spec.file
    ids, vectors = _read(spec, path)
    place, todo = f"feature {spec.name!r}", f"give the {table.name} a vector each, or set missing=zeros"
    assert table.ids is not None, "a dense feature is of entities"
    found = pc.index_in(pa.array(table.ids, pa.string()), value_set=ids)
    absent_E = pc.is_null(found).to_numpy(zero_copy_only=False)
    if spec.missing == "refuse" and absent_E.any():
        first, example = table.ids[int(absent_E.argmax())], ids[0].as_py() if len(ids) else "none"
        what = f"{place}: {absent_E.sum():,} of {len(absent_E):,} {table.name} have no vector, {first!r} among them"
        raise UserError(f"{what}; the file has {len(ids):,} ids such as {example!r}", where=str(path), todo=todo)
    taken = pa.chunked_array([vectors.take(found)])
    return _vectors(spec, taken, where=f"{path}, {place}")


def _read(spec: DenseFeature, path: Path) -> tuple[pa.Array, pa.Array]:
    """Distinct ids of a file, and their vectors."""
    place = f"{path}, feature {spec.name!r}"
    try:
        known = pq.read_schema(path).names
        if absent := [name for name in FILE_COLUMNS if name not in known]:
            todo = f"name them {' and '.join(FILE_COLUMNS)}; there are: {', '.join(known)}"
            raise UserError(f"no column {' and '.join(absent)}", where=place, todo=todo)
        file = pq.read_table(path, columns=list(FILE_COLUMNS))
    except OSError as error:
        todo = "give a Parquet file with the columns id and vector; a relative name starts from source.data_dir"
        raise UserError(f"cannot read vectors: {error.strerror or error}", where=place, todo=todo) from None
    except pa.ArrowInvalid as error:
        raise UserError(f"not a Parquet file: {error}", where=place, todo="write it as Parquet") from None
    ids = as_text(file["id"], where=f"{place}, column id").combine_chunks()
    refuse_rows(pc.is_null(ids).to_numpy(zero_copy_only=False), "missing ids", where=place, todo="leave them out")
    twice = pc.index_in(ids, value_set=ids).to_numpy(zero_copy_only=False) != np.arange(len(ids))
    what = f"duplicate ids, {ids[int(twice.argmax())].as_py()!r} among them" if twice.any() else ""
    refuse_rows(twice, what, where=place, todo="give each id one vector")
    return ids, file["vector"].combine_chunks()


def _vectors(spec: DenseFeature, column: pa.ChunkedArray, *, where: str) -> Float32Array:
    """Lists of one length as an array [E, D]; zeros where one is missing."""
    kind = column.type
    if not is_list(kind) or not any(is_number(kind.value_type) for is_number in NUMBERS):
        todo = f"give lists of {spec.width} numbers"
        raise UserError(f"{kind} where feature {spec.name!r} needs lists of numbers", where=where, todo=todo)
    present_E = pc.is_valid(column).to_numpy()
    lengths_E: Int64Array = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    wrong_E = present_E & (lengths_E != spec.width)
    if wrong_E.any():
        what = f"feature {spec.name!r} has width {spec.width}, and a vector of width {lengths_E[wrong_E.argmax()]} came"
        refuse_rows(wrong_E, what, where=where, todo="set the vectors' width, or give vectors of this width")
    if spec.missing == "refuse":
        what = f"feature {spec.name!r}: missing vectors"
        refuse_rows(~present_E, what, where=where, todo="give every row a vector, or set missing=zeros")
    # Straight to float32: a copy in float64 would be the largest thing in memory.
    flat = pc.cast(pc.list_flatten(column), pa.float32(), safe=False)
    vectors_ED = np.zeros((len(column), spec.width), np.float32)
    vectors_ED[present_E] = pc.fill_null(flat, np.nan).to_numpy().reshape(-1, spec.width)
    bad_E: BoolArray = np.any(~np.isfinite(vectors_ED), axis=1)
    what = f"feature {spec.name!r}: a vector with a number that is missing, not finite, or too large for float32"
    refuse_rows(bad_E, what, where=where, todo="mend or leave out these vectors")
    return vectors_ED

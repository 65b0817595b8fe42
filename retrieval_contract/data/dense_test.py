import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_contract.config import DenseFeature
from retrieval_contract.data.dense import encode_dense
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.errors import UserError

DOUBLES = pa.list_(pa.float64())


def table(vectors=None, kind=DOUBLES, ids=("c0", "c1", "c2"), data_dir=None):
    columns = {} if vectors is None else {"x": pa.chunked_array([pa.array(vectors, kind)])}
    path = {} if data_dir is None else {"data_dir": data_dir}
    return FeatureTable(
        table=pa.table(columns), name="candidates", side="candidate", num_rows=len(ids), ids=ids, **path
    )


def column(vectors, kind=DOUBLES, **settings):
    return encode_dense(DenseFeature(name="x", **{"width": 2, **settings}), table(vectors, kind))


@pytest.mark.parametrize("kind", [DOUBLES, pa.list_(pa.float32(), 2), pa.large_list(pa.int8()), pa.list_(pa.float16())])
def test_lists_of_every_type_become_rows(kind):
    vectors = pa.array([[1, 2], [3, 4], [-5, 6]], pa.list_(pa.int8())).cast(kind)
    rows = column(vectors, kind)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 2], [3, 4], [-5, 6]]


def test_missing_vectors_are_refused_or_zeros():
    for kind in (DOUBLES, pa.list_(pa.float64(), 2)):
        vectors = [[1.0, 2.0], None, [3.0, 4.0]]
        assert column(vectors, kind, missing="zeros").tolist() == [[1, 2], [0, 0], [3, 4]]
        with pytest.raises(UserError, match=r"'x': missing vectors \[candidates, column x, rows 1\].*missing=zeros"):
            column(vectors, kind)


def test_a_slice_of_several_chunks_reads_right():
    vectors = pa.chunked_array([[[9.0, 9.0], [1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], DOUBLES).slice(1, 3)
    rows = FeatureTable(table=pa.table({"x": vectors}), name="queries", side="query", num_rows=3)
    assert encode_dense(DenseFeature(name="x", width=2), rows).tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_slice_of_lists_of_one_length_with_missing_ones_reads_right():
    kind = pa.list_(pa.float32(), 2)
    first = pa.array([[9.0, 9.0], None, [1.0, 2.0]], kind).slice(1)
    vectors = pa.chunked_array([first, pa.array([None, [3.0, 4.0]], kind)])
    rows = FeatureTable(table=pa.table({"x": vectors}), name="queries", side="query", num_rows=4)
    encoded = encode_dense(DenseFeature(name="x", width=2, missing="zeros"), rows)
    assert encoded.tolist() == [[0, 0], [1, 2], [0, 0], [3, 4]]


@pytest.mark.parametrize(
    ("vectors", "kind", "message"),
    [
        ([[1.0, 2.0], [1.0]], DOUBLES, r"'x' has width 2, and a vector of width 1 came \[candidates.*rows 1\]"),
        ([[1.0, 2.0], []], DOUBLES, "has width 2, and a vector of width 0 came"),
        ([[1.0, math.nan]], DOUBLES, "'x': a vector with a number that is missing, not finite"),
        ([[1.0, None]], DOUBLES, "a number that is missing"),
        ([[1.0, -math.inf]], DOUBLES, "not finite"),
        ([[1.0, 1e39]], DOUBLES, "too large for float32"),
        ([1.0, 2.0], pa.float64(), "double where feature 'x' needs lists of numbers"),
        ([["a", "b"]], pa.list_(pa.string()), "string.* where feature 'x' needs lists of numbers"),
    ],
)
def test_other_columns_are_refused(vectors, kind, message):
    with pytest.raises(UserError, match=message):
        column(vectors, kind)


# ---------------------------------------------------------------- from a file


def from_file(folder, ids=("c2", "c1", "c0", "c9"), vectors=None, names=("id", "vector"), **settings):
    vectors = vectors or [[float(place), 1.0] for place in range(len(ids))]
    pq.write_table(pa.table({names[0]: pa.array(ids), names[1]: pa.array(vectors, DOUBLES)}), folder / "v.parquet")
    return encode_dense(DenseFeature(name="x", file="v.parquet", **{"width": 2, **settings}), table(data_dir=folder))


def test_vectors_of_a_file_are_found_by_id(tmp_path):
    assert from_file(tmp_path).tolist() == [[2, 1], [1, 1], [0, 1]]


def test_number_ids_are_read_as_text(tmp_path):
    pq.write_table(pa.table({"id": [7, 8], "vector": [[1.0], [2.0]]}), tmp_path / "v.parquet")
    rows = table(ids=("8", "7"), data_dir=tmp_path)
    assert encode_dense(DenseFeature(name="x", file="v.parquet", width=1), rows).tolist() == [[2], [1]]


def test_ids_that_do_not_match_are_said_with_both(tmp_path):
    message = r"'x': 2 of 3 candidates have no vector, 'c1' among them; the file has 2 ids such as 'x1' .*v\.parquet"
    with pytest.raises(UserError, match=message):
        from_file(tmp_path, ids=("x1", "c0"))
    assert from_file(tmp_path, ids=("x1", "c0"), missing="zeros").tolist() == [[1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 3}, r"'x' has width 3, and a vector of width 2 came .*v\.parquet, feature 'x'"),
        ({"ids": ("c0", "c1", "c0")}, r"duplicate ids, 'c0' among them .*rows 2"),
        ({"ids": ("c0", None, "c1")}, "missing ids"),
        ({"names": ("key", "vector")}, r"no column id .*name them id and vector; there are: key, vector"),
        ({"vectors": [[1.0, math.nan]] * 4}, "not finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        from_file(tmp_path, **settings)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    spec = DenseFeature(name="x", file="v.parquet", width=2)
    with pytest.raises(UserError, match=r"cannot read vectors: .*v\.parquet, feature 'x'.*source\.data_dir"):
        encode_dense(spec, table(data_dir=tmp_path))
    (tmp_path / "v.parquet").write_text("no")
    with pytest.raises(UserError, match="not a Parquet file"):
        encode_dense(spec, table(data_dir=tmp_path))

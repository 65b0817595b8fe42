import errno

import numpy as np
import pytest

from retrieval_contract.arrays import Vectors
from retrieval_contract.errors import UserError
from retrieval_contract.vectors import store
from retrieval_contract.vectors.store import read_vectors, write_vectors


def _vectors(num=10, dim=3, **change):
    values_ND = np.random.default_rng(0).standard_normal((num, dim)).astype(np.float32)
    given = {"ids": tuple(f"映画 {row}" for row in range(num)), "values": values_ND, "weights_digest": "d" * 64}
    return Vectors(**(given | change))


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("shard_bytes", "num_shards"), [(1, 10), (50, 3), (120, 1), (10**9, 1)])
def test_vectors_come_back_whatever_the_shards(tmp_path, shard_bytes, num_shards):
    vectors = _vectors()
    write_vectors(tmp_path / "v", vectors, shard_bytes=shard_bytes)
    assert len(list((tmp_path / "v").glob("*.npy"))) == num_shards
    found = read_vectors(tmp_path / "v")
    assert (found.ids, found.weights_digest) == (vectors.ids, vectors.weights_digest)
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, vectors.values)


def test_a_view_with_strides_is_stored_by_its_values(tmp_path):
    wide_ND = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    write_vectors(tmp_path / "v", _vectors(values=wide_ND[::2, ::-2]))
    np.testing.assert_array_equal(read_vectors(tmp_path / "v").values, wide_ND[::2, ::-2])


def test_the_same_vectors_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_vectors(tmp_path / name, _vectors())
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num": 0}, r"float32 \(0, 3\).*N and D of 1 or more"),
        ({"dim": 0}, r"float32 \(10, 0\)"),
        ({"values": np.zeros((10, 3))}, "float64"),
        ({"values": np.zeros(10, np.float32)}, r"\(10,\)"),
        ({"ids": ("a", "b")}, "2 candidate ids for 10 vectors"),
        ({"ids": tuple("abcdefabia")}, "candidate id 'a' stands twice .rows 6, 7, 9."),
        ({"values": np.full((10, 3), np.inf, np.float32)}, "NaN or infinity .rows 0, 1, 2, 3, 4 and 5 more."),
    ],
)
def test_faults_are_named_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        write_vectors(tmp_path / "v", _vectors(**change))
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_named(tmp_path):
    write_vectors(tmp_path / "v", _vectors(), shard_bytes=50)
    shard = tmp_path / "v" / "vectors-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"truncated or damaged .*vectors-00001\.npy"):
        read_vectors(tmp_path / "v")


def test_a_disk_that_fills_up_on_the_second_shard_leaves_the_old_vectors(tmp_path, monkeypatch):
    write_vectors(tmp_path / "v", _vectors())
    before, save = _contents(tmp_path / "v"), np.save

    def full(path, array):
        if path.name == "vectors-00001.npy":
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, array)

    monkeypatch.setattr(store.np, "save", full)
    with pytest.raises(UserError, match=r"No space left on device .*/v.: free some space"):
        write_vectors(tmp_path / "v", _vectors(num=20), shard_bytes=50)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    assert _contents(tmp_path / "v") == before

import errno
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from retrieval_contract.errors import UserError
from retrieval_contract.weights import archive
from retrieval_contract.weights.archive import (
    read_arrays,
    read_weights,
    weights_digest,
    write_arrays,
    write_weights,
)
from retrieval_contract.weights.parameter import Parameter


def _arrays():
    generator = np.random.default_rng(0)
    return {
        "weights/query.embedding.кино": generator.standard_normal((5, 3)).astype(np.float32),
        "step": np.array(2**40, np.int64),
        "double": generator.standard_normal(4),
        "rows": np.array([[1, -2], [3, 4]], np.int32),
        "flags": np.array([True, False, True]),
        "bytes": np.arange(7, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
    }


def _table(**shapes):
    return {
        name: Parameter(shape=shape, start="zeros", sparse=False, decays=False)
        for name, shape in (shapes or {"a": (2, 3), "b": (3,)}).items()
    }


def _weights():
    return {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}


def _with(**change):
    return _weights() | change


# ---------------------------------------------------------------- arrays


def test_arrays_of_every_type_come_back_writable(tmp_path):
    arrays = _arrays()
    write_arrays(tmp_path / "x.safetensors", arrays, {"config": "кино\n"})
    found, metadata = read_arrays(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    assert metadata["config"] == "кино\n"
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def test_the_library_reads_what_is_written(tmp_path):
    write_arrays(tmp_path / "x.safetensors", _arrays(), {})
    found = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    assert all((found[name] == array).all() for name, array in _arrays().items())


def test_the_same_arrays_give_the_same_bytes_in_any_order(tmp_path):
    backwards = dict(reversed(_arrays().items()))
    write_arrays(tmp_path / "a", _arrays(), {"x": "1", "y": "2"})
    write_arrays(tmp_path / "b", backwards, {"y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_layout_in_memory_does_not_count(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    for name, array in (("c", whole.copy()), ("f", np.asfortranarray(whole)), ("big", whole.astype(">f4"))):
        write_arrays(tmp_path / name, {"x": array}, {})
    write_arrays(tmp_path / "view", {"x": np.repeat(whole, 2, axis=1)[:, ::2]}, {})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_large_arrays_are_not_copied():
    array = np.zeros((100, 100), np.float32)
    assert np.shares_memory(archive._stored(array), array)
    assert np.shares_memory(np.asarray(archive._bytes(archive._stored(array))), array)


def test_arrays_are_aligned_to_their_width(tmp_path):
    write_arrays(tmp_path / "x", _arrays(), {})
    content = (tmp_path / "x").read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    for name, array in _arrays().items():
        assert (begin + header[name]["data_offsets"][0]) % array.dtype.itemsize == 0


@pytest.mark.parametrize(
    "other",
    [
        {"b": np.ones(2, np.float32)},
        {"a": np.ones(2, np.float64)},
        {"a": np.ones((2, 1), np.float32)},
        {"a": np.array([1, 2], np.float32)},
        {"a": np.ones(2, np.float32), "b": np.zeros(0, np.float32)},
        {},
    ],
)
def test_the_digest_sees_names_types_shapes_and_values(other):
    assert weights_digest(other) != weights_digest({"a": np.ones(2, np.float32)})


def test_a_flipped_bit_anywhere_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": np.arange(6, dtype=np.float32), "step": np.array(3)}, {"config_digest": "abc"})
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            found, metadata = read_arrays(path)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        # A bit of the padding, or a name that JSON writes in two ways: nothing that was read may differ.
        assert metadata["config_digest"] == "abc"
        assert weights_digest(found) == metadata["digest"]
        assert found.keys() == {"a", "step"}


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": np.arange(6, dtype=np.float32)}, {})
    content = path.read_bytes()
    for length in [*range(0, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(
            UserError, match=r"truncated, or no safetensors file .*x\.safetensors.: copy the file again"
        ):
            read_arrays(path)


def test_missing_files_folders_and_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no such file .*nowhere"):
        read_arrays(tmp_path / "nowhere")
    with pytest.raises(UserError):
        read_arrays(tmp_path)
    safetensors.numpy.save_file({"a": np.ones(2, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no archive of this project"):
        read_arrays(tmp_path / "other.safetensors")


@pytest.mark.parametrize("array", [np.ones(2, np.float16), np.ones(2, np.complex64), np.array(["a"])])
def test_types_that_no_archive_holds_are_our_own_fault(tmp_path, array):
    with pytest.raises(AssertionError, match="an archive holds float64, float32"):
        write_arrays(tmp_path / "x", {"a": array}, {})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_archive(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": np.ones(2, np.float32)}, {})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_arrays(path, {"a": np.zeros(2, np.float32)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    np.testing.assert_array_equal(read_arrays(path)[0]["a"], [1, 1])


# ---------------------------------------------------------------- weights


def test_weights_come_back_in_the_tables_order_with_their_digest(tmp_path):
    digest = write_weights(tmp_path / "w", dict(reversed(_weights().items())), config_digest="c")
    found, found_digest = read_weights(tmp_path / "w", _table())
    assert digest == found_digest == weights_digest(_weights())
    assert list(found) == ["a", "b"]
    assert all(found[name].tobytes() == array.tobytes() for name, array in _weights().items())
    assert read_arrays(tmp_path / "w")[1]["config_digest"] == "c"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_table(a=(2, 3)), "has besides b "),
        (_table(a=(2, 3), b=(3,), c=(1,), d=(1,)), "the file lacks c, d "),
        (_table(a=(2, 3), c=(3,)), "lacks c and has besides b "),
        (_table(a=(3, 2), b=(3,)), r"a has shape \(2, 3\) in the file, \(3, 2\) in the model"),
        (_table(a=(6,), b=(3,)), r"a has shape \(2, 3\) in the file, \(6,\) in the model"),
    ],
)
def test_what_does_not_fit_the_model_is_named(tmp_path, table, message):
    write_weights(tmp_path / "w", _weights(), config_digest="c")
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path / "w", table)


def test_many_leftovers_are_counted(tmp_path):
    write_weights(tmp_path / "w", {f"n{place}": np.ones(1, np.float32) for place in range(9)}, config_digest="c")
    with pytest.raises(UserError, match="lacks a, b and has besides n0, n1, n2, n3, n4 and 4 more"):
        read_weights(tmp_path / "w", _table())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_neither_written_nor_read(tmp_path, bad):
    weights = _with(b=np.array([1, bad, bad], np.float32))
    with pytest.raises(UserError, match="b holds 2 of 3 values that are not finite"):
        write_weights(tmp_path / "w", weights, config_digest="c")
    assert not list(tmp_path.iterdir())
    write_arrays(tmp_path / "w", weights, {})
    with pytest.raises(UserError, match=r"b holds 2 of 3 values that are not finite .*last good checkpoint"):
        read_weights(tmp_path / "w", _table())


def test_weights_of_another_type_are_refused(tmp_path):
    weights = _with(b=np.ones(3))
    with pytest.raises(UserError, match="b is float64"):
        write_weights(tmp_path / "w", weights, config_digest="c")
    write_arrays(tmp_path / "w", weights, {})
    with pytest.raises(UserError, match="b is float64"):
        read_weights(tmp_path / "w", _table())

import json

import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.manifest import NAME, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "folder" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "folder" / "a.bin").write_bytes(b"a")
    (inner / "b.bin").write_bytes(b"b")
    write_manifest(inner, "inner", {})
    write_manifest(tmp_path / "folder", "outer", {"size": 3, "name": "кино"})
    return tmp_path / "folder"


def test_fields_come_back_and_files_are_covered(folder):
    manifest = read_manifest(folder, "outer")
    assert (manifest["size"], manifest["name"]) == (3, "кино")
    assert sorted(manifest["files"]) == ["a.bin", f"inner/{NAME}"]


def test_files_of_folders_without_a_manifest_are_covered(folder):
    deep = folder / "variables" / "deep"
    deep.mkdir(parents=True)
    (deep / "c.bin").write_bytes(b"c")
    write_manifest(folder, "outer", {})
    assert sorted(read_manifest(folder, "outer")["files"]) == ["a.bin", f"inner/{NAME}", "variables/deep/c.bin"]
    (deep / "c.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"truncated or damaged .*variables/deep/c\.bin"):
        read_manifest(folder, "outer")


def test_another_manifest_within_is_noticed(folder):
    write_manifest(folder / "inner", "inner", {"changed": True})
    with pytest.raises(UserError, match=r"inner/manifest\.json.: copy"):
        read_manifest(folder, "outer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 4}, "altered or damaged"),
        ({"kind": "vectors"}, "holds 'vectors', not 'outer'"),
        ({"format": 99}, "format 99 of outer is not 1"),
    ],
)
def test_an_edited_manifest_is_refused(folder, change, message):
    path = folder / NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_manifest(folder, "outer")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_what_is_no_manifest_is_refused(folder, text):
    (folder / NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"not JSON|not a mapping"):
        read_manifest(folder, "outer")


def test_a_missing_folder_and_a_file_in_its_place_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UserError, match="no saved outer here"):
            read_manifest(path, "outer")

import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval_contract import files
from retrieval_contract.errors import UserError
from retrieval_contract.files import (
    add_version,
    creating_file,
    read_steadily,
    replacing_file,
    replacing_folder,
    versions,
    write_text,
)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _raise(error):
    raise error


@pytest.fixture
def old(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old.txt").write_text("old")
    (tmp_path / "file.txt").write_text("old")
    return tmp_path


def _intact(old):
    return (
        _names(old) == ["file.txt", "folder"]
        and _names(old / "folder") == ["old.txt"]
        and ((old / "file.txt").read_text() == "old")
    )


def _replace_file(old):
    write_text(old / "file.txt", "новое")


def _replace_folder(old):
    with replacing_folder(old / "folder") as beside:
        (beside / "new.txt").write_text("new")


def test_files_and_folders_are_replaced(old):
    _replace_file(old)
    _replace_folder(old)
    assert _names(old) == ["file.txt", "folder"]
    assert (old / "file.txt").read_text(encoding="utf-8") == "новое"
    assert _names(old / "folder") == ["new.txt"]


@pytest.mark.parametrize("refusal", [None, errno.EPERM])
def test_a_file_is_created_where_there_is_none(old, monkeypatch, refusal):
    if refusal:
        monkeypatch.setattr(os, "link", lambda *_: _raise(OSError(refusal, "no hard links")))
    with creating_file(old / "new.txt") as written:
        written.write_text("new")
    assert _names(old) == ["file.txt", "folder", "new.txt"] and (old / "new.txt").read_text() == "new"
    with pytest.raises(UserError), creating_file(old / "file.txt") as written:
        written.write_text("new")
    (old / "new.txt").unlink()
    assert _intact(old)


def test_parents_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "file.txt", "x")
    with replacing_folder(tmp_path / "c" / "d"):
        pass
    assert (tmp_path / "a" / "b" / "file.txt").read_text() == "x"
    assert (tmp_path / "c" / "d").is_dir()


def test_nothing_is_seen_before_the_end(old):
    with replacing_file(old / "file.txt") as beside:
        beside.write_text("half")
        assert (old / "file.txt").read_text() == "old"
    with replacing_folder(old / "folder") as beside:
        (beside / "new.txt").write_text("half")
        assert _names(old / "folder") == ["old.txt"]


@pytest.mark.parametrize("replace", [_replace_file, _replace_folder])
def test_a_disk_found_full_at_the_last_moment(old, monkeypatch, replace):
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(UserError, match=r"cannot write: No space left on device .*: free some space and run again"):
        replace(old)
    assert _intact(old)


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), RuntimeError("fault")])
def test_a_fault_in_the_middle(old, fault):
    expected = UserError if isinstance(fault, OSError) else type(fault)
    with pytest.raises(expected), replacing_file(old / "file.txt") as beside:
        beside.write_text("half")
        raise fault
    with pytest.raises(expected), replacing_folder(old / "folder") as beside:
        (beside / "new.txt").write_text("half")
        raise fault
    assert _intact(old)


def test_a_folder_that_cannot_take_its_place_puts_the_old_one_back(old, monkeypatch):
    monkeypatch.setattr(files, "_renameat2", lambda: None)
    replace, calls = os.replace, []

    def second_fails(source, target):
        calls.append(source)
        _full() if len(calls) == 2 else replace(source, target)

    monkeypatch.setattr("pathlib.os.replace", second_fails)
    with pytest.raises(UserError, match="No space left"):
        _replace_folder(old)
    assert len(calls) == 3
    assert _intact(old)


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_that_cannot_exchange_lets_the_old_folder_step_aside(old, monkeypatch, refusal):
    def refuse(*_):
        ctypes.set_errno(refusal)
        return -1

    monkeypatch.setattr(files, "_renameat2", lambda: refuse)
    _replace_folder(old)
    assert _names(old) == ["file.txt", "folder"]
    assert _names(old / "folder") == ["new.txt"]


def test_an_exchange_that_fails_leaves_the_old_folder(old, monkeypatch):
    def refuse(*_):
        ctypes.set_errno(errno.EACCES)
        return -1

    monkeypatch.setattr(files, "_renameat2", lambda: refuse)
    with pytest.raises(UserError, match="Permission denied"):
        _replace_folder(old)
    assert _intact(old)


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(old):
    seen = []

    def read(folder):
        seen.append(_names(folder))
        if len(seen) == 1:
            _replace_folder(old)
            raise FileNotFoundError("the old one's file")
        return seen[-1]

    assert read_steadily(old / "folder", read) == ["new.txt"]
    assert seen == [["old.txt"], ["new.txt"]]


def test_what_is_wrong_with_a_folder_that_stays_is_raised(old):
    def read(folder):
        raise UserError("damaged")

    with pytest.raises(UserError, match="damaged"):
        read_steadily(old / "folder", read)


def test_a_user_error_from_within_passes_unchanged(old):
    with pytest.raises(UserError, match=r"^mine$"), replacing_file(old / "file.txt"):
        raise UserError("mine")
    assert _intact(old)


# ---------------------------------------------------------------- versions


def _write(folder):
    (folder / "model").write_text(folder.name)


def test_versions_only_grow(tmp_path):
    parent = tmp_path / "a" / "model"
    assert versions(parent) == []
    assert [add_version(parent, _write).name for _ in range(2)] == ["1", "2"]
    for name in ("007", "x9", ".10", "²"):
        (parent / name).mkdir()
    assert add_version(parent, _write) == parent / "8"
    assert versions(parent) == [1, 2, 7, 8]
    assert (parent / "8" / "model").is_file()


def test_a_version_is_no_number_until_it_is_whole(tmp_path):
    def look(folder):
        assert folder.parent == tmp_path and versions(tmp_path) == [] and folder.name.startswith(".")
        _write(folder)

    add_version(tmp_path, look)

    def fail(folder):
        _write(folder)
        raise UserError("mine")

    with pytest.raises(UserError, match=r"^mine$"):
        add_version(tmp_path, fail)
    assert _names(tmp_path) == ["1"]


def test_two_that_add_at_the_same_time_get_two_numbers(tmp_path):
    def while_another_adds(folder):
        _write(folder)
        add_version(tmp_path, _write)

    assert add_version(tmp_path, while_another_adds).name == "2"

    seen = []
    real = Path.rename

    def late(self, target):
        if not seen:
            seen.append(target)
            add_version(tmp_path, _write)
        return real(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", late)
        assert add_version(tmp_path, _write).name == "4"
    assert [path.name for path in seen] == ["3"], "that number was free when it was chosen"


def test_killed_on_the_way_no_version_is_left(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from retrieval_contract.files import add_version
def write(folder):
    (folder / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
add_version(Path({str(tmp_path)!r}), write)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert versions(tmp_path) == [] and len(_names(tmp_path)) == 1
    assert add_version(tmp_path, _write).name == "1"


def test_a_file_where_a_folder_should_be(old):
    with pytest.raises(UserError, match=r"cannot write: .*: check the path and its permissions"):
        write_text(old / "file.txt" / "inner.txt", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(old):
    old.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            _replace_file(old)
    finally:
        old.chmod(stat.S_IRWXU)


@pytest.mark.skipif(sys.platform == "win32", reason="the limit on file size is POSIX")
def test_a_real_limit_on_file_size(old):
    program = f"""
import resource, signal
from pathlib import Path
from retrieval_contract.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_text(Path({str(old / "file.txt")!r}), "x" * 100_000)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "UserError: cannot write: File too large" in done.stderr
    assert _intact(old)

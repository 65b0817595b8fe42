import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from retrieval_contract import files, leftovers
from retrieval_contract.files import read_steadily, replacing_file, replacing_folder, write_text
from retrieval_contract.killing import NUM_KILLS, killed, killed_at_step
from retrieval_contract.leftovers import beside, claimed, clear_leftovers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="without locks leftovers stay")
PARTS = [f"part{number}" for number in range(8)]


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _write(folder, number, parts=PARTS):
    with replacing_folder(folder) as written:
        (written / "inner").mkdir()
        for part in parts:
            (written / "inner" / part).write_text(str(number))


def _rewrite(folder, say):
    number = int(_read(folder).pop()) if folder.exists() else 0
    while True:
        number += 1
        _write(folder, number)
        say(number)


def _read(folder, parts=PARTS):
    return {(folder / "inner" / part).read_text() for part in parts}


@pytest.fixture
def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def _leftover(path, pid, *, ending=""):
    left = path.with_name(f".{path.name}.{pid}.0123abcd{ending}")
    left.mkdir()
    (left / "half.txt").write_text("half")
    return left


def test_a_writer_is_killed_at_random_moments_and_a_reader_always_finds_a_whole_folder(tmp_path):
    folder, moments, over, seen = tmp_path / "folder", random.Random(5), threading.Event(), set()
    _write(folder, 0)

    def watch():
        while not over.is_set():
            (number,) = read_steadily(folder, _read)
            seen.add(number)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for _ in range(NUM_KILLS):
            said = killed(_rewrite, [folder], moments.uniform(0, 0.05))
            (number,) = _read(folder)
            assert said[-1] <= int(number) <= said[-1] + 1, "the last that was whole, or one of which no word came"
    finally:
        over.set()
        reader.join()
    assert len(seen) > NUM_KILLS, "the reader died, or never saw a change"
    _write(folder, 0)
    assert _names(tmp_path) == ["folder"], "what the killed left was removed"


def _rewrite_once(folder, number, exchange, say):
    if not exchange:
        files._renameat2 = lambda: None
    say("begins")
    _write(folder, number, PARTS[:2])


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_at_each_step_of_replacing(tmp_path, exchange):
    folder, number, missing = tmp_path / "folder", "0", []
    _write(folder, 0, PARTS[:2])
    for step in range(1_000):
        if killed_at_step(_rewrite_once, [folder, step + 1, exchange], step) is None:
            break
        missing.append(not folder.exists())
        clear_leftovers(folder)
        before = number
        (number,) = _read(folder, PARTS[:2])
        assert number in (before, str(step + 1))
        assert _names(tmp_path) == ["folder"]
    assert len(missing) > 6, "there are more steps than that"
    assert any(missing) != exchange, "without the exchange there is a moment without a folder, and this test finds it"
    assert _read(folder, PARTS[:2]) == {str(len(missing) + 1)}


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path, dead_pid, replacing):
    path = tmp_path / "x"
    for name in ("x", "x.y", "y"):
        _leftover(tmp_path / name, dead_pid)
    _leftover(path, os.getppid())
    (tmp_path / f".x.{dead_pid}.7654dcba").write_text("half")
    (tmp_path / f".x.{dead_pid}.txt").write_text("mine")
    with replacing(path) as written:
        living = written.name
        assert living in _names(tmp_path)
        with replacing(path) as again:
            assert {living, again.name} <= set(_names(tmp_path)), "two writers of one process let each other be"
            if replacing is replacing_folder:
                (again / "whole.txt").write_text("whole")
    others = [
        f".x.{dead_pid}.txt",
        f".x.{os.getppid()}.0123abcd",
        f".x.y.{dead_pid}.0123abcd",
        f".y.{dead_pid}.0123abcd",
    ]
    assert _names(tmp_path) == sorted([*others, "x"])


def test_an_earlier_process_of_our_number_is_dead(tmp_path):
    _leftover(tmp_path / "x", os.getpid())
    write_text(tmp_path / "x", "new")
    assert _names(tmp_path) == ["x"]


def test_a_writer_that_cannot_be_seen_from_here_is_known_by_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "_lives", lambda pid: False)  # as in another container
    written = beside(tmp_path / "x")
    with claimed(written, folder=True):
        monkeypatch.setattr(leftovers, "_ours", set())
        clear_leftovers(tmp_path / "x")
        assert written.exists()
    clear_leftovers(tmp_path / "x")
    assert not written.exists()


def test_a_folder_that_had_stepped_aside_comes_back_unless_a_new_one_stands(tmp_path, dead_pid):
    folder = tmp_path / "x"
    _leftover(folder, dead_pid, ending=leftovers.STEPPED_ASIDE)
    clear_leftovers(folder)
    assert _names(tmp_path) == ["x"] and _names(folder) == ["half.txt"]
    _leftover(folder, dead_pid, ending=leftovers.STEPPED_ASIDE)
    (folder / "half.txt").rename(folder / "new.txt")
    clear_leftovers(folder)
    assert _names(tmp_path) == ["x"] and _names(folder) == ["new.txt"]


def test_a_parent_that_is_not_there_has_no_leftovers():
    clear_leftovers(Path("/nowhere/at/all"))

"""Versions that come and go while a server answers: real HTTP, planted models whose ids tell their version."""

import gc
import os
import shutil
import threading
import time
import weakref

import httpx
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.planted import planted_version
from retrieval_contract.serving.served import served
from retrieval_contract.serving.watching import Serving, Watcher

SWAPS = int(os.environ.get("SWAPS", "5"))


def write(folder, number, text="whole"):
    """A version as these tests load it."""
    beside = folder / f".{number}"
    beside.mkdir(parents=True)
    (beside / "manifest.json").write_text(text)
    beside.rename(folder / str(number))


def load(folder):
    """Ids of version 3 are c3000 onwards; one that is not whole is refused, and a strange one fails in a library."""
    text = (folder / "manifest.json").read_text()
    if text == "strange":
        raise RuntimeError("a library says so")
    if not text.startswith("whole"):
        raise UserError("not whole", where=str(folder))
    return planted_version(int(folder.name), first=1_000 * int(folder.name), num_candidates=8)


@pytest.fixture
def watcher(tmp_path):
    return Watcher(Serving(), tmp_path / "versions", load, poll_seconds=0.01)


def serving_of(watcher):
    version = watcher._serving.version
    return None if version is None else version.number


def test_the_newest_serves_and_removing_it_brings_back_the_one_before(watcher, tmp_path):
    folder = tmp_path / "versions"
    assert not watcher.poll() and serving_of(watcher) is None
    for number in (9, 10):
        write(folder, number)
        assert watcher.poll() and serving_of(watcher) == number
    assert not watcher.poll()
    shutil.rmtree(folder / "10")
    assert watcher.poll() and serving_of(watcher) == 9
    shutil.rmtree(folder / "9")
    assert not watcher.poll() and serving_of(watcher) == 9, "without any other, it serves on"


def test_a_number_that_comes_back_with_another_manifest_is_another_version(watcher, tmp_path):
    folder = tmp_path / "versions"
    write(folder, 1)
    assert watcher.poll()
    shutil.rmtree(folder / "1")
    write(folder, 1, "whole, and new")
    first = watcher._serving.version
    assert watcher.poll() and watcher._serving.version is not first


@pytest.mark.parametrize("text", ["half", "strange", None])
def test_what_cannot_be_loaded_is_refused_once_and_the_server_lives(watcher, tmp_path, caplog, text):
    folder = tmp_path / "versions"
    write(folder, 1)
    watcher.poll()
    write(folder, 2, text or "")
    if text is None:
        (folder / "2" / "manifest.json").unlink()
    assert not watcher.poll() and not watcher.poll() and serving_of(watcher) == 1
    lines = [record for record in caplog.records if record.getMessage() == "version_refused"]
    assert len(lines) == 1 and lines[0].fields["version"] == 2 and lines[0].fields["serving"] == 1
    shutil.rmtree(folder / "2")
    write(folder, 2)
    assert watcher.poll() and serving_of(watcher) == 2, "mended, it is taken up"


def test_an_old_version_goes_when_its_last_request_is_done(watcher, tmp_path):
    write(tmp_path / "versions", 1)
    watcher.poll()
    held = watcher._serving.version
    gone = weakref.ref(held.model)
    write(tmp_path / "versions", 2)
    watcher.poll()
    assert gone() is held.model
    del held
    gc.collect()
    assert gone() is None


class Load:
    """Requests from several threads until it is stopped; every answer is kept."""

    def __init__(self, base, num_threads=4):
        self._base, self._stop = base, threading.Event()
        self.failed, self.mixed, self.by_version = [], [], {}
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(num_threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number):
        with httpx.Client(verify=False, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(f"{self._base}:recommend", json={"query_id": f"u{number + 1}", "k": 4})
                    tree = answer.json()
                except Exception as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.failed.append(tree)
                    continue
                version = tree["model_version"]
                self.by_version[version] = self.by_version.get(version, 0) + 1
                if any(int(result["id"][1:]) // 1_000 != int(version) for result in tree["results"]):
                    self.mixed.append(tree)


def wait_until(holds, seconds=60):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)


def test_versions_are_swapped_under_load_with_no_failed_and_no_mixed_answer(tmp_path):
    folder = tmp_path / "versions"
    write(folder, 1)
    with served(folder, load, Limits(wait_ms=0.5, seconds=60), poll_seconds=0.01) as base, Load(base) as asked:
        for number in range(1, SWAPS + 2):
            if number > 1:
                write(folder, number)
            wait_until(lambda n=number: asked.by_version.get(str(n), 0) > 5)
        shutil.rmtree(folder / str(SWAPS + 1))
        before = asked.by_version[str(SWAPS)]
        wait_until(lambda: asked.by_version[str(SWAPS)] > before + 5)
    assert asked.failed == [] and asked.mixed == []
    assert list(asked.by_version) == [str(number) for number in range(1, SWAPS + 2)]


def test_swaps_under_load_notice_an_answer_of_another_version(tmp_path):
    """Negative control: a version that says another number than its index has."""

    def load_mixed(folder):
        version = load(folder)
        return type(version)(number=version.number - 1, model=version.model)

    write(tmp_path, 2)
    with served(tmp_path, load_mixed, Limits(), poll_seconds=1) as base, Load(base, 1) as asked:
        wait_until(lambda: asked.mixed)

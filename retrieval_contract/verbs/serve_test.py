"""`publish` and `serve` as processes, on a planted run: ports, signals, versions, faults of the command line."""

import contextlib
import gc
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.flags import parse
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.verbs import publish, serve
from retrieval_contract.verbs.command import exit_code

PROGRAM = """
import sys
from retrieval_contract.runs.planted import PlantedStack
from retrieval_contract.verbs import serve
serve.main(PlantedStack(), sys.argv[1:])
"""
TOKEN = "sesame-open-sesame"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "w"
    train_run(PlantedStack(), planted_run(training={"epochs": 1}), Workdir(folder), resume=False, overwrite=False)
    return folder


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "w")


def log_of(workdir):
    return workdir.with_name("log.jsonl")


@contextlib.contextmanager
def serving(workdir, *flags):
    """A server process and its address."""
    words = [sys.executable, "-c", PROGRAM, f"--workdir={workdir}", "--port=0", "--poll_seconds=0.05", *flags]
    with log_of(workdir).open("w") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        lines = [process.stdout.readline()]
        while "serving http" not in lines[-1]:
            assert lines[-1], log_of(workdir).read_text()
            lines.append(process.stdout.readline())
        yield process, re.search(r"http://\S+/v1/models/\w+", lines[-1]).group()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def unsettled():
    """What a server changes for its whole process is put back."""
    interval = sys.getswitchinterval()
    yield
    gc.unfreeze()
    sys.setswitchinterval(interval)


def code(body, verb, *flags):
    return exit_code(verb, PlantedStack(), body, flags)


def test_a_server_begins_swaps_rolls_back_changes_and_stops(workdir, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    with serving(workdir, f"--token_file={tmp_path / 'token'}", "--name=films", "--fields=title,genres") as (
        process,
        base,
    ):
        assert base.endswith("/films") and base.startswith("http://127.0.0.1:")
        with httpx.Client(timeout=30, headers={"Authorization": f"Bearer {TOKEN}"}) as client:

            def version():
                return client.get(base).json()["model_version_status"][0]["version"]

            assert version() == "1", "published by itself"
            answer = client.post(f"{base}:recommend", json={"features": {}, "k": 2}).json()
            assert set(answer["results"][0]["fields"]) == {"title", "genres"}
            best = {"id": "new", "vector": [10 * answer["results"][0]["score"]] * 4}
            assert client.post(f"{base}:update", json={"candidates": [best]}).json()["added"] == 1
            assert code(publish.run, "publish", f"--workdir={workdir}") == 0
            wait_for(lambda: version() == "2")
            shutil.rmtree(workdir / "versions" / "2")
            wait_for(lambda: version() == "1")
            gone = client.post(f"{base}:remove", json={"ids": ["new"]}).json()
            assert gone["removed"] == 1, "an update survives the version's absence"
            (workdir / "versions" / "3").mkdir()
            wait_for(lambda: "version_refused" in log_of(workdir).read_text())
            busy = client.post(f"{base}:predict", json={"instances": [{"query_id": "q"}] * 200, "k": 10})
            assert busy.status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log_of(workdir).read_text()
    lines = [json.loads(line) for line in log_of(workdir).read_text().splitlines()]
    refused = [line for line in lines if line["event"] == "version_refused"]
    assert [line["version"] for line in refused] == [3] and refused[0]["serving"] == 1
    assert [line["version"] for line in lines if line["event"] == "version_serves"] == [1, 2, 1]
    assert lines[-1]["event"] == "stopped"


def wait_for(holds):
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def refusal(capsys, *flags):
    capsys.readouterr()
    assert code(serve.run, "serve", *flags) == 2
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    return lines[0]


def test_an_occupied_port_is_said_in_one_line(workdir, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refusal(capsys, f"--workdir={workdir}", f"--port={port}")
    assert f"[127.0.0.1:{port}]" in line and "in use" in line and "--port" in line
    assert not (workdir / "versions").exists()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--port=70000", "cannot listen"),
        ("--host=999.0.0.1", "cannot listen"),
        ("--token_file=no_such_file", "cannot read the token"),
        ("--grpc_port=8500", "planted has no gRPC"),
        ("--max_k=0", "limit k is 0"),
        ("--backend=scann", "no backend 'scann'"),
        ("--fields=tilte", "not one version can be served"),
    ],
)
def test_faults_of_the_command_line(workdir, capsys, flag, said):
    assert said in refusal(capsys, f"--workdir={workdir}", "--port=0", flag)


def test_a_workdir_without_a_run_is_refused(tmp_path, capsys):
    assert "no run here" in refusal(capsys, f"--workdir={tmp_path}", "--port=0")


@pytest.mark.parametrize("text", ["", "short", "with a blank in it", "ö" * 20])
def test_what_is_no_token_is_refused(tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(UserError, match="no token in the file"):
        serve.read_token(str(tmp_path / "token"))


def test_flags_become_limits():
    limits = serve.limits_of(parse("serve", ["--workdir=w", "--max_k=7", "--max_wait_ms=0.5", "--max_batch=3"]))
    assert (limits.k, limits.wait_ms, limits.batch_rows, limits.body_bytes) == (7, 0.5, 3, 1_000_000)

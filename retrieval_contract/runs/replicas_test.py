"""Several processes of one run, played by threads: one writes, all stop together, nobody waits for nothing."""

import contextlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval_contract.errors import RunError, UserError
from retrieval_contract.runs import loop, mined_sets, recording, training
from retrieval_contract.runs.checkpoints import checkpoint_paths
from retrieval_contract.runs.loop import InterruptedRunError
from retrieval_contract.runs.planted import Meeting, PlantedReplica, PlantedStack, planted_run
from retrieval_contract.runs.replicas import Replicas
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir

SEQUENCE = {"kind": "history", "name": "history", "width": 4, "pooling": {"kind": "gru"}}
MINED = {"mined": {"per_example": 1, "hard_fraction": 0.5, "first_rank": 3, "last_rank": 8}}


def together(folder, run, *, num_replicas=2, resume=False, stacks=None):
    """Reports of all replicas, or what each raised."""
    if stacks is None:
        meeting = Meeting(num_replicas)
        stacks = [PlantedReplica(number, meeting) for number in range(num_replicas)]

    def one(stack):
        threading.current_thread().name = f"replica {stack.replica()[0]}"
        try:
            return train_run(stack, run, Workdir(folder), resume=resume, overwrite=False)
        except Exception as error:
            return error

    with ThreadPoolExecutor(num_replicas) as pool:
        return list(pool.map(one, stacks))


def files(folder):
    kept = [path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def test_replicas_leave_what_one_process_leaves(tmp_path, capsys):
    run = planted_run(negatives=MINED)
    train_run(PlantedStack(), run, Workdir(tmp_path / "one"), resume=False, overwrite=False)
    shown = capsys.readouterr()
    reports = together(tmp_path / "two", run)
    assert [report is None for report in reports] == [False, True], reports
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    both = capsys.readouterr()
    assert len(both.err.splitlines()) == len(shown.err.splitlines()) and both.out == shown.out


def test_only_the_first_writes(tmp_path, monkeypatch):
    writers = []
    places = {
        training: ("write_text", "write_weights", "write_checkpoint", "_clear"),
        recording: ("write_checkpoint",),
        mined_sets: ("write_arrays",),
    }
    for module, names in places.items():
        for name in names:
            monkeypatch.setattr(module, name, _noting(getattr(module, name), writers))
    together(tmp_path / "w", planted_run(negatives=MINED))
    assert len(writers) > 10 and set(writers) == {"replica 0"}


def _noting(function, writers):
    def noted(*arguments, **options):
        writers.append(threading.current_thread().name)
        return function(*arguments, **options)

    return noted


def test_replicas_stop_at_the_same_step_and_resume(tmp_path, monkeypatch):
    run = planted_run(negatives=MINED)
    train_run(PlantedStack(), run, Workdir(tmp_path / "one"), resume=False, overwrite=False)

    @contextlib.contextmanager
    def asked_in_the_second():
        calls = iter(range(1_000))
        yield lambda: threading.current_thread().name == "replica 1" and next(calls) == 20

    with monkeypatch.context() as patched:
        patched.setattr(loop, "stop_requests", asked_in_the_second)
        errors = together(tmp_path / "two", run)
    assert all(isinstance(error, InterruptedRunError) and "step 21" in str(error) for error in errors), errors
    assert checkpoint_paths(tmp_path / "two" / "checkpoints")[-1].name == "step_000000021.safetensors"
    reports = together(tmp_path / "two", run, resume=True)
    assert [report is None for report in reports] == [False, True], reports
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_a_batch_that_cannot_be_divided_is_refused_by_all_before_anything_is_written(tmp_path):
    errors = together(tmp_path / "w", planted_run(training={"batch_size": 63}))
    assert all(isinstance(error, UserError) for error in errors)
    assert "63 examples cannot be divided among 2 processes" in str(errors[0])
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("rooms", "words"),
    [
        ({"candidate": {"norm": "batch", "hidden_dims": (4,)}}, "candidate.norm=batch .* 2 processes"),
        ({"query": {"features": (SEQUENCE,)}, "training": {"positions": "all"}}, "positions=all .* 2 processes"),
    ],
)
def test_what_needs_whole_batches_is_refused_by_all_before_anything_is_read(tmp_path, rooms, words):
    errors = together(tmp_path / "w", planted_run(**rooms))
    assert all(isinstance(error, UserError) for error in errors), errors
    assert re.search(words, str(errors[1]))
    assert not (tmp_path / "w").exists()
    Replicas.of(PlantedStack()).check_config(planted_run(**rooms))


@pytest.mark.parametrize("writer", ["mined_sets.write_arrays", "training.write_checkpoint"])
def test_others_end_where_the_first_cannot_write(tmp_path, monkeypatch, writer):
    def full(*_, **__):
        raise UserError("the disk is full")

    monkeypatch.setattr(f"retrieval_contract.runs.{writer}", full)
    first, second = together(tmp_path / "w", planted_run(negatives=MINED))
    assert isinstance(first, UserError) and "disk is full" in str(first)
    assert isinstance(second, RunError) and "replica 1 stops" in str(second)


def test_replicas_without_the_workdir_are_told(tmp_path):
    stack = PlantedReplica(1, Meeting(2))
    with pytest.raises(UserError, match="all replicas need the same workdir"):
        train_run(stack, planted_run(), Workdir(tmp_path / "w"), resume=True, overwrite=False)


def test_an_occupied_workdir_is_the_first_ones_to_refuse(tmp_path):
    run = planted_run()
    train_run(PlantedStack(), run, Workdir(tmp_path / "w"), resume=False, overwrite=False)
    with pytest.raises(UserError, match="already holds a run"):
        train_run(PlantedReplica(0, Meeting(2)), run, Workdir(tmp_path / "w"), resume=False, overwrite=False)


def test_one_process_asks_nobody():
    replicas = Replicas.of(PlantedStack())
    assert replicas.writes and replicas.any(True) and not replicas.any(False)
    done = []
    replicas.alone(lambda: done.append(1))
    assert done == [1]

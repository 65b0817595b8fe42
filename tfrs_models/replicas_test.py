"""Two real processes on this machine against one with the whole batch; run as a script, this file is one of the two."""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfrs_models
from retrieval_contract.errors import UserError

ALL_SOURCES = {"sampled": 3, "impressions": 2, "mask_known_positives": True, "mask_not_yet_seen": True}
CASES = {
    "plain": {},
    "all sources, learned temperature": {
        "loss": {"learn_temperature": True},
        "negatives": {**ALL_SOURCES, "hardest": 6},
    },
    "candidates once": {"training": {"encode_once": ["candidate"]}},
    "all sources, chunks": {"negatives": ALL_SOURCES, "training": {"chunk_size": 2}},
    "refined, bank": {"loss": {"log_q": "refined"}, "negatives": {"bank": {"num_batches": 2}}},
    "full softmax": {"loss": {"kind": "full_softmax", "log_q": "none"}},
}
TRAINED = {
    "momentum bank, clipped, two batches a step": {
        "loss": {"learn_temperature": True},
        "negatives": {"bank": {"num_batches": 2, "momentum": 0.75}},
        "optimizer": {"kind": "adamw", "weight_decay": 0.1, "clip_norm": 0.1, "accumulation_steps": 2},
    },
}
CONTROL = "plain, without the gather"
NUM_PROCESSES = 2


def find_gradients(problem, bank):
    """Loss and every gradient of the whole batch, as one flat dictionary."""
    from tfrs_models.callables import loss_and_gradients

    arguments = (problem.config, problem.sizes, problem.weights, problem.batches[0])
    loss, gradients = loss_and_gradients(*arguments, dtype="float64", catalogue=problem.catalogue, bank=bank)
    return {"loss": np.asarray(loss), **gradients}


def find_state(problem):
    """State after three steps, and what they reported."""
    from tfrs_models.training.trainer import TwoTowerTrainer

    trainer = TwoTowerTrainer(problem.config, problem.sizes, problem.first_state, problem.catalogue)
    num_batches = problem.config.optimizer.accumulation_steps
    steps = [[*problem.batches[first:], *problem.batches][:num_batches] for first in range(3)]
    results = [trainer.step(batches, learning_rate=0.05) for batches in steps]
    reports = [[result.loss, result.gradient_norm, result.temperature] for result in results]
    return {**trainer.state(), "reports": np.asarray(reports)}


def without_the_gather(problem):
    """The wrong variant: each process has only its own positives for negatives; the gradients are still summed."""
    from tfrs_models.training import model

    kept = model.gathered, model.replica
    model.gathered, model.replica = (lambda x: x), (lambda: 0)
    try:
        return find_gradients(problem, None)
    finally:
        model.gathered, model.replica = kept


def work(folder):
    """What one process does: all cases one after the other, its answers in a file of its own."""
    from tfrs_models.negatives import replicas

    with (folder / "problems.pickle").open("rb") as file:
        problems = pickle.load(file)
    answers = {name: find_gradients(*problems[name]) for name in CASES}
    answers |= {name: find_state(problems[name][0]) for name in TRAINED}
    answers[CONTROL] = without_the_gather(problems["plain"][0])
    number = replicas.replica()
    answers["any"] = [replicas.any_replica(flag) for flag in (False, number == 1, True)]
    with (folder / f"answers{number}.pickle").open("wb") as file:
        pickle.dump(answers, file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def problems(module_problem, module_bank):
    found = {}
    for name, branches in (CASES | TRAINED).items():
        problem = module_problem(**branches)
        bank = module_bank(problem.config) if problem.config.negatives.bank.num_batches else None
        found[name] = (problem, bank)
    return found


@pytest.fixture(scope="module")
def answers(folder, problems):
    """Both processes' answers; no process outlives the fixture."""
    with (folder / "problems.pickle").open("wb") as file:
        pickle.dump(problems, file)
    processes = [_start(folder, number, ports) for ports in [_free_ports()] for number in range(NUM_PROCESSES)]
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * NUM_PROCESSES, "\n".join(
        text[-3000:] for text in said
    )
    found = []
    for number in range(NUM_PROCESSES):
        with (folder / f"answers{number}.pickle").open("rb") as file:
            found.append(pickle.load(file))
    return found


def _start(folder, number, ports):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    told = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
    root = str(Path(tfrs_models.__file__).parents[1])
    environment = {**os.environ, "TF_CONFIG": told, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "-1"}
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, __file__, str(folder)], env=environment, **piped)


def _free_ports():
    """Ports that nobody listened on a moment ago; distinct, because all are held until the last is found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(NUM_PROCESSES)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


@pytest.mark.parametrize("case", list(CASES))
def test_loss_and_every_gradient_are_those_of_one_process(answers, problems, case):
    want = find_gradients(*problems[case])
    for found in answers:
        assert found[case].keys() == want.keys()
        for name, array in want.items():
            np.testing.assert_allclose(found[case][name], array, rtol=1e-9, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("case", list(TRAINED))
def test_the_state_after_steps_is_that_of_one_process(answers, problems, case):
    want = find_state(problems[case][0])
    for found in answers:
        assert found[case].keys() == want.keys()
        for name, array in want.items():
            # float32 sums in another order, through three steps of Adam.
            np.testing.assert_allclose(found[case][name], array, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("case", list(TRAINED))
def test_both_processes_hold_the_same_bytes(answers, case):
    one, two = (found[case] for found in answers)
    assert {name: array.tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in two.items()
    }


def test_without_the_gather_they_are_another_loss_and_other_gradients(answers, problems):
    want = find_gradients(*problems["plain"])
    for found in answers:
        assert abs(found[CONTROL]["loss"] - want["loss"]) > 0.1
        for name in ("query.embedding.query_id", "candidate.embedding.candidate_id", "candidate.dense.0.kernel"):
            assert np.abs(found[CONTROL][name] - want[name]).max() > 1e-3, name


def test_a_flag_of_one_process_reaches_both(answers):
    assert [found["any"] for found in answers] == [[False, True, True]] * NUM_PROCESSES


@pytest.fixture
def told(monkeypatch):
    """Set TF_CONFIG and forget what was read of it before."""
    from tfrs_models.negatives import replicas

    def _told(text):
        monkeypatch.setenv("TF_CONFIG", text)
        replicas._place.cache_clear()
        return replicas

    yield _told
    monkeypatch.undo()
    replicas._place.cache_clear()


def test_one_process_is_alone_and_nothing_is_gathered(told):
    import tensorflow as tf

    replicas, x = told(""), tf.constant([1.0, 2.0])
    assert (replicas.replica(), replicas.num_replicas()) == (0, 1)
    assert replicas.gathered(x) is x and replicas.summed(x) is x
    assert replicas.any_replica(True) and not replicas.any_replica(False)
    one = json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    assert told(one).num_replicas() == 1


@pytest.mark.parametrize(
    ("cluster", "task", "place"),
    [
        ({"worker": ["a:1", "b:1", "c:1"]}, {"type": "worker", "index": 2}, (2, 3)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "worker", "index": 1}, (2, 3)),
        ({"worker": ["b:1", "c:1"], "chief": ["a:1"]}, {"type": "chief", "index": 0}, (0, 3)),
        ({}, {}, (0, 1)),
    ],
)
def test_tf_config_says_which_process_this_is(told, cluster, task, place):
    replicas = told(json.dumps({"cluster": cluster, "task": task}))
    assert (replicas.replica(), replicas.num_replicas()) == place


@pytest.mark.parametrize(
    "text",
    [
        "{nonsense",
        "[1]",
        json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}),
        json.dumps({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}),
    ],
)
def test_a_tf_config_that_cannot_be_is_the_users_mistake(told, text):
    with pytest.raises(UserError, match="TF_CONFIG"):
        told(text).replica()


if __name__ == "__main__":
    work(Path(sys.argv[1]))

"""Two processes on loopback against one with the joined batch. Run as a program, this file is one of the processes."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from retrieval_contract.arrays import BankColumns
from retrieval_contract.config import Bank, Loss, Negatives, Optimizer
from retrieval_contract.errors import UserError
from torch_reference import conftest
from torch_reference.callables import loss_and_gradients
from torch_reference.negatives import replicas
from torch_reference.stack import STACK
from torch_reference.training import model

WORLD, TIMEOUT_S = 2, 240
ROOT = Path(__file__).parents[1]
CASES = {
    "softmax": {"loss": Loss(temperature=0.5, learn_temperature=True)},
    "no bias": {"candidate_bias": False},
    "refined": {"loss": Loss(log_q="refined")},
    "bpr": {"loss": Loss(kind="bpr", log_q="none")},
    "sigmoid": {"loss": Loss(kind="sigmoid", log_q="none", sigmoid_bias=-1.0)},
    "gbce": {"loss": Loss(kind="gbce", log_q="none")},
    "full softmax": {
        "loss": Loss(kind="full_softmax", log_q="none"),
        "negatives": Negatives(mask_known_positives=True),
    },
    "hardest": {"negatives": Negatives(hardest=2)},
    "candidates once": {"encode_once": ("candidate",)},
    "chunks": {"chunk_size": 3, "loss": Loss(temperature=0.5, learn_temperature=True)},
}
TRAINED = {
    "sgd": {"optimizer": Optimizer(kind="sgd", momentum=0.5, clip_norm=0.5)},
    "adagrad, learned temperature, chunks": {
        "optimizer": Optimizer(kind="adagrad"),
        "loss": Loss(temperature=0.5, learn_temperature=True),
        "chunk_size": 2,
    },
    "bank": {"negatives": Negatives(bank=Bank(num_batches=3)), "optimizer": Optimizer(kind="sgd")},
    "bank with momentum": {
        "negatives": Negatives(bank=Bank(num_batches=3, momentum=0.5)),
        "optimizer": Optimizer(kind="sgd"),
    },
}
STEPS = 3


def results(example, bank: BankColumns | None):
    batch = example.rich_batch(0)
    if example.config.loss.kind == "full_softmax":
        batch, bank = replace(batch, sampled=None, impressions=None, allowed=None), None
    return loss_and_gradients(
        example.config,
        example.sizes,
        example.weights,
        batch,
        dtype="float64",
        catalogue=example.catalogue,
        bank=bank,
    )


def trained(example, *, spoiled=False):
    trainer = STACK.trainer(example.config, example.sizes, example.state, example.catalogue)
    steps = []
    for step in range(STEPS):
        batches = [example.rich_batch(2 * step), example.batch(2 * step + 1)]
        if spoiled and step == 1:
            batches[0].weights[-1] = np.nan  # in the rows of the last replica
        result = trainer.step(batches, learning_rate=0.05)
        steps.append((result.loss, result.gradient_norm, result.temperature))
    return steps, trainer.state()


# ---------------------------------------------------------------- one of the processes


def put_back(x):
    """The wrong way: constants, with one's own rows put back so that they have a gradient."""
    parts = [torch.empty_like(x) for _ in range(WORLD)]
    distributed.all_gather(parts, x.detach().contiguous())
    parts[replicas.replica()] = x
    return torch.cat(parts)


def work():
    example = conftest._example()
    first = STACK.trainer(example.config, example.sizes, example.state, example.catalogue)  # where they meet
    found = {"rank": (STACK.replica(), replicas.replica(), replicas.num_replicas())}
    found["any"] = [STACK.any_replica(flag) for flag in (False, replicas.replica() == 1, True)]
    for case, settings in CASES.items():
        each = conftest._example(**settings)
        found[case] = results(each, each.bank(0))
    right = model.gathered, model.replica
    model.gathered = put_back
    found["put back"] = results(example, None)
    model.gathered, model.replica = (lambda x: x), (lambda: 0)
    found["not gathered"] = results(replace_batch(example), None)
    model.gathered, model.replica = right
    for case, settings in TRAINED.items():
        found[case] = trained(conftest._example(**settings))
    found["dropout"] = trained(conftest._example(dropout=0.3))
    found["spoiled"] = trained(conftest._example(), spoiled=True)
    odd = example.batch(0)
    odd = replace(odd, candidate_rows=odd.candidate_rows[:7])
    try:
        first.step([odd], learning_rate=0.1)
    except UserError as error:
        found["odd"] = str(error)
    found["gathered"], found["summed"] = gathered_gradient(), sums()
    return found


def replace_batch(example):
    """An example whose rich batch has no mask over columns that a replica alone does not have."""
    plain = type(example)(example.config, example.sizes, example.weights)
    object.__setattr__(plain, "rich_batch", example.batch)
    return plain


def gathered_gradient():
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64) * (replicas.replica() + 1)
    x.requires_grad_()
    whole = replicas.gathered(x)
    (whole * torch.tensor([[1.0], [10.0]]) * (replicas.replica() + 1)).sum().backward()
    return whole.detach().numpy(), x.grad.numpy()


def sums():
    rank = replicas.replica()
    rows = [[3, 0, 3], []][rank]
    sparse = torch.sparse_coo_tensor(torch.tensor([rows], dtype=torch.int64), torch.ones(len(rows), 2), (5, 2))
    other = torch.sparse_coo_tensor(torch.tensor([[rank, 4]]), torch.ones(2, 2), (5, 2))
    given = torch.tensor([1.0, rank])
    total = replicas.summed(given)
    return [total.numpy(), given.numpy()] + [replicas.summed(x).to_dense().numpy() for x in (sparse, other)]


def main(answer: str):
    torch.set_num_threads(1)
    Path(answer).write_bytes(pickle.dumps(work()))
    distributed.barrier()
    distributed.destroy_process_group()


# ---------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("replicas")
    # The store listens on a free port here, so that no port can be lost between its choice and its use.
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        "WORLD_SIZE": str(WORLD),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT),
    }
    answers = [folder / str(rank) for rank in range(WORLD)]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(answer)],
            env={**os.environ, **common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, answer in enumerate(answers)
    ]
    try:
        said = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * WORLD, "\n".join(said)
    return [pickle.loads(answer.read_bytes()) for answer in answers]


def assert_close(one, other, *, rtol=1e-10, atol=1e-13):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=atol, err_msg=name)


def test_each_process_knows_its_number(both):
    assert [found["rank"] for found in both] == [((rank, WORLD), rank, WORLD) for rank in range(WORLD)]
    assert [found["any"] for found in both] == [[False, True, True]] * WORLD


@pytest.mark.parametrize("case", CASES)
def test_loss_and_every_gradient_are_those_of_the_joined_batch(both, make_example, case):
    example = make_example(**CASES[case])
    loss, gradients = results(example, example.bank(0))
    for found in both:
        assert found[case][0] == pytest.approx(loss, rel=1e-12)
        assert_close(found[case][1], gradients)
    assert all(np.abs(gradient).max() > 1e-5 for gradient in gradients.values())


@pytest.mark.parametrize("fault", ["not gathered", "put back"])
def test_without_the_gather_or_with_a_wrong_one_they_are_not(both, make_example, fault):
    example = make_example()
    loss, gradients = results(replace_batch(example) if fault == "not gathered" else example, None)
    wrong_loss, wrong = both[0][fault]
    kernel = "candidate.dense.0.kernel"
    distance = np.linalg.norm(wrong[kernel] - gradients[kernel]) / np.linalg.norm(gradients[kernel])
    assert distance > 0.1
    if fault == "not gathered":
        assert wrong_loss < 0.9 * loss
    else:  # the loss alone would not tell
        assert wrong_loss == pytest.approx(loss, rel=1e-12)
        assert_close({"query": wrong["query.dense.0.kernel"]}, {"query": gradients["query.dense.0.kernel"]})


@pytest.mark.parametrize("case", TRAINED)
def test_the_trainers_end_at_the_state_of_one_process(both, make_example, case):
    steps, state = trained(make_example(**TRAINED[case]))
    for found in both:
        np.testing.assert_allclose(found[case][0], steps, rtol=1e-5)
        assert_close(found[case][1], state, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("case", [*TRAINED, "dropout", "spoiled"])
def test_all_replicas_stand_at_the_same_bytes(both, case):
    one, other = (found[case][1] for found in both)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert np.array_equal(both[0][case][0], both[1][case][0], equal_nan=True)


def test_what_is_not_finite_on_one_replica_moves_nothing_on_any(both):
    steps, state = both[0]["spoiled"]
    assert [np.isfinite(step[0]) for step in steps] == [True, False, True]
    assert state["step"] == STEPS - 1
    assert all(np.isfinite(array).all() for array in state.values())


def test_a_batch_that_cannot_be_divided_is_refused(both):
    assert all("cannot be divided" in found["odd"] for found in both)


def test_the_gradient_of_gathered_rows_comes_from_all_replicas(both):
    for rank, found in enumerate(both):
        whole, gradient = found["gathered"]
        assert whole.tolist() == [[1, 2], [2, 4]]
        assert gradient.tolist() == [[[3, 3]], [[30, 30]]][rank]  # (1 + 2) times the row's factor


def test_sums_of_dense_and_sparse_tensors(both):
    for rank, found in enumerate(both):
        total, given, sparse, other = found["summed"]
        assert total.tolist() == [2, 1]
        assert given.tolist() == [1, rank]
        assert sparse[:, 0].tolist() == [1, 0, 0, 2, 0]
        assert other[:, 0].tolist() == [1, 1, 0, 0, 2]


def test_one_process_gathers_and_sums_nothing():
    x = torch.ones(2, 2, requires_grad=True)
    assert replicas.gathered(x) is x
    assert replicas.summed(x) is x
    assert (replicas.num_replicas(), replicas.replica()) == (1, 0)
    assert STACK.replica() == (0, 1)


@pytest.mark.parametrize("said", [("2", "2"), ("-1", "2"), ("x", "2"), ("", "2"), ("0", "two")])
def test_an_environment_that_cannot_be_is_the_users_mistake(monkeypatch, said):
    monkeypatch.setenv("RANK", said[0])
    monkeypatch.setenv("WORLD_SIZE", said[1])
    with pytest.raises(UserError, match="torchrun"):
        STACK.replica()


if __name__ == "__main__":
    main(sys.argv[1])

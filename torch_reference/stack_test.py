import subprocess
import sys

import pytest

from retrieval_contract.errors import UserError
from torch_reference.stack import STACK

BLOCKED = ("tensorflow", "keras", "tf_keras", "tensorflow_recommenders", "scann", "tfrs_models")


def test_the_stack_offers_a_trainer_encoders_and_the_exact_index(make_example):
    example = make_example()
    trainer = STACK.trainer(example.config, example.sizes, example.state, example.batch(0).candidate_features)
    loss = trainer.step([example.batch(0)], learning_rate=0.1).loss
    assert loss > trainer.step([example.batch(0)], learning_rate=0.1).loss
    weights = {name.removeprefix("weights/"): a for name, a in trainer.state().items() if name.startswith("weights/")}
    encoders = STACK.encoders(example.config, example.sizes, weights)
    assert encoders.encode_queries(example.batch(0).query_features).shape == (8, 6)
    assert STACK.name == "torch_reference"
    assert {"exact"} <= set(STACK.indexes) <= {"exact", "faiss"}


@pytest.mark.parametrize("modules", [("stack",), ("train", "evaluate", "embed", "build_index", "recommend")])
def test_the_stack_runs_with_tensorflow_blocked(modules):
    # None in sys.modules makes every import of that name fail.
    program = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r})); "
    program += "; ".join(f"import torch_reference.{module}" for module in modules)
    program += "; print(torch_reference.stack.STACK.name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "torch_reference", done.stderr


def test_a_blocked_tensorflow_would_be_noticed():
    program = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r})); import tensorflow"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120).returncode == 1


@pytest.mark.parametrize(
    ("rank", "world", "found"), [("", "", (0, 1)), ("0", "1", (0, 1)), ("1", "2", (1, 2)), ("3", "4", (3, 4))]
)
def test_the_environment_says_which_replica_this_is(monkeypatch, rank, world, found):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert STACK.replica() == found


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("", "2"), ("one", "2"), ("0", "0"), ("-1", "2")])
def test_an_environment_that_cannot_be_is_refused(monkeypatch, rank, world):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(UserError, match=f"RANK='{rank}' and WORLD_SIZE='{world}'"):
        STACK.replica()


def test_one_process_is_its_own_majority():
    assert STACK.any_replica(True) and not STACK.any_replica(False)

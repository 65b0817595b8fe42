import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.indexes.exact import ExactIndex
from tfrs_models.stack import STACK


def test_trainer_and_encoders_are_the_stacks_own(problem):
    trainer = STACK.trainer(problem.config, problem.sizes, problem.first_state, problem.catalogue)
    trainer.step([problem.batches[0]], learning_rate=0.1)
    state = trainer.state()
    weights = {name.removeprefix("weights/"): array for name, array in state.items() if name.startswith("weights/")}
    vectors = STACK.encoders(problem.config, problem.sizes, weights).encode_queries(problem.batches[0].query_features)
    assert vectors.shape == (6, 5) and np.isfinite(vectors).all()
    assert STACK.name == "tfrs_models"


def test_one_process_is_alone():
    assert STACK.replica() == (0, 1)
    assert STACK.any_replica(True) and not STACK.any_replica(False)


def test_asking_for_the_replica_loads_no_tensorflow():
    words = "from tfrs_models.stack import STACK; import sys; print(STACK.replica(), 'tensorflow' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    root = Path(__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", words], cwd=root, env=environment, capture_output=True, text=True)
    assert said.stdout.strip() == "(0, 1) False", said.stderr


def test_the_exact_index_is_always_there():
    assert STACK.indexes["exact"] is ExactIndex
    assert "exact" in STACK.indexes and "faiss" not in STACK.indexes


def test_the_partitioned_index_is_always_there():
    assert STACK.indexes["partitioned"].backend == "partitioned"


def test_scann_is_there_where_its_package_is():
    if importlib.util.find_spec("scann") is None:
        pytest.skip("ScaNN is not installed: it exists for Linux only")
    assert list(STACK.indexes) == ["exact", "scann", "partitioned"]
    assert STACK.indexes["scann"].backend == "scann"


def test_scann_is_absent_elsewhere_and_one_line_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert list(STACK.indexes) == ["exact", "partitioned"]
    assert "scann" not in STACK.indexes and len(STACK.indexes) == 2
    with pytest.raises(UserError, match=r"'scann': ScaNN exists for Linux only.*one of exact, partitioned"):
        STACK.indexes["scann"]


def test_another_stacks_index_is_refused():
    with pytest.raises(UserError, match=r"'faiss'.*one of exact"):
        STACK.indexes["faiss"]

"""A small problem with every kind of feature, for the tests of this stack."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from retrieval_contract.arrays import AnyArray, Batch
from retrieval_contract.config import Feature, Loss, Model, Optimizer, RunConfig, Tower, Training
from retrieval_contract.stack import TrainerState
from retrieval_contract.weights.names import VocabularySizes, initial_weights, parameter_table

SIZES = {
    "query": {"query_id": 12, "city": 5, "history": 11},
    "candidate": {"candidate_id": 11, "genres": 7},
}
NUM_QUERIES, NUM_CANDIDATES, BATCH = 10, 9, 8


@dataclass(frozen=True)
class Example:
    """A run's configuration, vocabularies and weights, with batches on demand."""

    config: RunConfig
    sizes: VocabularySizes
    weights: dict[str, AnyArray]

    @property
    def state(self) -> TrainerState:
        """Trainer state before the first step, slots left to the trainer."""
        weights = {f"weights/{name}": array for name, array in self.weights.items()}
        return {**weights, "step": np.asarray(0, np.int64)}

    def batch(self, seed: int, **changes: AnyArray) -> Batch:
        """A batch in which candidates repeat, lists have different lengths, and some are empty."""
        generator = np.random.default_rng(seed)
        query_rows = generator.integers(0, NUM_QUERIES, BATCH).astype(np.int32)
        candidate_rows = generator.integers(0, NUM_CANDIDATES, BATCH).astype(np.int32)
        fields = {
            "query_features": {
                "query_id": query_rows + 2,
                "city": generator.integers(1, 5, BATCH).astype(np.int32),
                "age": generator.standard_normal(BATCH).astype(np.float32),
                "history": _padded(generator, BATCH, 4, 11),
            },
            "candidate_features": {"candidate_id": candidate_rows + 2, "genres": _padded(generator, BATCH, 3, 7)},
            "query_rows": query_rows,
            "candidate_rows": candidate_rows,
            "log_q": np.log(generator.uniform(0.01, 0.3, BATCH)).astype(np.float32),
            "weights": generator.uniform(0.5, 2, BATCH).astype(np.float32),
        }
        return Batch(**{**fields, **changes})


@pytest.fixture
def make_example() -> Callable[..., Example]:
    """Build an example; keyword arguments change the tower, the optimiser or the loss."""
    return _example


def _example(
    *, dropout: float = 0.0, normalize: bool = True, optimizer: Optimizer | None = None, device: str = "cpu"
) -> Example:
    query = Tower(
        features=(
            Feature(name="query_id", kind="id", width=4),
            Feature(name="city", kind="categorical", width=2),
            Feature(name="age", kind="numeric"),
            Feature(name="history", kind="history", width=3, max_length=4),
        ),
        hidden_dims=(7,),
        activation="gelu",
        dropout=dropout,
        feature_dropout=dropout,
    )
    candidate = Tower(
        features=(
            Feature(name="candidate_id", kind="id", width=4),
            Feature(name="genres", kind="multivalent", width=3, max_length=3),
        ),
        activation="tanh",
        hidden_dims=(6, 5),
        dropout=dropout,
    )
    config = RunConfig(
        query=query,
        candidate=candidate,
        model=Model(dim=5, normalize=normalize, candidate_bias=True),
        loss=Loss(temperature=0.5),
        optimizer=optimizer or Optimizer(kind="adam", learning_rate=0.01),
        training=Training(device=device, batch_size=BATCH),
        seed=3,
    )
    weights = initial_weights(parameter_table(config, SIZES), seed=1, embedding_stddev=0.5)
    weights["candidate.bias"][1:] = np.linspace(-0.5, 0.5, SIZES["candidate"]["candidate_id"] - 1)[:, None]
    return Example(config, SIZES, dict(weights))


def _padded(generator: np.random.Generator, num_lists: int, length: int, num_rows: int) -> AnyArray:
    values = generator.integers(1, num_rows, (num_lists, length)).astype(np.int32)
    kept = np.arange(num_lists) % (length + 1)  # the first list is empty
    return np.where(np.arange(length) < kept[:, None], values, 0).astype(np.int32)

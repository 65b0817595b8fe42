"""A small problem with every kind of feature, for the tests of this stack."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from retrieval_contract.arrays import (
    AnyArray,
    BankColumns,
    Batch,
    FeatureArrays,
    Impressions,
    KnownPositives,
    SampledColumns,
)
from retrieval_contract.config import (
    CategoricalFeature,
    HistoryFeature,
    IdFeature,
    Loss,
    Model,
    MultivalentFeature,
    Negatives,
    NumericFeature,
    Optimizer,
    RunConfig,
    Tower,
    Training,
)
from retrieval_contract.stack import TrainerState
from retrieval_contract.weights.names import VocabularySizes, initial_weights, parameter_table

SIZES = {
    "query": {"query_id": 12, "city": 5, "history": 11},
    "candidate": {"candidate_id": 11, "genres": 7},
}
NUM_QUERIES, NUM_CANDIDATES, BATCH, SAMPLED, IMPRESSIONS = 10, 9, 8, 5, 3


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

    @property
    def catalogue(self) -> FeatureArrays:
        """Features of all candidates."""
        return _candidate_features(np.arange(NUM_CANDIDATES, dtype=np.int32))

    def rich_batch(self, seed: int) -> Batch:
        """A batch with sampled columns, impressions, known positives and an explicit mask."""
        generator = np.random.default_rng([seed, 1])
        batch = self.batch(seed)
        sampled = generator.integers(0, NUM_CANDIDATES, SAMPLED).astype(np.int32)
        shown = generator.integers(0, NUM_CANDIDATES, (BATCH, IMPRESSIONS)).astype(np.int32)
        likes = generator.uniform(size=(BATCH, NUM_CANDIDATES)) < 0.2
        likes[np.arange(BATCH), batch.candidate_rows] = True
        places, known = likes.nonzero()
        allowed = generator.uniform(size=(BATCH, BATCH + SAMPLED)) < 0.8
        allowed[np.arange(BATCH), np.arange(BATCH)] = True
        return replace(
            batch,
            sampled=SampledColumns(
                features=_candidate_features(sampled), rows=sampled, log_q=_log_q(generator, SAMPLED)
            ),
            impressions=Impressions(
                features=_candidate_features(shown.ravel()),
                rows=shown,
                log_q=_log_q(generator, (BATCH, IMPRESSIONS)),
                allowed=generator.uniform(size=shown.shape) < 0.7,
            ),
            known_positives=KnownPositives(places=places.astype(np.int32), rows=known.astype(np.int32)),
            allowed=allowed,
        )

    def bank(self, seed: int, num_columns: int = 7) -> BankColumns:
        """Columns of earlier batches."""
        generator = np.random.default_rng([seed, 2])
        return BankColumns(
            vectors=generator.standard_normal((num_columns, self.config.model.dim)).astype(np.float32),
            rows=generator.integers(0, NUM_CANDIDATES, num_columns).astype(np.int32),
            log_q=_log_q(generator, num_columns),
            bias=generator.standard_normal(num_columns).astype(np.float32)
            if self.config.model.candidate_bias
            else None,
        )

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
            "candidate_features": _candidate_features(candidate_rows),
            "query_rows": query_rows,
            "candidate_rows": candidate_rows,
            "log_q": _log_q(generator, BATCH),
            "weights": generator.uniform(0.5, 2, BATCH).astype(np.float32),
        }
        return Batch(**{**fields, **changes})


@pytest.fixture
def make_example() -> Callable[..., Example]:
    """Build an example; keyword arguments change the towers, the optimiser, the loss or the negatives."""
    return _example


def _example(
    *,
    dropout: float = 0.0,
    normalize: bool = True,
    candidate_bias: bool = True,
    loss: Loss | None = None,
    negatives: Negatives | None = None,
    optimizer: Optimizer | None = None,
    chunk_size: int | None = None,
    device: str = "cpu",
) -> Example:
    query = Tower(
        features=(
            IdFeature(name="query_id", width=4),
            CategoricalFeature(name="city", width=2),
            NumericFeature(name="age"),
            HistoryFeature(name="history", width=3, max_length=4),
        ),
        hidden_dims=(7,),
        activation="gelu",
        dropout=dropout,
        feature_dropout=dropout,
    )
    candidate = Tower(
        features=(
            IdFeature(name="candidate_id", width=4),
            MultivalentFeature(name="genres", width=3, max_length=3),
        ),
        activation="tanh",
        hidden_dims=(6, 5),
        dropout=dropout,
    )
    config = RunConfig(
        query=query,
        candidate=candidate,
        model=Model(dim=5, normalize=normalize, candidate_bias=candidate_bias),
        loss=loss or Loss(temperature=0.5),
        negatives=negatives or Negatives(),
        optimizer=optimizer or Optimizer(kind="adam", learning_rate=0.01),
        training=Training(device=device, batch_size=BATCH, chunk_size=chunk_size),
        seed=3,
    )
    weights = initial_weights(parameter_table(config, SIZES), seed=1, embedding_stddev=0.5)
    if candidate_bias:
        weights["candidate.bias"][1:] = np.linspace(-0.5, 0.5, SIZES["candidate"]["candidate_id"] - 1)[:, None]
    return Example(config, SIZES, dict(weights))


def _candidate_features(rows: AnyArray) -> dict[str, AnyArray]:
    """Each candidate's own: lists of different lengths, one empty, and one that fills its places."""
    genres = _padded(np.random.default_rng(0), NUM_CANDIDATES, 3, 7)
    return {"candidate_id": rows + 2, "genres": genres[rows]}


def _log_q(generator: np.random.Generator, shape: int | tuple[int, ...]) -> AnyArray:
    return np.log(generator.uniform(0.01, 0.3, shape)).astype(np.float32)


def _padded(generator: np.random.Generator, num_lists: int, length: int, num_rows: int) -> AnyArray:
    values = generator.integers(1, num_rows, (num_lists, length)).astype(np.int32)
    kept = np.arange(num_lists) % (length + 1)  # the first list is empty
    return np.where(np.arange(length) < kept[:, None], values, 0).astype(np.int32)

"""A small problem with every kind of feature, for the tests of this stack."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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
    AffinityFeature,
    AttentionPooling,
    CategoricalFeature,
    ComiRecPooling,
    CrossFeature,
    DenseFeature,
    GruPooling,
    HistoryFeature,
    IdFeature,
    Loss,
    MeanPooling,
    MindPooling,
    Model,
    MultivalentFeature,
    Negatives,
    NumericFeature,
    Optimizer,
    RunConfig,
    Tower,
    Training,
    TransformerPooling,
    WeightedMeanPooling,
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

    def rich_features_batch(self, seed: int) -> Batch:
        """A batch for `make_rich_example`, with sampled columns; with positions=all every place of five sequences."""
        generator = np.random.default_rng([seed, 3])
        whole = self.config.training.positions == "all"
        query_features = rich_query_features(generator, 5 if whole else BATCH)
        places = np.flatnonzero(query_features["history"]).astype(np.int32) if whole else None
        num_rows = BATCH if places is None else len(places)
        queries = np.arange(BATCH) if places is None else places // query_features["history"].shape[1]
        candidate_rows, sampled = (generator.integers(0, NUM_CANDIDATES, n).astype(np.int32) for n in (num_rows, 5))
        extra = SampledColumns(features=_candidate_features(sampled), rows=sampled, log_q=_log_q(generator, 5))
        return Batch(
            query_features=query_features,
            candidate_features=_candidate_features(candidate_rows),
            query_rows=queries.astype(np.int32),
            candidate_rows=candidate_rows,
            log_q=_log_q(generator, num_rows),
            weights=generator.uniform(0.5, 2, num_rows).astype(np.float32),
            places=places,
            sampled=None if self.config.loss.kind == "full_softmax" else extra,
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


POOLINGS = {
    "mean": MeanPooling(),
    "weighted_mean": WeightedMeanPooling(),
    "attention": AttentionPooling(),
    "gru": GruPooling(),
    "transformer": TransformerPooling(num_blocks=1, dropout=0.2),
    "mind": MindPooling(num_interests=3, power=0.7),
    "comirec": ComiRecPooling(num_interests=3, attention_dim=2),
}
RICH_SIZES = {
    "query": {"query_id": 12, "history": 11, "history.genres": 7},
    "context": {"load": 5, "device_x_load": 9},
    "candidate": {"candidate_id": 11, "genres": 7},
}


@pytest.fixture
def make_rich_example() -> Callable[..., Example]:
    """Build an example with every part of a tower: context, crosses, norms, shared tables, a pooling by its name."""
    return _rich_example


def _rich_example(
    *,
    pooling: str = "transformer",
    shares: bool = True,
    norm: str = "batch",
    positions: str = "last",
    loss: Loss | None = None,
    negatives: Negatives | None = None,
    optimizer: Optimizer | None = None,
    chunk_size: int | None = None,
    normalize: bool = True,
) -> Example:
    whole = positions == "all"
    history = HistoryFeature(
        name="history",
        width=4,
        max_length=4,
        fields=() if whole else ("genres", "vector"),
        shares=shares,
        age_buckets=2,
        dropout=0.2,
        pooling=POOLINGS[pooling],
    )
    others = (
        IdFeature(name="query_id", width=4),
        CategoricalFeature(name="liked", width=4, shares="candidate_id"),
        CategoricalFeature(name="device", encoding="one_hot", width=3),
        AffinityFeature(name="taste", of="genres", width=5),
    )
    query = Tower(
        features=(history,) if whole else (history, *others),
        cross_layers=1,
        hidden_dims=(6, 6),
        norm="layer" if whole and norm == "batch" else norm,
        activation="silu",
        residual=True,
        dropout=0.2,
    )
    context = Tower(
        features=(
            CategoricalFeature(name="device", at="request", encoding="one_hot", width=3),
            NumericFeature(name="load", at="request", scaling="buckets", edges=(0.0, 1.0), width=2),
            CrossFeature(name="device_x_load", of=("device", "load"), num_buckets=7, width=2),
        ),
        hidden_dims=(3,),
        norm=norm,
        activation="tanh",
    )
    candidate = Tower(
        features=(
            IdFeature(name="candidate_id", width=4),
            MultivalentFeature(name="genres", width=4, max_length=3, pooling="sqrt_n"),
            DenseFeature(name="vector", width=2, projection=3),
        ),
        hidden_dims=(5,),
        norm=norm,
        activation="tanh",
        cross_layers=2,
    )
    config = RunConfig(
        query=query,
        context=None if whole else context,
        candidate=candidate,
        model=Model(dim=5, normalize=normalize, context_merge="gate", candidate_bias=True),
        loss=loss or Loss(temperature=0.5),
        negatives=negatives or Negatives(),
        optimizer=optimizer or Optimizer(kind="adam", learning_rate=0.01),
        training=Training(device="cpu", batch_size=BATCH, chunk_size=chunk_size, positions=positions),
        seed=3,
    )
    sizes = {side: dict(RICH_SIZES[side]) for side in config.towers}
    return Example(config, sizes, dict(initial_weights(parameter_table(config, sizes), seed=1, embedding_stddev=0.5)))


def rich_query_features(generator: np.random.Generator, num_queries: int) -> dict[str, AnyArray]:
    """Features of the rich example's query and context towers; the first history is empty."""
    history = _padded(generator, num_queries, 4, 11)
    real = history != 0
    genres = np.where(real[:, :, None], _padded(generator, num_queries * 4, 3, 7).reshape(-1, 4, 3), 0)
    return {
        "history": history,
        "history.genres": genres.astype(np.int32),
        "history.vector": np.where(real[:, :, None], generator.normal(size=(num_queries, 4, 2)), 0).astype(np.float32),
        "history.ages": np.where(real, generator.integers(1, 3, history.shape), 0).astype(np.int32),
        "history.weights": np.where(real, generator.uniform(0, 2, history.shape), 0).astype(np.float32),
        "query_id": generator.integers(2, 12, num_queries).astype(np.int32),
        "liked": generator.integers(1, 11, num_queries).astype(np.int32),
        "device": generator.integers(1, 5, num_queries).astype(np.int32),
        "taste": generator.dirichlet(np.ones(5), num_queries).astype(np.float32),
        "context.device": generator.integers(1, 5, num_queries).astype(np.int32),
        "context.load": generator.integers(1, 5, num_queries).astype(np.int32),
        "context.device_x_load": generator.integers(2, 9, num_queries).astype(np.int32),
    }


@pytest.fixture
def items() -> Callable[..., tuple[Tensor, Tensor]]:
    """Items [6, 5, 4] of histories of 5, 3, 1, 4, 0 and 0 items, and where they are; padding is zeros, behind."""

    def make(seed: int = 0) -> tuple[Tensor, Tensor]:
        real = torch.arange(5) < torch.tensor([[5], [3], [1], [4], [0], [0]])
        values = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.where(real.unsqueeze(2), values, 0), real

    return make


@pytest.fixture
def planted_layer() -> Callable[[nn.Module], nn.Module]:
    """Fill a layer's parameters and buffers with normal numbers, and put it in evaluation mode."""

    def plant(layer: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for tensor in (*layer.parameters(), *layer.buffers()):
                values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(0.7 * values)
        return layer.eval()

    return plant


@pytest.fixture
def assert_padding_never_leaks(items: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[nn.Module], None]:
    """Assert what holds for every pooling: padding changes nothing, gets no gradient, and an empty history is zeros."""

    def check(pooling: nn.Module) -> None:
        values, real = items()
        expected = pooling(values, real)
        assert not expected[4:].any()
        assert expected[:4].flatten(1).any(dim=1).all()
        short = slice(1, 3)
        cut = pooling(values[short, :3], real[short, :3])
        torch.testing.assert_close(cut, expected[short], rtol=1e-12, atol=1e-14)
        for row in range(4):
            alone = pooling(values[row : row + 1, : real[row].sum()], real[row : row + 1, : real[row].sum()])
            torch.testing.assert_close(alone[0], expected[row], rtol=1e-12, atol=1e-14)
        values.requires_grad_()
        weights = torch.arange(1.0, 5.0, dtype=torch.float64)
        (pooling(values, real).sin() * weights).sum().backward()
        assert values.grad.isfinite().all()
        assert not values.grad[~real].any()
        assert values.grad[real].any(dim=1).all()
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in pooling.parameters())

    return check


def _example(
    *,
    dropout: float = 0.0,
    normalize: bool = True,
    candidate_bias: bool = True,
    loss: Loss | None = None,
    negatives: Negatives | None = None,
    optimizer: Optimizer | None = None,
    chunk_size: int | None = None,
    encode_once: tuple[Literal["query", "candidate"], ...] = (),
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
        training=Training(device=device, batch_size=BATCH, chunk_size=chunk_size, encode_once=encode_once),
        seed=3,
    )
    weights = initial_weights(parameter_table(config, SIZES), seed=1, embedding_stddev=0.5)
    if candidate_bias:
        weights["candidate.bias"][1:] = np.linspace(-0.5, 0.5, SIZES["candidate"]["candidate_id"] - 1)[:, None]
    return Example(config, SIZES, dict(weights))


def _candidate_features(rows: AnyArray) -> dict[str, AnyArray]:
    """Each candidate's own: lists of different lengths, one empty, and one that fills its places."""
    genres = _padded(np.random.default_rng(0), NUM_CANDIDATES, 3, 7)
    vectors = np.random.default_rng(1).standard_normal((NUM_CANDIDATES, 2)).astype(np.float32)
    return {"candidate_id": rows + 2, "genres": genres[rows], "vector": vectors[rows]}


def _log_q(generator: np.random.Generator, shape: int | tuple[int, ...]) -> AnyArray:
    return np.log(generator.uniform(0.01, 0.3, shape)).astype(np.float32)


def _padded(generator: np.random.Generator, num_lists: int, length: int, num_rows: int) -> AnyArray:
    values = generator.integers(1, num_rows, (num_lists, length)).astype(np.int32)
    kept = np.arange(num_lists) % (length + 1)  # the first list is empty
    return np.where(np.arange(length) < kept[:, None], values, 0).astype(np.int32)

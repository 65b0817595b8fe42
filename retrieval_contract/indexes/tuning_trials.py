"""Try settings one after the other on queries of the run, and keep the index of the best.

The queries are parted in two. Settings are chosen by one half; the other half is asked only about what would be chosen,
so that its recall is not the best of many draws.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, TopK, Vectors
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Attributes
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.indexes.tuning import Failure, Recall, Trial, choose, measure, recall_of
from retrieval_contract.indexes.tuning_grid import structure_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What an index is asked to reach."""

    target: float
    """Least recall."""
    k: int
    """Of the best K."""
    max_bytes: int | None
    """Memory allowed; None allows any."""
    num_samples: int
    """Resamples of the bootstrap."""
    seed: int
    """Of the resamples."""


@dataclass(slots=True, kw_only=True)
class Tried:
    """What was tried, in order, and the index of the best so far."""

    trials: list[Trial] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    kept: Trial | None = None
    """The fastest that holds the goal; None where none does."""
    index: Index | None = None
    """Its index, the very one that was measured: some structures come out otherwise when they are built again."""


@final
class Asked:
    """Queries in two halves, with their truth."""

    def __init__(self, vectors: Vectors, queries: Float32Array, k: int) -> None:
        """Find the truth by exact search.

        Args:
            vectors: of the catalogue.
            queries: [Q, D] or [Q, I, D], in an order that means nothing, two at least.
            k: results that count.

        Raises:
            UserError: fewer than two queries, or K larger than the catalogue.
        """
        if len(queries) < 2:
            todo = "recall is measured on held-out queries: two at least, and better hundreds"
            raise UserError(f"{len(queries)} queries to measure by", where="--target_recall", todo=todo)
        self.k = k
        exact = ExactIndex.build(vectors, config.Index())
        middle = len(queries) // 2
        self.choosing, self.checking = queries[:middle], queries[middle:]
        truth = exact.search(queries, k, weights_digest=vectors.weights_digest)
        self.choosing_truth = TopK(rows=truth.rows[:middle], scores=truth.scores[:middle])
        self.checking_truth = TopK(rows=truth.rows[middle:], scores=truth.scores[middle:])


def try_all(
    grid: Iterable[config.Index],
    classes: Mapping[str, type[Index]],
    vectors: Vectors,
    attributes: Attributes | None,
    asked: Asked,
    goal: Goal,
    *,
    seen: Callable[[Trial | Failure], None] = lambda tried: None,
) -> Tried:
    """Build and measure every setting; what cannot be built is noted and left.

    Args:
        grid: settings, those of one structure side by side.
        classes: index class of each backend in the grid.
        vectors: of the catalogue.
        attributes: what requests may filter by.
        asked: queries and their truth.
        goal: what is to be reached.
        seen: called with each result.
    """
    tried, builder = Tried(), _Builder(classes, vectors, attributes)
    for settings in grid:
        try:
            index, seconds = builder.index_of(settings)
        except UserError as error:
            tried.failures.append(Failure(settings=settings, reason=str(error)))
            seen(tried.failures[-1])
            continue
        trial = _checked(_try(index, asked, goal, build_seconds=seconds), index, tried, asked, goal)
        tried.trials.append(trial)
        if choose(tried.trials, target=goal.target, max_bytes=goal.max_bytes) is trial:
            tried.kept, tried.index = trial, index
        seen(trial)
    return tried


def _try(index: Index, asked: Asked, goal: Goal, *, build_seconds: float) -> Trial:
    measured = measure(index, asked.choosing, asked.choosing_truth, asked.k)
    return Trial(
        settings=index.settings,
        k=asked.k,
        recall=recall_of(measured.found, asked.k, num_samples=goal.num_samples, seed=goal.seed),
        milliseconds=measured.milliseconds,
        num_bytes=index.num_bytes,
        build_seconds=build_seconds,
    )


def _checked(trial: Trial, index: Index, tried: Tried, asked: Asked, goal: Goal) -> Trial:
    """The trial, checked on the other half where it would be chosen."""
    if choose([*tried.trials, trial], target=goal.target, max_bytes=goal.max_bytes) is not trial:
        return trial
    measured = measure(index, asked.checking, asked.checking_truth, asked.k)
    recall: Recall = recall_of(measured.found, asked.k, num_samples=goal.num_samples, seed=goal.seed)
    return replace(trial, checked=recall)


class _Builder:
    """Builds a structure once for all settings that it serves."""

    def __init__(self, classes: Mapping[str, type[Index]], vectors: Vectors, attributes: Attributes | None) -> None:
        self._classes, self._vectors, self._attributes = classes, vectors, attributes
        self._structure = ""
        self._built: Index | UserError | None = None
        self._seconds = np.nan

    def index_of(self, settings: config.Index) -> tuple[Index, float]:
        """The index, and the seconds that its structure took.

        Raises:
            UserError: the structure cannot be built.
        """
        structure = structure_of(settings)
        if structure != self._structure:
            self._structure, self._built = structure, None
            self._build(settings)
        if isinstance(self._built, UserError):
            raise self._built
        assert self._built is not None
        return self._built.with_settings(settings), self._seconds

    def _build(self, settings: config.Index) -> None:
        began = time.perf_counter()
        try:
            self._built = self._classes[settings.backend].build(self._vectors, settings, self._attributes)
        except UserError as error:
            self._built = error
        self._seconds = time.perf_counter() - began

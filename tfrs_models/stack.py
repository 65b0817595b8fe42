"""What this stack offers to the verbs; TensorFlow is imported when it is asked for something, so `--help` is quick."""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retrieval_contract.arrays import FeatureArrays, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.stack import Encoders, Stack, Trainer, TrainerState
from retrieval_contract.weights.names import VocabularySizes


class _Indexes(Mapping[str, type[Index]]):
    """Backend name -> index class, imported when asked for; ScaNN exists for Linux only and is absent elsewhere."""

    def __getitem__(self, backend: str) -> type[Index]:
        if backend not in self:
            why = "ScaNN exists for Linux only and is not installed" if backend == "scann" else "unknown backend"
            raise UserError(f"index backend {backend!r}: {why}", todo=f"one of {', '.join(self)}")
        if backend == "scann":
            from tfrs_models.indexes.scann_index import ScannIndex

            return ScannIndex
        if backend == "partitioned":
            from tfrs_models.indexes.partitioned_index import PartitionedIndex

            return PartitionedIndex
        from retrieval_contract.indexes.exact import ExactIndex

        return ExactIndex

    def __contains__(self, backend: object) -> bool:
        return backend in list(self)

    def __iter__(self) -> Iterator[str]:
        yield "exact"
        if importlib.util.find_spec("scann") is not None:
            yield "scann"
        yield "partitioned"

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _TfrsModels:
    """`retrieval_contract.stack.Stack` in TensorFlow Recommenders."""

    name = "tfrs_models"

    def __init__(self) -> None:
        self.indexes: Mapping[str, type[Index]] = _Indexes()

    def replica(self) -> tuple[int, int]:
        """Number of this process, and how many train together, as `TF_CONFIG` says."""
        if "TF_CONFIG" not in os.environ:
            return 0, 1
        from tfrs_models.negatives import replicas

        return replicas.replica(), replicas.num_replicas()

    def any_replica(self, flag: bool) -> bool:
        """Say on every replica whether `flag` is true on at least one of them."""
        if self.replica() == (0, 1):
            return flag
        from tfrs_models.negatives import replicas

        return replicas.any_replica(flag)

    def trainer(
        self, config: RunConfig, sizes: VocabularySizes, state: TrainerState, catalogue: FeatureArrays
    ) -> Trainer:
        """Build a trainer at the given state; several processes meet here."""
        from tfrs_models.training.trainer import TwoTowerTrainer

        return TwoTowerTrainer(config, sizes, state, catalogue)

    def encoders(self, config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array]) -> Encoders:
        """Build the towers from canonical weights, on the device that the config names."""
        from tfrs_models.callables import TwoTowerEncoders

        return TwoTowerEncoders(config, sizes, weights, device=config.training.device)

    def export(self, opened: OpenedRun, kind: str, folder: Path) -> Mapping[str, Any]:
        """Write a SavedModel with raw features in, ids and scores out."""
        from tfrs_models.saved_model.exporting import export

        return export(opened, kind, folder)


STACK: Stack = _TfrsModels()

"""What this stack offers to the verbs."""

from collections.abc import Mapping
from typing import final

from retrieval_contract.arrays import Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.stack import Encoders, Stack, Trainer, TrainerState
from retrieval_contract.weights.names import VocabularySizes
from torch_reference.callables import TwoTowerEncoders
from torch_reference.training.trainer import TwoTowerTrainer


def _indexes() -> dict[str, type[Index]]:
    """Backends of this machine; FAISS is absent where it is not installed or cannot be loaded."""
    found: dict[str, type[Index]] = {"exact": ExactIndex}
    try:
        from torch_reference.indexes.faiss_index import FaissIndex
    except ImportError as error:
        # A fault in our own file is not a missing FAISS.
        if (error.name or "").partition(".")[0] not in ("faiss", ""):
            raise
    else:
        found["faiss"] = FaissIndex
    return found


@final
class _TorchReference:
    """PyTorch towers and FAISS."""

    def __init__(self) -> None:
        self.name = "torch_reference"
        self.indexes: Mapping[str, type[Index]] = _indexes()

    def trainer(self, config: RunConfig, sizes: VocabularySizes, state: TrainerState) -> Trainer:
        """Build a trainer at the given state."""
        return TwoTowerTrainer(config, sizes, state)

    def encoders(self, config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array]) -> Encoders:
        """Build the towers from canonical weights, on the configured device."""
        return TwoTowerEncoders(config, sizes, weights, config.training.device)


STACK: Stack = _TorchReference()

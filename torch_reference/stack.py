"""What this stack offers to the verbs."""

import atexit
import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch

from retrieval_contract.arrays import FeatureArrays, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.stack import Encoders, Stack, Trainer, TrainerState
from retrieval_contract.weights.names import VocabularySizes
from torch_reference.callables import TwoTowerEncoders
from torch_reference.negatives.replicas import summed
from torch_reference.training.trainer import TwoTowerTrainer

_LONGEST_WAIT = datetime.timedelta(hours=24)
"""How long a replica waits for another: as long as mining the hard negatives of a large catalogue may take."""


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

    def replica(self) -> tuple[int, int]:
        """Number of this process and how many there are, as `torchrun` says in `RANK` and `WORLD_SIZE`.

        Raises:
            UserError: what they say cannot be.
        """
        said = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
        if said[1] in ("", "1"):
            return 0, 1
        if not all(text.isdecimal() for text in said) or int(said[0]) >= int(said[1]):
            what = "RANK={!r} and WORLD_SIZE={!r} name no process".format(*said)
            raise UserError(what, where="environment", todo="start with torchrun, or unset WORLD_SIZE")
        return int(said[0]), int(said[1])

    def any_replica(self, flag: bool) -> bool:
        """Say whether `flag` is true in one of the processes; all meet here."""
        return bool(summed(torch.tensor(float(flag))) > 0)

    def trainer(
        self, config: RunConfig, sizes: VocabularySizes, state: TrainerState, catalogue: FeatureArrays
    ) -> Trainer:
        """Build a trainer at the given state; where several processes train together, meet the others first."""
        if self.replica()[1] > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", timeout=_LONGEST_WAIT)
            atexit.register(_leave)
        return TwoTowerTrainer(config, sizes, state, catalogue)

    def encoders(self, config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array]) -> Encoders:
        """Build the towers from canonical weights, on the configured device."""
        return TwoTowerEncoders(config, sizes, weights, config.training.device)

    def export(self, opened: OpenedRun, kind: str, folder: Path) -> Mapping[str, Any]:
        """Write programs of both towers, what encodes raw features, and the index."""
        from torch_reference.exported_program.exporting import export

        return export(opened, self.indexes[kind], folder)


def _leave() -> None:
    """End gloo's threads before the interpreter ends: left to themselves, a process now and then ended with abort."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


STACK: Stack = _TorchReference()

"""The exact index: every candidate is scored for every query. NumPy only, so both stacks have it."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array
from retrieval_contract.indexes.protocol import Index


@final
class ExactIndex(Index):
    """Search without a structure: B N D multiplications in chunks of bounded memory; its folder holds only vectors.

    It proposes nothing, so that each query is answered by looking at all candidates, the excluded ones masked.
    """

    backend: ClassVar[str] = "exact"

    def _build(self) -> None:
        """Nothing to build."""

    def _propose(self, queries_BD: Float32Array, depth: int) -> Int32Array:
        return np.full((len(queries_BD), 1), -1, np.int32)

    def _save(self, folder: Path) -> None:
        """Nothing beside the vectors."""

    def _load(self, folder: Path) -> None:
        """Nothing beside the vectors."""

    @classmethod
    def _versions(cls) -> Mapping[str, str]:
        return {}

"""The exact index: every candidate is scored for every query. NumPy only, so both stacks have it."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import Index


@final
class ExactIndex(Index):
    """Search without a structure: B N D multiplications in chunks of bounded memory; its folder holds only vectors.

    It proposes nothing, so that each query is answered by looking at all candidates, the excluded ones masked.
    """

    backend: ClassVar[str] = "exact"

    masks: ClassVar[bool] = False

    def _build(self, values_ND: Float32Array) -> None:
        """Nothing to build.

        Raises:
            UserError: nothing would be kept to search.
        """
        if self.settings.store == "none":
            todo = "use float32, float16 or int8, or another backend"
            raise UserError("exact search needs the vectors", where="index.store is none", todo=todo)

    def _propose(self, queries_BD: Float32Array, depth: int, allowed_N: BoolArray | None) -> TopK:
        shape = (len(queries_BD), 1)
        return TopK(rows=np.full(shape, -1, np.int32), scores=np.full(shape, -np.inf, np.float32))

    def _append(self, values_MD: Float32Array) -> bool:
        return True

    def _forget(self, rows_M: Int32Array) -> bool:
        return True

    def _structure_bytes(self) -> int:
        return 0

    def _save(self, folder: Path) -> None:
        """Nothing beside the vectors."""

    def _load(self, folder: Path) -> None:
        """Nothing beside the vectors."""

    @classmethod
    def _versions(cls) -> Mapping[str, str]:
        return {}

"""ScaNN: partition, score, rescore; below a stated number of candidates, ScaNN's own search of all.

ScaNN is used through its Python API, not through TFRS's layer, because the layer sets no anisotropic threshold, caps k
silently at its number of rescored candidates, and has no exclusions that hold.

Source: Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization, ICML 2020; ScaNN's
docs/algorithms.md for the advice on sizes.
"""

import importlib.metadata
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import Index

FEWEST_FOR_HASHING = 16
"""Candidates below which ScaNN cannot train its codebook of 16 centres a block."""
DIMS_PER_BLOCK = 2
"""Dimensions that share one code, ScaNN's recommendation."""
BATCH_FOR_THREADS = 256
"""Queries from which ScaNN's thread pool pays."""
SPARE = 4
"""A search for many results rescores this many times what is asked for, and searches leaves that hold, on average,
this many times what is rescored; for few results the settings alone decide."""


def scann_available() -> bool:
    """True where the package is installed; it exists for Linux only."""
    return importlib.util.find_spec("scann") is not None


@final
class ScannIndex(Index):
    """ScaNN over inner products.

    From `scann_brute_force_below` candidates on: a tree of `scann_leaves`, anisotropic hashing within the searched
    leaves, and the best `scann_rescore` (more where k asks for more) rescored by their float32 vectors. A search for
    many results searches more leaves than configured, so that they hold them. The float32 vectors are in memory and on
    disk twice, here and in ScaNN. ScaNN trains from random centres: two builds may miss different candidates.
    """

    backend: ClassVar[str] = "scann"
    _searcher: Any

    @property
    def is_tree(self) -> bool:
        """True where candidates are partitioned and hashed, False where ScaNN looks at all of them."""
        return self.size >= max(self.settings.scann_brute_force_below, FEWEST_FOR_HASHING)

    @property
    def num_leaves(self) -> int:
        """Partitions asked of ScaNN, never more than candidates."""
        return min(self.settings.scann_leaves or round(math.sqrt(self.size)), self.size)

    def leaves_to_search(self, depth: int) -> int:
        """Partitions searched for `depth` candidates: as configured, or more where these hold too few."""
        configured = self.settings.scann_leaves_to_search or max(1, self.num_leaves // 10)
        return min(max(configured, math.ceil(SPARE**2 * depth * self.num_leaves / self.size)), self.num_leaves)

    masks: ClassVar[bool] = False

    def _build(self, values_ND: Float32Array) -> None:
        builder = _scann().builder(values_ND, self.settings.scann_rescore, "dot_product")
        if self.is_tree:
            builder = (
                builder.tree(num_leaves=self.num_leaves, num_leaves_to_search=self.leaves_to_search(1))
                .score_ah(
                    DIMS_PER_BLOCK,
                    anisotropic_quantization_threshold=self.settings.scann_anisotropic_threshold,
                )
                .reorder(self.settings.scann_rescore)
            )
        else:
            builder = builder.score_brute_force()
        try:
            self._searcher = builder.build()
        except RuntimeError as error:
            what = f"ScaNN cannot build an index of {self.size:,} vectors of width {self.dim} ({error})"
            raise UserError(what, todo="raise index.scann_brute_force_below, or set fewer index.scann_leaves") from None

    def _propose(self, queries_BD: Float32Array, depth: int, allowed_N: BoolArray | None) -> TopK:
        many = len(queries_BD) >= BATCH_FOR_THREADS
        search = self._searcher.search_batched_parallel if many else self._searcher.search_batched
        tree = {
            "pre_reorder_num_neighbors": max(self.settings.scann_rescore, SPARE * depth),
            "leaves_to_search": self.leaves_to_search(depth),
        }
        rows_BM, scores_BM = search(queries_BD, final_num_neighbors=depth, **(tree if self.is_tree else {}))
        # Where the searched leaves hold fewer than asked for, ScaNN repeats rows and scores them NaN.
        bad_BM = np.isnan(scores_BM)
        rows_BM = np.where(bad_BM, -1, rows_BM.astype(np.int32))
        return TopK(rows=rows_BM, scores=np.where(bad_BM, -np.inf, scores_BM).astype(np.float32))

    def _append(self, values_MD: Float32Array) -> bool:
        return False

    def _forget(self, rows_M: Int32Array) -> bool:
        return False

    def _structure_bytes(self) -> int:
        return 0

    def _save(self, folder: Path) -> None:
        try:
            # Relative: by default the files name each other by absolute path, and the folder could not be moved.
            self._searcher.serialize(str(folder), relative_path=True)
        except RuntimeError as error:
            raise UserError(
                f"ScaNN cannot write ({error})", where=str(folder), todo="free some space and run again"
            ) from None

    def _load(self, folder: Path) -> None:
        # ScaNN unpickles this file where it exists. We never write one, and a pickle can run anything.
        if (folder / "scann_docids.pkl").exists():
            raise UserError("an unknown pickle lies in the folder", where=str(folder), todo="remove scann_docids.pkl")
        try:
            self._searcher = _scann().load_searcher(str(folder))
        except (RuntimeError, ValueError) as error:
            what = f"ScaNN {self._versions()['scann']} cannot read the index ({error})"
            raise UserError(what, where=str(folder), todo="build the index again") from None

    @classmethod
    def _versions(cls) -> Mapping[str, str]:
        return {"scann": importlib.metadata.version("scann")}


def _scann() -> Any:
    try:
        from scann.scann_ops.py import scann_ops_pybind
    except ImportError as error:
        what = f"the package scann cannot be imported ({error}); it exists for Linux only"
        raise UserError(what, todo="use --backend=exact here") from None
    return scann_ops_pybind

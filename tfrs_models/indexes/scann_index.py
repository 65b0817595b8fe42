"""ScaNN: partition, score, rescore; for few candidates, ScaNN's own search of all vectors or of all codes.

ScaNN is used through its Python API, not through TFRS's layer, because the layer sets no anisotropic threshold, caps k
silently at its number of rescored candidates, and has no exclusions that hold.

Source: Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization, ICML 2020; Sun et al.,
SOAR: Improved Indexing for Approximate Nearest Neighbor Search, NeurIPS 2023; ScaNN's docs/algorithms.md for the advice
on sizes.

Letters: B queries, N candidates, D width, M candidates proposed, appended or forgotten.
"""

import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import Index
from tfrs_models.indexes.scann_structure import ScannStructure

BATCH_FOR_THREADS = 256
"""Queries from which ScaNN's thread pool pays."""
SPARE = 2
"""A search for many results rescores this many times what is asked for, and searches leaves that hold, on average, the
square of that times what is rescored; for few results the settings alone decide."""
UPSERT_BATCH = 256
"""Rows that ScaNN codes at a time."""
STRUCTURE, ROWS = "scann_structure.json", "scann_rows.npy"


def scann_available() -> bool:
    """True where the package is installed; it exists for Linux only."""
    return importlib.util.find_spec("scann") is not None


@final
class ScannIndex(Index):
    """ScaNN over inner products.

    All vectors are searched below `scann_brute_force_below` candidates, all codes below `scann_hash_only_below`, and
    from there on the codes in the best partitions. The best `scann_rescore` by the codes (more where k asks for more)
    are proposed, and rescored by what `store` keeps; ScaNN keeps vectors of its own only with `scann_reorder`. A search
    for many results searches more partitions than configured, so that they hold them. ScaNN trains from random centres:
    two builds may miss different candidates.
    """

    backend: ClassVar[str] = "scann"
    masks: ClassVar[bool] = False
    structure: ScannStructure
    """What was chosen when it was built: a catalogue that grows keeps it."""
    _searcher: Any
    _rows: Int32Array | None
    """Row of each of ScaNN's datapoints, by ScaNN's number; None while the two are the same."""

    def leaves_to_search(self, depth: int) -> int:
        """Partitions searched for `depth` candidates: as configured, or more where these hold too few."""
        leaves = self.structure.num_leaves
        roots = 1.5 if self.structure.soar else 3.0
        configured = self.settings.scann_leaves_to_search or math.ceil(roots * math.sqrt(leaves))
        return min(max(configured, math.ceil(SPARE**2 * self.num_rescored(depth) * leaves / self.size)), leaves)

    def num_rescored(self, depth: int) -> int:
        """Candidates chosen by their codes for `depth` results; no more than those where nothing can rescore them."""
        if self.settings.store == "none" and self.structure.reorder == "none":
            return depth
        return max(self.settings.scann_rescore, SPARE * depth)

    def _build(self, values_ND: Float32Array) -> None:
        self.structure = ScannStructure.of(self.settings, *values_ND.shape)
        self._rows = None
        builder = _scann().builder(values_ND, self.settings.scann_rescore, "dot_product")
        try:
            self._searcher = self.structure.configured(builder, self.settings).build()
        except RuntimeError as error:
            what = f"ScaNN cannot build an index of {self.size:,} vectors of width {self.dim} ({error})"
            raise UserError(what, todo="raise index.scann_brute_force_below, or set fewer index.scann_leaves") from None

    def _propose(self, queries_BD: Float32Array, depth: int, allowed_N: BoolArray | None) -> TopK:
        num_points = self._searcher.size()
        rescored = min(self.num_rescored(depth), num_points)
        asked = {"final_num_neighbors": rescored if self.structure.reorder == "none" else min(depth, num_points)}
        if self.structure.kind != "brute_force":
            asked["pre_reorder_num_neighbors"] = rescored
        if self.structure.kind == "tree":
            asked["leaves_to_search"] = self.leaves_to_search(depth)
        if len(queries_BD) == 1:
            # A fifth of a millisecond less than a batch of one.
            points_M, scores_M = self._searcher.search(queries_BD[0], **asked)
            points_BM, scores_BM = points_M[None], scores_M[None]
        else:
            many = len(queries_BD) >= BATCH_FOR_THREADS
            search = self._searcher.search_batched_parallel if many else self._searcher.search_batched
            points_BM, scores_BM = search(queries_BD, **asked)
        # Where the searched leaves hold fewer than asked for, ScaNN repeats datapoints and scores them NaN.
        bad_BM = np.isnan(scores_BM)
        rows_BM = np.where(bad_BM, -1, self._rows_of(points_BM))
        return TopK(rows=rows_BM, scores=np.where(bad_BM, -np.inf, scores_BM).astype(np.float32, copy=False))

    def _rows_of(self, points_BM: Any) -> Int32Array:
        return points_BM.astype(np.int32) if self._rows is None else self._rows[points_BM]

    def _append(self, values_MD: Float32Array) -> bool:
        # Without ScaNN's docids, which it would write as a pickle: datapoints are numbered on, and rows kept here.
        num_new = len(values_MD)
        points = self._searcher.searcher.upsert([None] * num_new, values_MD, UPSERT_BATCH)
        assert points[-1] == self._searcher.size() - 1, "ScaNN numbers new datapoints on from its last"
        if self._rows is not None:
            more = np.arange(self.size, self.size + num_new, dtype=np.int32)
            self._rows = np.concatenate([self._rows, more])
        return True

    def _forget(self, rows_M: Int32Array) -> bool:
        # With SOAR, deleting corrupts ScaNN 1.4.2's memory: the process dies soon after.
        if self.structure.soar:
            return False
        rows = np.arange(self.size, dtype=np.int32) if self._rows is None else self._rows.copy()
        points = np.flatnonzero(np.isin(rows, rows_M))[::-1]
        if len(points) == len(rows):
            return False  # ScaNN searches nothing in an empty index, and says so by an exception.
        for last, point in zip(range(len(rows) - 1, -1, -1), points.tolist(), strict=False):
            # ScaNN fills the gap with its last datapoint. Taken from the back, that one is never itself to be deleted.
            self._searcher.searcher.delete([point])
            rows[point] = rows[last]
        self._rows = rows[: len(rows) - len(points)]
        return True

    def _structure_bytes(self) -> int:
        rows_bytes = 0 if self._rows is None else self._rows.nbytes
        return self.structure.num_bytes(self._searcher.size(), self.dim) + rows_bytes

    def _save(self, folder: Path) -> None:
        (folder / STRUCTURE).write_text(json.dumps(self.structure.as_json()), encoding="utf-8")
        if self._rows is not None:
            np.save(folder / ROWS, self._rows)
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
            self.structure = ScannStructure(**json.loads((folder / STRUCTURE).read_text(encoding="utf-8")))
            self._rows = np.load(folder / ROWS, allow_pickle=False) if (folder / ROWS).exists() else None
            self._searcher = _scann().load_searcher(str(folder))
        except (OSError, RuntimeError, ValueError) as error:
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

"""FAISS by factory string, for the inner product always.

FAISS ships stubs that lack much of what it has: hence the ignored types.

Source: the FAISS wiki, "The index factory" and "MetricType and distances".
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import faiss
import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import Index

EXAMPLES = "Flat; IVF100,Flat; HNSW32; IVF100,PQ8; or SQ8"
SUPPORTED = re.compile(r"(IVF[1-9]\d{0,6},)?(Flat|SQ8|PQ[1-9]\d{0,3})|HNSW([2-9]|[1-9]\d{1,2})(,Flat)?")
"""Not all that FAISS can parse: some strings drop the inner product (HNSW16,PQ8; L2norm,Flat), some end the process
when candidates are added (HNSW0), and OPQ warns on stderr hundreds of times on a small catalogue."""
FILE = "index.faiss"
CODE_DEPTH = 8
"""Where vectors are held as codes, this many times as many candidates are proposed: their order is approximate, and
only what is proposed is rescored by its float32 vector."""
SPARE = 4
"""A search for many results looks through lists, or a queue, that hold this many times what is asked for; for few
results the settings alone decide."""
UNCOMPRESSED = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexHNSWFlat)


@final
class FaissIndex(Index):
    """A FAISS index, trained on all candidates where it needs training.

    IVF searches `faiss_nprobe` lists and HNSW with breadth `faiss_ef_search`. Building HNSW with several threads is not
    repeatable to the link; set OMP_NUM_THREADS=1 where that matters. Codes (PQ, SQ) save memory in FAISS only: the
    float32 vectors are kept here for rescoring, as by every index.
    """

    backend: ClassVar[str] = "faiss"
    _index: Any

    masks: ClassVar[bool] = False

    def _build(self, values_ND: Float32Array) -> None:
        factory = self.settings.faiss_factory
        index = _from_factory(factory, self.dim)
        try:
            index.train(values_ND)
            index.add(values_ND)
        except RuntimeError as error:
            what = f"faiss_factory {factory!r} does not go with {self.size:,} candidates ({_reason(error)})"
            raise UserError(what, todo="use fewer lists (IVF needs one candidate a list, PQ 256), or Flat") from None
        self._index = index

    def _propose(self, queries_BD: Float32Array, depth: int, allowed_N: BoolArray | None) -> TopK:
        if not isinstance(self._index, UNCOMPRESSED):
            depth = min(CODE_DEPTH * depth, self.size)
        scores_BM, rows_BM = self._index.search(queries_BD, depth, params=self._breadth(depth))
        return TopK(rows=rows_BM.astype(np.int32), scores=scores_BM)

    def _append(self, values_MD: Float32Array) -> bool:
        return False

    def _forget(self, rows_M: Int32Array) -> bool:
        return False

    def _structure_bytes(self) -> int:
        return 0

    def _breadth(self, depth: int) -> Any:
        """How broadly to search for `depth` candidates: as configured, or more where that holds too few."""
        if isinstance(self._index, faiss.IndexIVF):
            lists = math.ceil(SPARE * depth * self._index.nlist / self.size)
            num_lists = min(max(self.settings.faiss_nprobe, lists), self._index.nlist)
            return faiss.SearchParametersIVF(nprobe=num_lists)  # type: ignore[call-arg]
        if isinstance(self._index, faiss.IndexHNSW):
            breadth = max(self.settings.faiss_ef_search, SPARE * depth)
            return faiss.SearchParametersHNSW(efSearch=breadth)  # type: ignore[attr-defined]
        return None

    def _save(self, folder: Path) -> None:
        # Through Python's file: FAISS's own one only prints when closing fails, and leaves a short file on a full disk.
        with (folder / FILE).open("wb") as file:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    def _load(self, folder: Path) -> None:
        path = folder / FILE
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            what = f"FAISS {faiss.__version__} cannot read the index ({_reason(error)})"
            raise UserError(what, where=str(path), todo="build the index again") from None
        self._index = index

    @classmethod
    def _versions(cls) -> Mapping[str, str]:
        return {"faiss": faiss.__version__}


def _from_factory(factory: str, dim: int) -> Any:
    where, todo = "index.faiss_factory", f"use {EXAMPLES}; the number after PQ divides the width"
    if not SUPPORTED.fullmatch(factory):
        raise UserError(f"{factory!r} is no factory string that is supported", where=where, todo=todo)
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        what = f"FAISS does not make {factory!r} for vectors of width {dim} ({_reason(error)})"
        raise UserError(what, where=where, todo=todo) from None
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT, f"{factory} drops the metric"
    _set_training(index)
    return index


def _set_training(index: Any) -> None:
    """Train quietly and without ordering the codes.

    With few vectors FAISS warns on stderr, once for every block of a codebook. By default it also orders the codes so
    that a Hamming distance could prefilter them (polysemous codes), a minute for 6,000 vectors, and never used here.
    """
    if isinstance(index, faiss.IndexPQ | faiss.IndexIVFPQ):
        index.do_polysemous_training = False  # type: ignore[union-attr]
    for clustering in (getattr(index, "cp", None), getattr(getattr(index, "pq", None), "cp", None)):
        if clustering is not None:
            clustering.min_points_per_centroid = 1


def _reason(error: RuntimeError) -> str:
    """FAISS's own words, without the C++ signature and source line before them."""
    return str(error).rpartition("Error: ")[2].rpartition(".cpp:")[2].lstrip("0123456789: ")

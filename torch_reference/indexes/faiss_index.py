"""FAISS by named preset or factory string, for the inner product always.

FAISS ships stubs that lack much of what it has: hence the ignored types.

Source: the FAISS wiki, "MetricType and distances" and "Setting search parameters for one query".

Letters: B queries, N candidates, D width, M candidates proposed, appended or forgotten.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

import faiss
import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import Index
from torch_reference.indexes.faiss_factories import factory_for, made, reason
from torch_reference.indexes.faiss_structure import FaissStructure

FILE = "index.faiss"
CODE_DEPTH = 3
"""Where vectors are held as codes, this many times what is asked for is proposed, or `faiss_rescore`: their order is
approximate, and only what is proposed is rescored."""
SPARE = 4
"""A search for many results looks through lists, or a queue, that hold this many times what is asked for; for few
results the settings alone decide."""


@final
class FaissIndex(Index):
    """A FAISS index, trained on the candidates where it needs training.

    IVF searches `faiss_nprobe` lists and HNSW with breadth `faiss_ef_search`. Building HNSW with several threads is not
    repeatable to the link; set OMP_NUM_THREADS=1 where that matters. Codes (PQ, SQ, RaBitQ) save memory in FAISS only:
    what is kept beside them for rescoring is said by `store`. A filter reaches FAISS as a bit map; where the structure
    cannot read one, the search is as much deeper. A graph and fast scan cannot forget.
    """

    backend: ClassVar[str] = "faiss"
    masks: ClassVar[bool] = True
    _structure: FaissStructure

    def num_lists(self, depth: int, allowed_share: float = 1.0) -> int:
        """Lists of an IVF searched for `depth` candidates: as configured, or more where these hold too few."""
        lists = max(1, self._structure.num_lists)
        configured = self.settings.faiss_nprobe or math.ceil(3 * math.sqrt(lists))
        return min(max(configured, math.ceil(SPARE * depth * lists / (self.size * allowed_share))), lists)

    def breadth(self, depth: int) -> int:
        """Breadth of a search in a graph for `depth` candidates."""
        return max(self.settings.faiss_ef_search, SPARE * depth)

    def num_proposed(self, depth: int) -> int:
        """Candidates proposed for `depth` results: more where codes choose them and vectors rescore them."""
        if self._structure.is_exact or self._structure.is_refined or self.settings.store == "none":
            return depth
        return max(self.settings.faiss_rescore, CODE_DEPTH * depth)

    def _build(self, values_ND: Float32Array) -> None:
        factory = factory_for(self.settings, values_ND)
        self._structure = FaissStructure.of(made(factory, self.dim)).with_numbers()
        try:
            self._structure.index.train(values_ND)
            self._add(values_ND, first=0)
        except RuntimeError as error:
            what = f"faiss_factory {factory!r} does not go with {self.size:,} candidates ({reason(error)})"
            raise UserError(what, todo="use fewer lists (IVF needs one candidate a list, PQ 256), or Flat") from None

    def _add(self, values_MD: Float32Array, first: int) -> None:
        """Add vectors by their rows, which are numbered on from `first`; FAISS would number on from what is left."""
        if self._structure.numbers:
            self._structure.index.add_with_ids(values_MD, np.arange(first, first + len(values_MD)))
        else:
            self._structure.index.add(values_MD)

    def _propose(self, queries_BD: Float32Array, depth: int, allowed_N: BoolArray | None) -> TopK:
        share = 1.0 if allowed_N is None else max(1, int(np.count_nonzero(allowed_N))) / self.size
        proposed = self.num_proposed(depth)
        if not self._structure.masks:
            proposed = math.ceil(proposed / share)
        parameters = self._structure.parameters(
            num_lists=self.num_lists(depth, share), breadth=self.breadth(depth), allowed_N=allowed_N
        )
        scores_BM, rows_BM = self._structure.index.search(queries_BD, min(proposed, self.size), params=parameters)
        return TopK(rows=rows_BM.astype(np.int32), scores=np.where(rows_BM < 0, -np.inf, scores_BM))

    def _append(self, values_MD: Float32Array) -> bool:
        self._add(values_MD, first=self.size)
        return True

    def _forget(self, rows_M: Int32Array) -> bool:
        if not self._structure.forgets:
            return False
        self._structure.index.remove_ids(rows_M.astype(np.int64))
        return True

    def _structure_bytes(self) -> int:
        return self._structure.num_bytes()

    def _save(self, folder: Path) -> None:
        # Through Python's file: FAISS's own one only prints when closing fails, and leaves a short file on a full disk.
        with (folder / FILE).open("wb") as file:
            faiss.write_index(self._structure.index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    def _load(self, folder: Path) -> None:
        path = folder / FILE
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            what = f"FAISS {faiss.__version__} cannot read the index ({reason(error)})"
            raise UserError(what, where=str(path), todo="build the index again") from None
        self._structure = FaissStructure.of(index)

    @classmethod
    def _versions(cls) -> Mapping[str, str]:
        return {"faiss": faiss.__version__}

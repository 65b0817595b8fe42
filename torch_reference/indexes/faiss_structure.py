"""What a FAISS index is made of and can do: its parts, its memory, and the parameters of a search in it.

FAISS ships stubs that lack much of what it has: hence the ignored types.

Letters: N candidates.
"""

from dataclasses import dataclass
from typing import Any, Final, Self, final

import faiss
import numpy as np

from retrieval_contract.arrays import BoolArray

EXACT = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexHNSWFlat)
FAST_SCAN = (faiss.IndexFastScan, faiss.IndexIVFFastScan)  # type: ignore[attr-defined]
UNMASKED = (faiss.IndexPQ, faiss.IndexFastScan)  # type: ignore[attr-defined]
NUMBER_BYTES: Final = 8
"""FAISS's number of a candidate."""
REFINED: Final = 4.0
"""Where FAISS reorders by vectors of its own, this many times what is asked for."""


def parts(index: Any) -> list[Any]:
    """An index and what it wraps, the outermost first; a refining index leads on to the one it refines."""
    found = [index]  # The object itself: what `downcast_index` gives does not keep the index alive.
    while True:
        last = found[-1]
        if isinstance(last, faiss.IndexIDMap | faiss.IndexPreTransform):
            found.append(faiss.downcast_index(last.index))
        elif isinstance(last, faiss.IndexRefine):
            found.append(faiss.downcast_index(last.base_index))
        else:
            return found


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FaissStructure:
    """An index, whole and by parts."""

    index: Any
    """The outermost."""
    parts: tuple[Any, ...]
    """From the outermost to the one that holds codes or vectors."""

    @classmethod
    def of(cls, index: Any) -> Self:
        """Take an index apart."""
        found = parts(index)
        return cls(index=found[0], parts=tuple(found))

    @property
    def base(self) -> Any:
        """What holds codes or vectors."""
        return self.parts[-1]

    @property
    def is_refined(self) -> bool:
        """FAISS keeps vectors of its own to reorder by."""
        return any(isinstance(part, faiss.IndexRefine) for part in self.parts)

    @property
    def is_exact(self) -> bool:
        """Its scores are inner products of the vectors themselves."""
        return isinstance(self.base, EXACT) and not self.is_refined

    @property
    def num_lists(self) -> int:
        """Lists of an IVF; 0 for others."""
        return int(self.base.nlist) if isinstance(self.base, faiss.IndexIVF) else 0

    @property
    def masks(self) -> bool:
        """It can be told which candidates count."""
        return not isinstance(self.base, UNMASKED)

    @property
    def numbers(self) -> bool:
        """It keeps the number of each candidate; without, a candidate's number is its place, and none can go."""
        if self.is_refined:
            return False
        return isinstance(self.base, faiss.IndexIVF) or any(isinstance(part, faiss.IndexIDMap) for part in self.parts)

    @property
    def forgets(self) -> bool:
        """It can drop candidates.

        Fast scan could, but what is added afterwards is coded over the remains of what was dropped (FAISS 1.15.1: of
        2,000 removed from 6,000 and added again, one in four is not found any more).
        """
        return self.numbers and not isinstance(self.base, FAST_SCAN)

    def with_numbers(self) -> Self:
        """The same, empty, keeping numbers where it can and would not by itself."""
        if self.numbers or self.is_refined or isinstance(self.base, faiss.IndexHNSW):
            return self
        return type(self).of(faiss.IndexIDMap(self.index))

    def parameters(self, *, num_lists: int, breadth: int, allowed_N: BoolArray | None) -> Any:
        """How to search: `num_lists` of an IVF, `breadth` of a graph, only what is allowed where that can be told."""
        told: dict[str, Any] = {}
        if allowed_N is not None and self.masks:
            told["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed_N, bitorder="little"))  # type: ignore[arg-type, call-arg]
        parameters: Any = None
        if isinstance(self.base, faiss.IndexIVF):
            parameters = faiss.SearchParametersIVF(nprobe=num_lists, **told)  # type: ignore[call-arg]
        elif isinstance(self.base, faiss.IndexHNSW):
            parameters = faiss.SearchParametersHNSW(efSearch=breadth, **told)  # type: ignore[attr-defined]
        elif told:
            parameters = faiss.SearchParameters(**told)  # type: ignore[call-arg]
        for part in reversed(self.parts[:-1] if parameters is not None else ()):
            if isinstance(part, faiss.IndexPreTransform):
                parameters = faiss.SearchParametersPreTransform(index_params=parameters)  # type: ignore[call-arg]
            elif isinstance(part, faiss.IndexRefine):
                parameters = faiss.IndexRefineSearchParameters(  # type: ignore[call-arg]
                    k_factor=REFINED, base_index_params=parameters
                )
        return parameters

    def num_bytes(self) -> int:
        """Memory of codes or vectors, numbers, links and centres."""
        return sum(_own_bytes(part) for part in self.parts)


def _own_bytes(part: Any) -> int:
    downcast: Any = faiss.downcast_index
    if isinstance(part, faiss.IndexIDMap):
        return NUMBER_BYTES * int(part.ntotal)
    if isinstance(part, faiss.IndexPreTransform):
        return 4 * int(part.d) * int(part.index.d)
    if isinstance(part, faiss.IndexRefine):
        return int(part.ntotal * downcast(part.refine_index).code_size)
    if isinstance(part, faiss.IndexIVF):
        return int(part.ntotal * (part.code_size + NUMBER_BYTES) + 4 * part.nlist * part.d)
    if isinstance(part, faiss.IndexHNSW):
        links: Any = part.hnsw
        held = downcast(part.storage).code_size * part.ntotal
        return int(held + 4 * links.neighbors.size() + 8 * links.offsets.size() + 4 * links.levels.size())
    return int(part.ntotal * part.code_size)

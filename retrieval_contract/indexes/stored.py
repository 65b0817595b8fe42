"""What an index keeps of the candidate vectors, so that scores are inner products whatever its structure holds.

float32  the vectors, 4 D bytes a candidate
float16  rounded to 11 bits, 2 D bytes
int8     rounded to 255 steps between -1 and 1 times the row's largest number, D + 4 bytes
none     nothing: scores and their order are the structure's own

Letters: N candidates, B queries, D width, M rows taken, P pairs of query and candidate.
"""

from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array, Int32Array, Int64Array
from retrieval_contract.errors import UserError

Store = Literal["float32", "float16", "int8", "none"]
STEPS = 127
"""Largest code of int8; -128 is not used, so that codes are symmetric."""
BLOCK = 65_536
"""Rows decoded at a time where all are looked at."""
CHUNK_BYTES = 2_000_000
"""Bound on each temporary array of pairs: what a cache holds is computed three times as fast as what it does not."""
CODES, SCALES = "stored.npy", "scales.npy"


@final
class StoredVectors:
    """Candidate vectors in a stated precision; what comes out is float32, the same number each time."""

    def __init__(self, kind: Store, codes: NDArray[Any], scales_N: Float32Array | None) -> None:
        """Take arrays as they are; `keep` and `read` make them.

        Args:
            kind: precision.
            codes: [N, D]; for `none` an empty array of that shape that holds nothing.
            scales_N: of int8, what a code of 1 means in each row.
        """
        self.kind = kind
        self._codes = codes.view()
        self._codes.flags.writeable = False
        self._scales_N = scales_N
        self.largest_norm = self._largest_norm()

    @classmethod
    def keep(cls, values_ND: Float32Array, kind: Store) -> Self:
        """Round vectors to a precision; float32 keeps the array itself.

        Raises:
            UserError: numbers that the precision cannot hold.
        """
        if kind == "int8":
            largest_N = np.abs(values_ND).max(axis=1)
            scales_N = np.where(largest_N > 0, largest_N / STEPS, 1).astype(np.float32)
            codes = np.empty(values_ND.shape, np.int8)
            for start in range(0, len(codes), BLOCK):
                rows = slice(start, start + BLOCK)
                codes[rows] = np.rint(values_ND[rows] / scales_N[rows, None]).clip(-STEPS, STEPS)
            return cls(kind, codes, scales_N)
        if kind == "float16":
            with np.errstate(over="ignore"):
                halves = values_ND.astype(np.float16)
            if not np.isfinite(halves).all():
                todo = "use float32 or int8"
                raise UserError("candidate vectors are too large for float16", where="index.store", todo=todo)
            return cls(kind, halves, None)
        if kind == "none":
            return cls(kind, np.broadcast_to(np.float32(0), values_ND.shape), None)
        return cls(kind, np.ascontiguousarray(values_ND), None)

    @property
    def size(self) -> int:
        """Candidates N."""
        return int(self._codes.shape[0])

    @property
    def dim(self) -> int:
        """Width D."""
        return int(self._codes.shape[1])

    @property
    def num_bytes(self) -> int:
        """Memory of the arrays."""
        if self.kind == "none":
            return 0
        return int(self._codes.nbytes + (0 if self._scales_N is None else self._scales_N.nbytes))

    def take(self, rows_M: Int32Array | Int64Array) -> Float32Array:
        """Vectors of some rows [M, D]."""
        assert self.kind != "none", "nothing is stored"
        return self._decoded(rows_M)

    def all(self) -> Float32Array:
        """Every vector [N, D]; of float32 the array itself, read only."""
        return self._codes if self.kind == "float32" else self._decoded(slice(None))

    def products(self, queries_BD: Float32Array) -> Float32Array:
        """Float32 matrix products with every vector [B, N], in the rounding of the library: rough scores."""
        if self.kind == "float32":
            return queries_BD @ self._codes.T
        scores_BN = np.empty((len(queries_BD), self.size), np.float32)
        for start in range(0, self.size, BLOCK):
            rows = slice(start, start + BLOCK)
            scores_BN[:, rows] = queries_BD @ self._decoded(rows).T
        return scores_BN

    def copy_into(self, rows: slice, values_TD: Float32Array) -> None:
        """Write the vectors of some rows into an array [T, D]."""
        values_TD[:] = self._codes[rows]
        if self._scales_N is not None:
            values_TD *= self._scales_N[rows][:, None]

    def scores(self, queries_BD: Float32Array, at_P: Int64Array, rows_P: Int32Array | Int64Array) -> Float32Array:
        """Exact scores of pairs: inner products in float64, rounded to float32.

        Args:
            queries_BD: query vectors.
            at_P: place of each pair's query among them.
            rows_P: its candidate.
        """
        scores_P = np.empty(len(rows_P), np.float32)
        num_pairs = max(1, CHUNK_BYTES // (8 * self.dim))
        for start in range(0, len(rows_P), num_pairs):
            part = slice(start, start + num_pairs)
            # A copy of the one query for each candidate would cost more than all else, and change no number.
            query_PD = (queries_BD if len(queries_BD) == 1 else queries_BD[at_P[part]]).astype(np.float64)
            scores_P[part] = np.einsum("pd,pd->p", query_PD, self.take(rows_P[part]).astype(np.float64))
        return scores_P

    def arrays(self) -> tuple[NDArray[Any], Float32Array | None]:
        """The codes [N, D], and of int8 what a code of 1 means in each row [N]: for a graph that decodes by itself."""
        assert self.kind != "none", "nothing is stored"
        return self._codes, self._scales_N

    def extended(self, values_MD: Float32Array) -> "StoredVectors":
        """These and M more, behind them."""
        more = StoredVectors.keep(values_MD, self.kind)
        if self.kind == "none":
            shape = (self.size + more.size, self.dim)
            return StoredVectors("none", np.broadcast_to(np.float32(0), shape), None)
        scales = None
        if self._scales_N is not None and more._scales_N is not None:
            scales = np.concatenate([self._scales_N, more._scales_N])
        return StoredVectors(self.kind, np.concatenate([self._codes, more._codes]), scales)

    def write(self, folder: Path) -> None:
        """Write the arrays as files of `folder`; of `none` there are no files."""
        if self.kind == "none":
            return
        np.save(folder / CODES, self._codes)
        if self._scales_N is not None:
            np.save(folder / SCALES, self._scales_N)

    @classmethod
    def read(cls, folder: Path, kind: Store, shape: tuple[int, int]) -> Self:
        """Read what `write` wrote; the files have been checked against their digests."""
        if kind == "none":
            return cls(kind, np.broadcast_to(np.float32(0), shape), None)
        codes = np.load(folder / CODES, allow_pickle=False)
        return cls(kind, codes, np.load(folder / SCALES, allow_pickle=False) if kind == "int8" else None)

    def _decoded(self, rows: Any) -> Float32Array:
        # `take` copies whole rows, in two thirds of the time that indexing by an array needs.
        codes = self._codes[rows] if isinstance(rows, slice) else self._codes.take(rows, axis=0)
        values = codes.astype(np.float32, copy=False)
        if self._scales_N is not None:
            values *= self._scales_N[rows][:, None]
        return values

    def _largest_norm(self) -> float:
        if self.kind == "none":
            return 0.0
        blocks = (self._decoded(slice(start, start + BLOCK)) for start in range(0, self.size, BLOCK))
        return max((float(norms(block).max()) for block in blocks), default=0.0)


def norms(vectors_ND: Float32Array) -> NDArray[np.float64]:
    """Euclidean lengths [N], in float64, where squares of float32 cannot overflow."""
    return np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND, dtype=np.float64))

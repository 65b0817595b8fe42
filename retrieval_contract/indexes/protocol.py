"""The contract of every index: built from `Vectors`, searched by query vectors, saved with the digest of its weights.

An implementation only proposes: it says which candidates are probably the best. All else is done here once: checks,
exact scores in place of approximate ones, ties, exclusions, padding, saving and loading.
"""

import abc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np
import pydantic

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Int32Array, TopK, Vectors
from retrieval_contract.errors import UserError, first_rows
from retrieval_contract.files import replacing_folder
from retrieval_contract.indexes.brute_force import exact_top_k, norms, rank
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.interests import merged
from retrieval_contract.manifest import read_manifest, write_manifest
from retrieval_contract.vectors.store import check_vectors, read_vectors, write_vectors

KIND = "index"
DEEP = 8
"""Where this share of the candidates is asked for, one in so many, a structure saves nothing and all are looked at."""


class Index(abc.ABC):
    """Search of the candidates with the largest inner product; made by `build` or `load`, never by the constructor.

    Every index keeps the float32 vectors beside its own structure (4 N D bytes, in memory and on disk): scores are
    inner products of those, whatever the structure holds, and what it cannot answer is answered by looking at all.
    """

    backend: ClassVar[str]
    """Name in the configuration, and in the manifest of a saved index."""

    @final
    def __init__(self, vectors: Vectors, settings: config.Index) -> None:
        self._vectors = vectors
        self._settings = settings
        self._values_ND = np.ascontiguousarray(vectors.values).view()
        self._values_ND.flags.writeable = False
        self._largest_norm = float(norms(self._values_ND).max())

    # ------------------------------------------------------------ what an implementation states

    @abc.abstractmethod
    def _build(self) -> None:
        """Make the structure from `self._values_ND` and `self._settings`.

        Raises:
            UserError: the settings do not go with these vectors, or the library is not installed.
        """

    @abc.abstractmethod
    def _propose(self, queries_BD: Float32Array, depth: int) -> Int32Array:
        """Propose about `depth` candidates a query, better ones first in intent; order and scores do not matter.

        Args:
            queries_BD: finite query vectors, B of 1 or more, C-contiguous.
            depth: at least 1, and less than one in `DEEP` of the candidates.

        Returns:
            Candidate rows [B, any], -1 where there is none; repeated rows do no harm.
        """

    @abc.abstractmethod
    def _save(self, folder: Path) -> None:
        """Write the structure as files directly in `folder`; sub-folders would not be covered by the manifest.

        Raises:
            OSError, UserError: the disk is full; an OSError is reworded by `save`.
        """

    @abc.abstractmethod
    def _load(self, folder: Path) -> None:
        """Read what `_save` wrote; the files have been checked against their digests."""

    @classmethod
    @abc.abstractmethod
    def _versions(cls) -> Mapping[str, str]:
        """Versions of the libraries that the structure depends on, for the manifest."""

    # ------------------------------------------------------------ what is the same for all

    @final
    @classmethod
    def build(cls, vectors: Vectors, settings: config.Index) -> Self:
        """Build an index; the vectors are kept, not copied, and must not be written afterwards.

        Raises:
            UserError: vectors that are empty or not finite, ids that are not distinct, or settings that do not fit.
        """
        check_vectors(vectors)
        index = cls(vectors, settings)
        index._build()
        return index

    @final
    def search(
        self,
        queries: Float32Array,
        k: int,
        *,
        weights_digest: str,
        excluded: Sequence[Int32Array] | None = None,
    ) -> TopK:
        """Find the K candidates with the largest inner product, approximately where the backend approximates.

        Exclusions make a query search deeper by as many; where the backend then comes back with fewer than K, or with a
        tie that it cannot settle, all candidates are looked at for that query, so K results come whenever K exist.

        Args:
            queries: query vectors [B, D], finite; B may be 0. With several vectors for each query, [B, I, D], a
                candidate's score is its largest over them: each is searched for, and the results are merged.
            k: results a query, 1 to N.
            weights_digest: digest of the weights that made the queries; must be that of the candidates.
            excluded: for each query, rows not to return [any]; None excludes nothing.

        Returns:
            Rows and scores [B, K], best first, ties by the smaller row; where exclusions leave fewer than K, the rest
            holds row -1 and score -inf. A score is the inner product in float64, rounded to float32.

        Raises:
            UserError: queries of other weights or another width, NaN, k outside 1 to N, or a row that does not exist.
        """
        num_interests = queries.shape[1] if queries.ndim == 3 else 1
        queries_BD = self._checked_queries(queries, weights_digest)
        self._check_k(k)
        barred = Excluded.from_rows(excluded, num_queries=len(queries), size=self.size).repeated(num_interests)
        top = self._search_each(queries_BD, k, barred)
        return top if num_interests == 1 else merged(top, num_interests)

    def _search_each(self, queries_BD: Float32Array, k: int, barred: Excluded) -> TopK:
        """Search for every vector by itself."""
        rows_BK = np.full((len(queries_BD), k), -1, np.int32)
        scores_BK = np.full((len(queries_BD), k), -np.inf, np.float32)
        # Powers of two: a handful of calls however unequal the queries' exclusions are, and some slack to see ties by.
        depths_B = 2 ** np.ceil(np.log2(k + 1 + barred.counts)).astype(np.int64)
        for depth in np.unique(depths_B):
            at = np.flatnonzero(depths_B == depth)
            top = self._search_to(int(depth), queries_BD[at], k, barred.at(at))
            rows_BK[at], scores_BK[at] = top.rows, top.scores
        return TopK(rows=rows_BK, scores=scores_BK)

    @final
    def save(self, folder: Path) -> None:
        """Write the index, its vectors and its manifest, whole or not at all; a folder of that name is replaced.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        with replacing_folder(folder) as beside:
            write_vectors(beside / "vectors", self._vectors)
            self._save(beside)
            fields = {
                "backend": self.backend,
                "weights_digest": self.weights_digest,
                "size": self.size,
                "dim": self.dim,
                "settings": self._settings.model_dump(mode="json"),
                "versions": {"numpy": np.__version__, **self._versions()},
            }
            write_manifest(beside, KIND, fields)

    @final
    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an index that `save` wrote, wherever the folder lies now.

        Raises:
            UserError: missing or damaged, of another backend, or one that the installed library cannot read.
        """
        manifest = read_manifest(folder, KIND)
        if manifest["backend"] != cls.backend:
            what = f"the saved index is of backend {manifest['backend']!r}, not {cls.backend!r}"
            raise UserError(what, where=str(folder), todo="ask for that backend, or build the index again")
        index = cls(read_vectors(folder / "vectors"), _read_settings(manifest["settings"], folder))
        index._load(folder)
        return index

    @final
    @property
    def ids(self) -> tuple[str, ...]:
        """Candidate ids [N]: the id of a result is `ids[row]`."""
        return self._vectors.ids

    @final
    @property
    def size(self) -> int:
        """Candidates N."""
        return self._values_ND.shape[0]

    @final
    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self._values_ND.shape[1]

    @final
    @property
    def weights_digest(self) -> str:
        """Digest of the weights that made the candidate vectors."""
        return self._vectors.weights_digest

    def _search_to(self, depth: int, queries_BD: Float32Array, k: int, excluded: Excluded) -> TopK:
        if DEEP * depth >= self.size:
            return exact_top_k(self._values_ND, queries_BD, k, excluded, largest_norm=self._largest_norm)
        rows_BM = self._propose(queries_BD, depth)
        top, settled_B = rank(self._values_ND, queries_BD, rows_BM, k, excluded)
        open_places = np.flatnonzero(~settled_B)
        if open_places.size:
            again = exact_top_k(
                self._values_ND,
                queries_BD[open_places],
                k,
                excluded.at(open_places),
                largest_norm=self._largest_norm,
            )
            top.rows[open_places], top.scores[open_places] = again.rows, again.scores
        return top

    def _checked_queries(self, queries: Float32Array, weights_digest: str) -> Float32Array:
        """Every query vector by itself [B I, D]."""
        if weights_digest != self.weights_digest:
            where = f"index {self.weights_digest[:12]}, queries {weights_digest[:12]}"
            raise UserError(
                "the index was built from other weights", where=where, todo="embed and build the index again"
            )
        if queries.ndim not in (2, 3) or queries.shape[-1] != self.dim or (queries.ndim == 3 and not queries.shape[1]):
            what = f"query vectors have shape {queries.shape}, the index holds vectors of width {self.dim}"
            raise UserError(what, todo=f"give [B, {self.dim}]; one query is [1, {self.dim}]")
        bad = np.flatnonzero(~np.isfinite(queries.reshape(len(queries), np.prod(queries.shape[1:]))).all(axis=1))
        if bad.size:
            raise UserError(
                "query vectors hold NaN or infinity", where=first_rows(bad.tolist(), bad.size), todo="train again"
            )
        queries_BD = np.ascontiguousarray(queries.reshape(-1, self.dim), dtype=np.float32)
        if norms(queries_BD).max(initial=0.0) * self._largest_norm > np.finfo(np.float32).max / 2:
            raise UserError(
                "vectors so long that a score would overflow float32", todo="train again with a lower learning rate"
            )
        return queries_BD

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= self.size:
            raise UserError(
                f"k is {k:,}, the catalogue holds {self.size:,} candidates", todo=f"ask for 1 to {self.size:,}"
            )


def _read_settings(tree: object, folder: Path) -> config.Index:
    try:
        return config.Index.model_validate_json(json.dumps(tree))
    except pydantic.ValidationError:
        todo = "build the index again"
        raise UserError("the saved settings are not those of this version", where=str(folder), todo=todo) from None

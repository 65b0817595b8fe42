"""The contract of every index: built from `Vectors`, searched by query vectors, saved with the digest of its weights.

An implementation only proposes: it says which candidates are probably the best. All else is done here once: checks,
exact scores in place of approximate ones, ties, exclusions, padding, saving and loading.
"""

import abc
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np

from retrieval_contract import config
from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK, Vectors
from retrieval_contract.errors import UserError
from retrieval_contract.files import read_steadily, replacing_folder
from retrieval_contract.indexes.attributes import Attributes, Filter
from retrieval_contract.indexes.brute_force import exact_top_k
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.interests import merged
from retrieval_contract.indexes.questions import check_digest, check_k, checked_queries, groups
from retrieval_contract.indexes.routes import Routes
from retrieval_contract.indexes.saved import read_parts, read_settings, write_parts
from retrieval_contract.indexes.stored import StoredVectors
from retrieval_contract.manifest import read_manifest, write_manifest
from retrieval_contract.vectors.store import check_vectors

KIND = "index"
FORGOTTEN = "\0forgotten "
"""In front of the row's number: the id of a row that was forgotten, which no candidate has."""


class Index(abc.ABC):
    """Search of the candidates with the largest inner product; made by `build` or `load`, never by the constructor.

    Beside its structure an index keeps the vectors, as precise as `index.store` says: scores are inner products of
    those, whatever the structure holds, and what it cannot answer is answered by looking at all. With `store` none the
    structure stands alone, and its scores and their order are approximate.
    """

    backend: ClassVar[str]
    """Name in the configuration, and in the manifest of a saved index."""
    masks: ClassVar[bool]
    """`_propose` heeds `allowed_N`; where it does not, a filtered search asks for more and drops the others."""

    @final
    def __init__(
        self, *, ids: tuple[str, ...], stored: StoredVectors, weights_digest: str, settings: config.Index
    ) -> None:
        self.ids = ids
        """Candidate ids [N]: the id of a result is `ids[row]`."""
        self.weights_digest = weights_digest
        """Digest of the weights that made the candidate vectors."""
        self.settings = settings
        self.attributes = Attributes.none(len(ids))
        """What a request may filter by."""
        self.measured: Mapping[str, Any] = {}
        """What was measured of this index, such as its recall, when it was saved."""
        self._stored = stored
        self.living_N: BoolArray | None = None
        """False for rows that were forgotten; None where none was."""

    # ------------------------------------------------------------ what an implementation states

    @abc.abstractmethod
    def _build(self, values_ND: Float32Array) -> None:
        """Make the structure from all vectors and `self.settings`; the array itself need not be kept.

        Raises:
            UserError: the settings do not go with these vectors, or the library is not installed.
        """

    @abc.abstractmethod
    def _propose(self, queries_BD: Float32Array, depth: int, allowed_N: BoolArray | None) -> TopK:
        """Propose about `depth` candidates a query.

        Args:
            queries_BD: finite query vectors, B of 1 or more, C-contiguous.
            depth: at least 1; with stored vectors less than one in `DEEP` of the candidates, without them up to N.
            allowed_N: candidates that count, or None; a backend that does not mask may propose others too.

        Returns:
            Candidate rows [B, any], -1 where there is none, repeated rows do no harm; and the structure's own scores of
            them, which count only where no vectors are stored.
        """

    @abc.abstractmethod
    def _append(self, values_MD: Float32Array) -> bool:
        """Take M more rows, numbered on from the last; False, and nothing done, where the structure cannot grow."""

    @abc.abstractmethod
    def _forget(self, rows_M: Int32Array) -> bool:
        """Propose some rows no more; False, and nothing done, where the structure cannot."""

    @abc.abstractmethod
    def _structure_bytes(self) -> int:
        """Memory of the structure, as well as it can be told."""

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
    def build(cls, vectors: Vectors, settings: config.Index, attributes: Attributes | None = None) -> Self:
        """Build an index; float32 vectors are kept, not copied, and must not be written afterwards.

        Args:
            vectors: of the catalogue.
            settings: the run's `index`.
            attributes: what requests may filter by; by default nothing.

        Raises:
            UserError: vectors that are empty or not finite, ids that are not distinct, or settings that do not fit.
        """
        check_vectors(vectors)
        values_ND = np.ascontiguousarray(vectors.values)
        stored = StoredVectors.keep(values_ND, settings.store)
        index = cls(ids=vectors.ids, stored=stored, weights_digest=vectors.weights_digest, settings=settings)
        if attributes is not None:
            assert attributes.size == index.size, "one entry a candidate"
            index.attributes = attributes
        index._build(values_ND)
        return index

    @final
    def search(
        self,
        queries: Float32Array,
        k: int,
        *,
        weights_digest: str,
        excluded: Sequence[Int32Array] | None = None,
        filters: Sequence[Filter | None] | None = None,
        allowed: BoolArray | None = None,
    ) -> TopK:
        """Find the K candidates with the largest inner product, approximately where the backend approximates.

        Exclusions make a query search deeper by as many, filters by as much as they leave out; a filter that leaves few
        is answered by scoring those. Where the backend comes back with fewer than K, or with a tie that it cannot
        settle, all that is allowed is looked at, so K results come whenever K exist.

        Args:
            queries: query vectors [B, D], finite; B may be 0. With several vectors for each query, [B, I, D], a
                candidate's score is its largest over them: each is searched for, and the results are merged.
            k: results a query, 1 to N.
            weights_digest: digest of the weights that made the queries; must be that of the candidates.
            excluded: for each query, rows not to return [any]; None excludes nothing.
            filters: for each query, accepted values by attribute; None filters nothing.
            allowed: candidates that count, the same for all queries [N]; None allows all.

        Returns:
            Rows and scores [B, K], best first, ties by the smaller row; where fewer than K are left, the rest holds row
            -1 and score -inf. A score is the inner product of the stored vector in float64, rounded to float32.

        Raises:
            UserError: queries of other weights or another width, NaN, k outside 1 to N, a row that does not exist, or
                an attribute that candidates do not have.
        """
        num_interests = queries.shape[1] if queries.ndim == 3 else 1
        check_digest(self.weights_digest, weights_digest)
        queries_BD = checked_queries(queries, self.dim, self._stored.largest_norm)
        check_k(k, self.size)
        barred = Excluded.from_rows(excluded, num_queries=len(queries), size=self.size).repeated(num_interests)
        routes = Routes(stored=self._stored, propose=self._propose, masks=self.masks)
        top = TopK(
            rows=np.full((len(queries_BD), k), -1, np.int32), scores=np.full((len(queries_BD), k), -np.inf, np.float32)
        )
        if self.living_N is not None and (allowed is None or allowed.shape == self.living_N.shape):
            allowed = self.living_N if allowed is None else self.living_N & allowed
        for places, allowed_N in groups(self.attributes, len(queries), filters, allowed):
            at = (places[:, None] * num_interests + np.arange(num_interests)).reshape(-1)
            found = routes.search(queries_BD[at], k, barred.at(at), allowed_N)
            top.rows[at], top.scores[at] = found.rows, found.scores
        return top if num_interests == 1 else merged(top, num_interests)

    @final
    def save(self, folder: Path, *, measured: Mapping[str, Any] | None = None) -> None:
        """Write the index, its vectors and its manifest, whole or not at all; a folder of that name is replaced.

        Args:
            folder: where to.
            measured: JSON values to travel in the manifest, such as the recall that was measured; by default what this
                index came with.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        with replacing_folder(folder) as beside:
            write_parts(beside, self.ids, self._stored, self.attributes, self.weights_digest)
            self._save(beside)
            fields = {
                "backend": self.backend,
                "weights_digest": self.weights_digest,
                "size": self.size,
                "dim": self.dim,
                "settings": self.settings.model_dump(mode="json"),
                "attributes": list(self.attributes.names),
                "forgotten": [] if self.living_N is None else np.flatnonzero(~self.living_N).tolist(),
                "measured": dict(self.measured if measured is None else measured),
                "versions": {"numpy": np.__version__, **self._versions()},
            }
            write_manifest(beside, KIND, fields)

    @final
    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an index that `save` wrote, wherever the folder lies now; one that is replaced meanwhile is read again.

        Raises:
            UserError: missing or damaged, of another backend, or one that the installed library cannot read.
        """
        return read_steadily(folder, cls._read)

    @classmethod
    def _read(cls, folder: Path) -> Self:
        manifest = read_manifest(folder, KIND)
        if manifest["backend"] != cls.backend:
            what = f"the saved index is of backend {manifest['backend']!r}, not {cls.backend!r}"
            raise UserError(what, where=str(folder), todo="ask for that backend, or build the index again")
        settings = read_settings(manifest["settings"], folder)
        parts = read_parts(folder, settings.store, manifest)
        digest = manifest["weights_digest"]
        index = cls(ids=parts.ids, stored=parts.stored, weights_digest=digest, settings=settings)
        index.attributes, index.measured = parts.attributes, manifest["measured"]
        index._load(folder)
        if manifest.get("forgotten"):
            index._retire(np.array(manifest["forgotten"], np.int32))
        return index

    @final
    def with_settings(self, settings: config.Index) -> Self:
        """The same index, searched otherwise: the structure is shared, so neither of the two may grow or forget then.

        Args:
            settings: as the index's own but for fields of `config.Index.SEARCHED_BY`.
        """
        structures = [each.model_dump(exclude=set(each.SEARCHED_BY)) for each in (self.settings, settings)]
        assert structures[0] == structures[1], "another structure is needed"
        twin = copy.copy(self)
        twin.settings = settings
        return twin

    @final
    def append(self, ids: Sequence[str], values_MD: Float32Array, attributes: Attributes | None = None) -> bool:
        """Take more candidates behind the last row, in place.

        Not for use beside searches: whoever owns the index keeps them apart.

        Args:
            ids: of the M candidates; none may be here already, unless its row was forgotten.
            values_MD: their vectors, checked.
            attributes: of the same names as the index's; None where it has none.

        Returns:
            False, and nothing done, where the structure cannot grow.
        """
        if not self._append(values_MD):
            return False
        self._stored = self._stored.extended(values_MD)
        self.ids = (*self.ids, *ids)
        more = Attributes.none(len(ids)) if attributes is None else attributes
        self.attributes = self.attributes.extended(more) if self.attributes.names else Attributes.none(len(self.ids))
        if self.living_N is not None:
            self.living_N = np.concatenate([self.living_N, np.ones(len(ids), np.bool_)])
        return True

    @final
    def forget(self, rows_M: Int32Array) -> bool:
        """Return some rows no more, in place; their numbers stay taken, their ids are free.

        Not for use beside searches: whoever owns the index keeps them apart.

        Returns:
            False where the structure goes on proposing them: they are dropped afterwards, and searches ask for more.
        """
        dropped = self._forget(rows_M)
        self._retire(rows_M)
        return dropped

    def _retire(self, rows_M: Int32Array) -> None:
        """Mark rows as forgotten, and take their ids away: ids stay distinct when one of them comes back."""
        living_N = np.ones(self.size, np.bool_) if self.living_N is None else self.living_N.copy()
        living_N[rows_M] = False
        self.living_N = living_N
        ids = list(self.ids)
        for row in rows_M.tolist():
            ids[row] = f"{FORGOTTEN}{row}"
        self.ids = tuple(ids)

    @final
    @property
    def size(self) -> int:
        """Candidates N."""
        return self._stored.size

    @final
    @property
    def num_living(self) -> int:
        """Candidates that were not forgotten."""
        return self.size if self.living_N is None else int(np.count_nonzero(self.living_N))

    @final
    def best(self, queries_BD: Float32Array, k: int) -> TopK:
        """The exact best K of the stored vectors, which the index must keep, whatever its structure proposes."""
        none = Excluded.from_rows(None, num_queries=len(queries_BD), size=self.size)
        return exact_top_k(self._stored, queries_BD, k, none, self.living_N)

    @final
    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self._stored.dim

    @final
    @property
    def num_bytes(self) -> int:
        """Memory of vectors, structure and attributes; ids are not counted."""
        return self._stored.num_bytes + self._structure_bytes() + self.attributes.num_bytes

    @final
    def vectors(self, rows_M: Int32Array) -> Float32Array:
        """Stored vectors of some rows [M, D].

        Raises:
            UserError: the index keeps none.
        """
        if self.settings.store == "none":
            todo = "embed them again, or build with another index.store"
            raise UserError("the index keeps no vectors", where="index.store is none", todo=todo)
        return self._stored.take(rows_M)

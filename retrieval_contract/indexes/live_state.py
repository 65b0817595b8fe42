"""The candidates of a live index at one moment: a big index, what was removed of it, and what was added since.

A state never changes; an update makes another one. So a search that began goes on undisturbed. A candidate that is
updated is removed and added: its row is a new one, behind all others.

Letters: B queries, N candidates of the big index, M added since, K results.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK, Vectors
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Attributes, Filter
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.journal import Update
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.indexes.questions import check_digest, check_k


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Search results by id: best first; a place with no result has the id "" and the score -inf."""

    ids: list[list[str]]
    """Candidate ids [B, K]."""
    scores: Float32Array
    """Inner products [B, K], larger is better."""


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate that was added or updated since the big index was made."""

    vector: Float32Array
    """[D]."""
    attributes: tuple[Any, ...]
    """One entry for each attribute's name."""


@final
class State:
    """What is searched: rows 0 to N - 1 are the big index's, the others those of the additions, in their order."""

    def __init__(
        self,
        base: Index,
        row_of: Mapping[str, int],
        living_N: BoolArray | None,
        added: Mapping[str, Entry],
    ) -> None:
        """Take the parts as they are; `of` and `after` make them.

        Args:
            base: the big index, which nobody changes any more.
            row_of: its rows by id.
            living_N: False for its rows that count no more; None where all do.
            added: by id, in order.
        """
        self.base, self.row_of, self.living_N, self.added = base, row_of, living_N, added
        self.num_living = base.size if living_N is None else int(np.count_nonzero(living_N))
        self.delta = _exact(base, added) if added else None
        """The additions, searched exactly."""
        self._delta_row_of = {id_: row for row, id_ in enumerate(added)}

    @classmethod
    def of(cls, base: Index) -> Self:
        """A big index to which nothing has happened."""
        return cls(base, {id_: row for row, id_ in enumerate(base.ids)}, base.living_N, {})

    def after(self, updates: Iterable[Update]) -> "State":
        """The state that updates lead to; each must fit what the one before it left."""
        living_N = np.ones(self.base.size, np.bool_) if self.living_N is None else self.living_N.copy()
        added = dict(self.added)
        for update in updates:
            kept = {} if update.op == "remove" else self._entries(update, living_N, added)
            for id_ in update.ids:
                held = added.pop(id_, None) is not None
                row = self.row_of.get(id_)
                if not held and row is not None and living_N[row]:
                    living_N[row], held = False, True
                assert update.op == "put" or held != (update.op == "add"), f"{update.op} of {id_!r} does not fit"
            added.update(kept)
        return State(self.base, self.row_of, None if living_N.all() else living_N, added)

    @property
    def size(self) -> int:
        """Candidates that can be found."""
        return self.num_living + len(self.added)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the candidates that can be found, in order of rows."""
        return (*(self.base.ids[row] for row in self.living_rows().tolist()), *self.added)

    @property
    def num_pending(self) -> int:
        """Additions, and rows of the big index that were removed since it was made."""
        return len(self.added) + self.base.num_living - self.num_living

    def __contains__(self, id_: str) -> bool:
        """True where a candidate can be found."""
        return id_ in self.added or self._living_row(id_, self.living_N) is not None

    def attributes_of(self, id_: str) -> tuple[Any, ...]:
        """One entry for each attribute's name; of a candidate that is not here, None."""
        if id_ in self.added:
            return self.added[id_].attributes
        row = self._living_row(id_, self.living_N)
        return (None,) * len(self.base.attributes.names) if row is None else self._stored_attributes(row)

    def row_when_grown(self, id_: str) -> int:
        """Row that a candidate has once the big index has taken the additions in; it must be here."""
        added = self._delta_row_of.get(id_)
        return self.row_of[id_] if added is None else self.base.size + added

    def living_rows(self) -> Int32Array:
        """Rows of the big index that count."""
        living = np.arange(self.base.size) if self.living_N is None else np.flatnonzero(self.living_N)
        return living.astype(np.int32)

    def dead_rows(self) -> Int32Array:
        """Rows of the big index that count no more, without those that it forgot itself."""
        if self.living_N is None:
            return np.empty(0, np.int32)
        known = ~self.living_N if self.base.living_N is None else ~self.living_N & self.base.living_N
        return np.flatnonzero(known).astype(np.int32)

    def catalogue(self) -> tuple[Vectors, Attributes]:
        """Everything that can be found, as the big index stores it and as it was added, for a rebuild.

        Raises:
            UserError: the big index keeps no vectors.
        """
        rows = self.living_rows()
        values = [self.base.vectors(rows)] if rows.size else []
        values += [np.stack([entry.vector for entry in self.added.values()])] if self.added else []
        tables = [self.base.attributes.table.take(rows)]
        tables += [self.delta.attributes.table] if self.delta else []
        known = Attributes(pa.concat_tables(tables)) if self.base.attributes.names else Attributes.none(self.size)
        shape = (0, self.base.dim)
        vectors = np.concatenate(values) if values else np.empty(shape, np.float32)
        return Vectors(ids=self.ids, values=vectors, weights_digest=self.base.weights_digest), known

    def search(
        self,
        queries: Float32Array,
        k: int,
        *,
        weights_digest: str,
        excluded_ids: Sequence[Sequence[str]] | None = None,
        filters: Sequence[Filter | None] | None = None,
    ) -> Found:
        """Search as `LiveIndex.search` says."""
        check_digest(self.base.weights_digest, weights_digest)
        check_k(k, self.size)
        if excluded_ids is not None and len(excluded_ids) != len(queries):
            what = f"{len(excluded_ids):,} lists of excluded candidates for {len(queries):,} queries"
            raise UserError(what, todo="give one list for each query, empty where nothing is excluded")

        def ask(index: Index, row_of: Mapping[str, int], allowed: BoolArray | None) -> tuple[tuple[str, ...], TopK]:
            excluded = _excluded(row_of, excluded_ids)
            few = min(k, index.size)
            top = index.search(
                queries, few, weights_digest=weights_digest, excluded=excluded, filters=filters, allowed=allowed
            )
            return index.ids, top

        found = [ask(self.base, self.row_of, self.living_N)] if self.num_living else []
        if self.delta is not None:
            found.append(ask(self.delta, self._delta_row_of, None))
        return _joined(found, k)

    def _living_row(self, id_: str, living_N: BoolArray | None) -> int | None:
        row = self.row_of.get(id_)
        return row if row is not None and (living_N is None or living_N[row]) else None

    def _entries(self, update: Update, living_N: BoolArray, added: Mapping[str, Entry]) -> dict[str, Entry]:
        """What an update adds; without attributes a candidate that is there keeps its own, a new one has none."""
        names = self.base.attributes.names
        entries = {}
        for place, id_ in enumerate(update.ids):
            row = self._living_row(id_, living_N)
            if update.attributes is not None:
                attributes = tuple(update.attributes[name][place] for name in names)
            elif id_ in added:
                attributes = added[id_].attributes
            elif row is not None:
                attributes = self._stored_attributes(row)
            else:
                attributes = (None,) * len(names)
            entries[id_] = Entry(update.values[place], attributes)
        return entries

    def _stored_attributes(self, row: int) -> tuple[Any, ...]:
        return tuple(column[row].as_py() for column in self.base.attributes.table.columns)


def _excluded(row_of: Mapping[str, int], excluded_ids: Sequence[Sequence[str]] | None) -> list[Int32Array] | None:
    """Rows of the ids that are known, for each query; None where there are none, which is quicker."""
    if excluded_ids is None:
        return None
    rows = [[row_of[id_] for id_ in ids if id_ in row_of] for ids in excluded_ids]
    return [np.array(each, np.int32) for each in rows] if any(rows) else None


def _exact(base: Index, added: Mapping[str, Entry]) -> ExactIndex:
    """The additions as an index, its vectors as precise as the big one's; where that keeps none, as they came."""
    store = "float32" if base.settings.store == "none" else base.settings.store
    settings = base.settings.model_copy(update={"backend": "exact", "store": store})
    values_MD = np.stack([entry.vector for entry in added.values()])
    vectors = Vectors(ids=tuple(added), values=values_MD, weights_digest=base.weights_digest)
    schema = base.attributes.table.schema
    columns = zip(*(entry.attributes for entry in added.values()), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    known = Attributes(pa.table(arrays, schema=schema)) if arrays else Attributes.none(len(added))
    return ExactIndex.build(vectors, settings, known)


def _joined(found: Sequence[tuple[Sequence[str], TopK]], k: int) -> Found:
    """The best K of one or two results; those of the first come first where scores are equal."""
    named = [_named(ids, top.rows) for ids, top in found]
    ids_BM = named[0] if len(named) == 1 else [[*old, *new] for old, new in zip(*named, strict=True)]
    scores_BM = np.concatenate([top.scores for _, top in found], axis=1)
    if len(found) > 1:
        order_BK = np.argsort(-scores_BM, axis=1, kind="stable")[:, :k]
        scores_BM = np.take_along_axis(scores_BM, order_BK, axis=1)
        ids_BM = [[ids[place] for place in order] for ids, order in zip(ids_BM, order_BK.tolist(), strict=True)]
    missing = k - scores_BM.shape[1]
    if missing:
        scores_BM = np.pad(scores_BM, ((0, 0), (0, missing)), constant_values=-np.inf)
        ids_BM = [ids + [""] * missing for ids in ids_BM]
    return Found(ids=ids_BM, scores=scores_BM)


def _named(ids: Sequence[str], rows_BM: Int32Array) -> list[list[str]]:
    return [[ids[row] if row >= 0 else "" for row in rows] for rows in rows_BM.tolist()]

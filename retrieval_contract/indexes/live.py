"""An index that changes while it is searched, and whose changes survive `kill -9`.

folder/            a saved index
folder/updates.journal   what happened to it since

Updates are written to the journal, then seen. `rebalance` and `compact` make a new folder beside, with a journal of
what happened meanwhile, and exchange the two in one step: whenever the process is killed, the old index with the old
journal stands there or the new index with the new one, and both mean the same candidates.
"""

import contextlib
import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np

from retrieval_contract.arrays import Float32Array
from retrieval_contract.errors import UserError
from retrieval_contract.files import read_steadily, replacing_folder
from retrieval_contract.indexes.attributes import Filter
from retrieval_contract.indexes.journal import Journal, Op
from retrieval_contract.indexes.live_recall import RecentQueries, num_wanted, recall
from retrieval_contract.indexes.live_state import Found, State
from retrieval_contract.indexes.live_updates import checked_update
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.manifest import NAME as MANIFEST

JOURNAL = "updates.journal"
MOST_FORGOTTEN = 0.25
"""Share of the rows that may be forgotten ones before `rebalance` builds anew: they take memory, and time where the
structure goes on proposing them."""
MOST_LOST = 0.01
"""Recall that a structure may lose by taking updates in before `rebalance` builds anew."""
RECALL_BUILT = "recall_built"
"""Name of that recall among what was measured of an index that was rebalanced."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """Where a move into the big index began."""

    state: State
    end: int
    """Of the journal."""


@final
class LiveIndex:
    """A saved index that takes updates; made by `open`.

    Any number of threads search; a search sees the candidates as they were when it began. Updates are made one after
    the other, by one process. What was added since the index was saved is searched exactly, beside it: call `rebalance`
    when `num_pending` has grown to some thousands.
    """

    def __init__(self, folder: Path, digest: str, state: State, journal: Journal | None) -> None:
        """Take what `open` read.

        Args:
            folder: of the saved index.
            digest: of its manifest.
            state: after all updates of the journal.
            journal: open; None where there is none yet.
        """
        self._folder, self._digest, self._state, self._journal = folder, digest, state, journal
        self._updating = threading.Lock()
        """Held by the one update, or the exchange of the folder."""
        self._moving = threading.Lock()
        """Held by the one `rebalance` or `compact`."""
        self._is_open = True
        self._recent = RecentQueries()

    @classmethod
    def open(cls, folder: Path, kind: type[Index]) -> Self:
        """Read a saved index and replay its journal; nothing is written, and others may read beside.

        Args:
            folder: as `Index.save` wrote it.
            kind: class of the index, as the stack has it for the backend.

        Raises:
            UserError: missing or damaged, of another backend, or a journal that is damaged or another index's.
        """
        return read_steadily(folder, lambda whole: cls._read(whole, kind))

    @classmethod
    def _read(cls, folder: Path, kind: type[Index]) -> Self:
        state, digest = State.of(kind.load(folder)), _digest(folder)
        if not (folder / JOURNAL).exists():
            return cls(folder, digest, state, None)
        journal, updates = Journal.open(folder / JOURNAL, digest)
        return cls(folder, digest, state.after(updates), journal)

    # ------------------------------------------------------------ what it holds

    @property
    def size(self) -> int:
        """Candidates that can be found."""
        return self._state.size

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self._state.base.dim

    @property
    def ids(self) -> tuple[str, ...]:
        """Their ids, older ones first."""
        return self._state.ids

    @property
    def index(self) -> Index:
        """The big index, as it was saved last; its rows are not those of a result."""
        return self._state.base

    @property
    def num_pending(self) -> int:
        """Rows that were added, and rows of the big index that were removed, since that was saved."""
        return self._state.num_pending

    def __contains__(self, id_: str) -> bool:
        """True where the candidate can be found."""
        return id_ in self._state

    def search(
        self,
        queries: Float32Array,
        k: int,
        *,
        weights_digest: str,
        excluded_ids: Sequence[Sequence[str]] | None = None,
        filters: Sequence[Filter | None] | None = None,
    ) -> Found:
        """Find the K candidates with the largest inner product.

        Args:
            queries: [B, D], or [B, I, D] where a query has several vectors.
            k: results a query, 1 to `size`.
            weights_digest: digest of the weights that made the queries.
            excluded_ids: for each query, ids not to return; those that are not here are no fault.
            filters: for each query, accepted values by attribute.

        Returns:
            Ids and scores [B, K], best first, older candidates first where scores are equal; never fewer than K while
            K exist. With `index.store` none the big index's scores are approximate, those of additions exact.

        Raises:
            UserError: as `Index.search`.
        """
        state = self._state
        found = state.search(queries, k, weights_digest=weights_digest, excluded_ids=excluded_ids, filters=filters)
        self._recent.note(queries)
        return found

    # ------------------------------------------------------------ updates

    def add(self, ids: Sequence[str], vectors: Any, attributes: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Add candidates, all or none; they are found by the next search, and on the disk when this returns.

        Args:
            ids: [M], none of which is here; one that was removed may come back.
            vectors: [M, D], of the weights that made the others.
            attributes: by name, for each candidate, a text, a list of texts, or None; what is not given matches no
                filter.

        Raises:
            UserError: see `checked_update`; or the journal cannot be written.
        """
        self._change("add", ids, vectors, attributes)

    def update(self, ids: Sequence[str], vectors: Any, attributes: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Replace the vectors of candidates that are here, all or none; attributes that are not given are kept.

        Raises:
            UserError: as `add`, and an id that is not here.
        """
        self._change("update", ids, vectors, attributes)

    def put(self, ids: Sequence[str], vectors: Any, attributes: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Add candidates that are not here and update those that are, all or none.

        Raises:
            UserError: as `add`, but for ids that are here.
        """
        self._change("put", ids, vectors, attributes)

    def remove(self, ids: Sequence[str]) -> None:
        """Remove candidates, all or none.

        Raises:
            UserError: an id that is not here; or the journal cannot be written.
        """
        self._change("remove", ids, np.empty((0, self.dim), np.float32), None)

    def rebalance(self) -> Literal["nothing", "rebalanced", "compacted"]:
        """Move what happened into the big index: into its structure where the backend can, else by `compact`.

        The structure must then find what it found before: the last queries are asked again, and where it lost more than
        `MOST_LOST` of recall, it is built anew. Searches and updates go on meanwhile, with the index in memory twice.

        Raises:
            UserError: the folder cannot be written, or was replaced by another process; nothing has changed then.
        """
        with self._moving:
            if not self.num_pending:
                return "nothing"
            begun = self._begin_move()
            grown = self._grown(begun.state)
            if grown is None or not self._still_finds(grown, begun.state):
                self._finish_move(begun, self._rebuilt(begun.state))
                return "compacted"
            self._finish_move(begun, grown)
            return "rebalanced"

    def compact(self) -> None:
        """Build the index anew from the candidates that are here, as it stores them, and save it in its own place.

        Raises:
            UserError: as `rebalance`; or nothing is left, or the settings do not fit what is left, or `index.store` is
                none.
        """
        with self._moving:
            begun = self._begin_move()
            self._finish_move(begun, self._rebuilt(begun.state))

    def close(self) -> None:
        """Take no more updates, so that another process can; searches go on."""
        with self._moving, self._updating:
            self._is_open = False
            if self._journal is not None:
                self._journal.close()

    # ------------------------------------------------------------ how

    def _change(self, op: Op, ids: Sequence[str], vectors: Any, attributes: Mapping[str, Sequence[Any]] | None) -> None:
        with self._updating:
            update = checked_update(self._state, op, ids, vectors, attributes)
            if not update.ids:
                return
            # All that can be refused is refused before it is written.
            state = self._state.after([update])
            self._writer().append(update)
            self._state = state

    def _writer(self) -> Journal:
        """The journal, locked; begun where there is none."""
        assert self._is_open, "closed"
        if self._journal is None:
            self._check_same()
            self._journal = Journal.begin(self._folder / JOURNAL, self._digest)
        self._journal.lock()
        return self._journal

    def _check_same(self) -> None:
        if _digest(self._folder) != self._digest:
            todo = "open the index again"
            raise UserError("another process has replaced this index", where=str(self._folder), todo=todo)

    def _begin_move(self) -> _Begun:
        with self._updating:
            return _Begun(self._state, self._writer().end)

    def _grown(self, state: State) -> Index | None:
        """A copy of the big index that has taken in what happened; None where it cannot, or has too many holes."""
        dead_rows, base = state.dead_rows(), state.base
        num_forgotten = base.size - base.num_living
        if num_forgotten + dead_rows.size > MOST_FORGOTTEN * (base.size + len(state.added)):
            return None
        copy = read_steadily(self._folder, type(base).load)
        self._check_same()
        if dead_rows.size:
            copy.forget(dead_rows)
        if not state.added:
            return copy
        values_MD = np.stack([entry.vector for entry in state.added.values()])
        assert state.delta is not None, "there are additions"
        return copy if copy.append(tuple(state.added), values_MD, state.delta.attributes) else None

    def _still_finds(self, grown: Index, state: State) -> bool:
        """Whether recall is about what it was when the structure was built, and is with the additions beside.

        Without vectors nobody knows.
        """
        base = state.base
        if base.settings.store == "none":
            return True
        queries_BD = self._recent.taken(base)
        built = base.measured.get(RECALL_BUILT)
        built = recall(base, queries_BD) if built is None else built
        found = state.search(queries_BD, num_wanted(grown), weights_digest=base.weights_digest)
        beside_BK = np.array([[state.row_when_grown(id_) for id_ in ids] for ids in found.ids])
        grown.measured = {**_measured_before(base), RECALL_BUILT: built}
        return recall(grown, queries_BD) >= max(built, recall(grown, queries_BD, beside_BK)) - MOST_LOST

    def _rebuilt(self, state: State) -> Index:
        vectors, attributes = state.catalogue()
        if not vectors.ids:
            raise UserError("no candidate is left", where=str(self._folder), todo="add some before you compact")
        index = type(state.base).build(vectors, state.base.settings, attributes)
        index.measured = _measured_before(state.base)
        return index

    def _finish_move(self, begun: _Begun, base: Index) -> None:
        """Save the new index with a journal of what happened since, and let both take the place of the old ones."""
        with contextlib.ExitStack() as locks:
            with replacing_folder(self._folder) as beside:
                _save_into(beside, base)
                # From here on updates wait; the old folder has all that were acknowledged.
                locks.enter_context(self._updating)
                old = self._writer()
                later = old.since(begun.end)
                state, digest = State.of(base).after(later), _digest(beside)
                journal = Journal.begin(beside / JOURNAL, digest)
                journal.lock()
                for update in later:
                    journal.append(update)
                old.check_named()
            journal.moved_to(self._folder / JOURNAL)
            self._digest, self._journal, self._state = digest, journal, state
            old.close()


def _digest(folder: Path) -> str:
    """SHA-256 of the manifest, which names the digests of all else."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        todo = "open the index again"
        raise UserError(f"the index is gone ({error.strerror})", where=str(folder), todo=todo) from None


def _save_into(folder: Path, index: Index) -> None:
    """Save an index into a folder that is there already."""
    whole = folder / "whole"
    index.save(whole)
    for inner in list(whole.iterdir()):
        inner.rename(folder / inner.name)
    whole.rmdir()


def _measured_before(base: Index) -> Mapping[str, Any]:
    """What was measured, said to be of the time before the updates."""
    measured = {name: value for name, value in base.measured.items() if name != RECALL_BUILT}
    return measured if not measured or "before_updates" in measured else {"before_updates": measured}

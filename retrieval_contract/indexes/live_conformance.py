"""What a live index must do over every backend, as a test class: subclass it, name the index class and settings.

Truth is a dictionary from id to vector and genre, changed beside the index and sorted here; recall is compared with an
index that is built anew from it.

Letters: B queries, K results, M candidates of a call, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Vectors
from retrieval_contract.indexes import routes
from retrieval_contract.indexes.attributes import Attributes
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.live_state import Found
from retrieval_contract.indexes.planted import DIGEST, clustered
from retrieval_contract.indexes.protocol import Index

GENRES = ("drama", "comedy", "noir", "документальный")


@dataclass
class Catalogue:
    """What the index must hold, oldest first: an update makes a candidate the youngest."""

    vector_of: dict[str, Float32Array] = field(default_factory=dict)
    genre_of: dict[str, str | None] = field(default_factory=dict)

    def put(self, ids: list[str], values_MD: Float32Array, genres: list[str | None] | None) -> None:
        """Add or update candidates."""
        for place, id_ in enumerate(ids):
            genre = self.genre_of.get(id_) if genres is None else genres[place]
            self.drop([id_])
            self.vector_of[id_], self.genre_of[id_] = values_MD[place], genre

    def drop(self, ids: list[str]) -> None:
        """Remove candidates."""
        for id_ in ids:
            self.vector_of.pop(id_, None)
            self.genre_of.pop(id_, None)

    def truth(self, queries_BD: Float32Array, k: int, excluded: list[list[str]], wanted: list[str | None]) -> Found:
        """Sort everything: scores in float64 rounded to float32, ties by age."""
        ids = list(self.vector_of)
        scores_BN = (queries_BD.astype(np.float64) @ np.stack(list(self.vector_of.values())).T).astype(np.float32)
        for place, (out, genre) in enumerate(zip(excluded, wanted, strict=True)):
            barred = [id_ in out or (genre is not None and self.genre_of[id_] != genre) for id_ in ids]
            scores_BN[place, barred] = -np.inf
        order_BK = np.argsort(-scores_BN, axis=1, kind="stable")[:, :k]
        scores_BK = np.take_along_axis(scores_BN, order_BK, axis=1)
        found = np.where(np.isfinite(scores_BK), np.array(ids, object)[order_BK], "")
        return Found(ids=found.tolist(), scores=scores_BK)

    def index(self, kind: type[Index], settings: config.Index) -> Index:
        """An index built from what is here."""
        vectors = Vectors(
            ids=tuple(self.vector_of), values=np.stack(list(self.vector_of.values())), weights_digest=DIGEST
        )
        table = pa.table({"genre": pa.array(list(self.genre_of.values()), pa.string())})
        return kind.build(vectors, settings, Attributes.from_table(table, ["genre"]))


class Pair:
    """A live index and the dictionary that it must equal."""

    def __init__(self, folder: Path, kind: type[Index], settings: config.Index, num_candidates: int) -> None:
        values_ND, self.queries_BD = clustered(num_candidates, min(100, num_candidates // 16))
        self.generator = np.random.default_rng(11)
        self.folder, self.kind, self.settings, self.made = folder, kind, settings, 0
        self.catalogue = Catalogue()
        self.catalogue.put([self.new_id() for _ in values_ND], values_ND, self.genres(len(values_ND)))
        self.catalogue.index(kind, settings).save(folder)
        self.live = LiveIndex.open(folder, kind)

    def new_id(self) -> str:
        """An id that was never used."""
        self.made += 1
        return f"кино {self.made}\n"

    def genres(self, num: int) -> list[str | None]:
        """Some have none."""
        return self.generator.choice([*GENRES, None], num).tolist()

    def some_ids(self, num: int) -> list[str]:
        """Candidates that are here."""
        ids = list(self.catalogue.vector_of)
        return [ids[place] for place in self.generator.choice(len(ids), num, replace=False)]

    def some_vectors(self, num: int) -> Float32Array:
        """Near the queries: they belong into many answers."""
        near = self.queries_BD[self.generator.integers(len(self.queries_BD), size=num)]
        return (near + 0.5 * self.generator.standard_normal(near.shape)).astype(np.float32)

    def add(self, num: int) -> None:
        """New candidates, by one call."""
        ids, values_MD, genres = [self.new_id() for _ in range(num)], self.some_vectors(num), self.genres(num)
        self.live.add(ids, values_MD, {"genre": genres})
        self.catalogue.put(ids, values_MD, genres)

    def update(self, num: int, *, with_genres: bool = False) -> None:
        """Other vectors for candidates that are here."""
        ids, values_MD = self.some_ids(num), self.some_vectors(num)
        genres = self.genres(num) if with_genres else None
        change = self.live.put if num % 2 else self.live.update
        change(ids, values_MD, None if genres is None else {"genre": genres})
        self.catalogue.put(ids, values_MD, genres)

    def remove(self, num: int) -> None:
        """Fewer candidates."""
        ids = self.some_ids(num)
        self.live.remove(ids)
        self.catalogue.drop(ids)

    def reopen(self) -> None:
        """As another process would find it."""
        self.live.close()
        self.live = LiveIndex.open(self.folder, self.kind)

    def search(self, k: int, excluded: Any = None, filters: Any = None) -> Found:
        """Ask all queries."""
        return self.live.search(self.queries_BD, k, weights_digest=DIGEST, excluded_ids=excluded, filters=filters)

    def truth(self, k: int, excluded: Any = None, wanted: Any = None) -> Found:
        """What all queries should be answered."""
        none = [None] * len(self.queries_BD)
        return self.catalogue.truth(self.queries_BD, k, excluded or [[]] * len(none), wanted or none)

    def assert_holds_the_same(self) -> None:
        """Ids, in order of age, and what a search for everything finds, with its scores."""
        assert self.live.ids == tuple(self.catalogue.vector_of)
        assert self.live.size == len(self.live.ids)
        found, true = self.search(self.live.size), self.truth(self.live.size)
        if self.settings.store == "float32":
            assert found.ids == true.ids
            np.testing.assert_array_equal(found.scores, true.scores)
        assert [sorted(ids) for ids in found.ids] == [sorted(ids) for ids in true.ids]


def recall(found: Found, true: Found) -> float:
    """Share of the true ids that were found."""
    shares = [len(set(one) & set(other)) / len(other) for one, other in zip(found.ids, true.ids, strict=True)]
    return float(np.mean(shares))


class LiveConformance:
    """Subclass it as `Test…`."""

    index_class: ClassVar[type[Index]]
    settings: ClassVar[config.Index]
    least_recall: ClassVar[float] = 1.0
    """Recall@10 of an index that is built anew; after updates it may be lower by 0.01."""
    rebalances: ClassVar[tuple[str, ...]] = ("rebalanced",)
    """What `rebalance` may do after removals: `compacted` where the structure cannot change."""
    num_candidates: ClassVar[int] = 4_000
    smallest: ClassVar[int] = 400
    """Candidates of the test of random updates; the settings must go with half of them."""

    @pytest.fixture
    def pair(self, tmp_path: Path) -> Iterator[Pair]:
        """A big one."""
        yield Pair(tmp_path / "index", self.index_class, self.settings, self.num_candidates)

    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Pair]:
        """A small one."""
        yield Pair(tmp_path / "index", self.index_class, self.settings, self.smallest)

    def test_recall_is_kept_through_churn(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routes, "FEW", 0)  # or the few candidates of a test would simply all be scored
        tenth = self.num_candidates // 10
        for _ in range(4):
            pair.remove(tenth // 4)
            pair.add(tenth // 8)
            pair.update(tenth // 8)
        true = pair.truth(10)
        top = pair.catalogue.index(self.index_class, self.settings).search(pair.queries_BD, 10, weights_digest=DIGEST)
        ids = tuple(pair.catalogue.vector_of)
        fresh = recall(Found(ids=[[ids[row] for row in rows] for rows in top.rows.tolist()], scores=top.scores), true)
        assert fresh >= self.least_recall
        num_young = sum(id_ in set(list(pair.catalogue.vector_of)[-tenth:]) for ids in true.ids for id_ in ids)
        assert num_young > 0.05 * sum(map(len, true.ids)), "the updates must matter to the answers"
        assert recall(pair.search(10), true) >= fresh - 0.01, "beside the big index"
        assert pair.live.num_pending > 2 * tenth
        assert pair.live.rebalance() in self.rebalances
        assert pair.live.num_pending == 0
        assert recall(pair.search(10), true) >= fresh - 0.01, "in the big index"
        pair.reopen()
        assert recall(pair.search(10), true) >= fresh - 0.01, "read again"
        pair.live.compact()
        assert pair.live.index.size == pair.live.size == len(ids)
        assert recall(pair.search(10), true) >= fresh - 0.01, "built anew"

    def test_random_updates_mean_what_they_mean_to_a_dictionary(self, small: Pair) -> None:
        for step in range(24):
            kind = small.generator.integers(4)
            num = int(small.generator.integers(1, 12))
            if kind == 0:
                small.add(num)
            elif kind == 1:
                small.update(num, with_genres=bool(num % 2))
            else:
                small.remove(num)
            if step % 6 == 5:
                (small.reopen, small.live.rebalance, small.live.compact)[step // 6 % 3]()
            if step % 3 == 2:
                small.assert_holds_the_same()
        assert small.live.rebalance() in (*self.rebalances, "rebalanced", "nothing")
        assert small.live.rebalance() == "nothing"
        small.assert_holds_the_same()

    def test_removed_candidates_may_come_back(self, small: Pair) -> None:
        ids = small.some_ids(3)
        values_MD = small.some_vectors(3)
        for move in (lambda: None, small.live.rebalance, small.reopen):
            small.live.remove(ids)
            small.catalogue.drop(ids)
            move()
            assert not any(id_ in small.live for id_ in ids)
            small.live.add(ids, values_MD)
            small.catalogue.put(ids, values_MD, [None] * 3)
            move()
            assert all(id_ in small.live for id_ in ids)
            small.assert_holds_the_same()

    def test_exclusions_and_filters_hold_for_old_and_new_candidates(self, small: Pair) -> None:
        small.remove(40)
        small.add(30)
        small.update(30, with_genres=True)
        for _ in range(2):
            excluded = [[*small.some_ids(50), "not here", *ids[:5]] for ids in small.truth(5).ids]
            wanted = [(*GENRES, None)[place % 5] for place in range(len(small.queries_BD))]
            filters = [None if genre is None else {"genre": [genre]} for genre in wanted]
            found, true = small.search(200, excluded, filters), small.truth(200, excluded, wanted)
            for genre, out, one, other in zip(wanted, excluded, found.ids, true.ids, strict=True):
                assert len({*one}) == len({*other}), "k whenever k exist"
                assert not {*one} & {*out}
                assert genre is None or {*one} == {*other}
            for k in (1, 10):
                assert recall(small.search(k, excluded, filters), small.truth(k, excluded, wanted)) >= 0.95
            small.live.rebalance()

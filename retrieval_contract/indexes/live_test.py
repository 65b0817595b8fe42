"""What is the same over every backend: refusals, what is on the disk, and what is seen while the index changes."""

import errno
import os
import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract import config
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Attributes
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.live import JOURNAL, LiveIndex
from retrieval_contract.indexes.planted import DIGEST, clustered, vectors_of

NAN, LONG = float("nan"), 3e38


@pytest.fixture
def folder(tmp_path):
    table = pa.table({"genre": ["drama", "noir"] * 300, "tags": [["a", "b"], ["c"]] * 300})
    attributes = Attributes.from_table(table, ["genre", "tags"])
    index = ExactIndex.build(vectors_of(clustered(600, 1)[0]), config.Index(), attributes)
    index.save(tmp_path / "index", measured={"recall@10": 0.99})
    return tmp_path / "index"


@pytest.fixture
def live(folder):
    return LiveIndex.open(folder, ExactIndex)


def _row(*numbers):
    return np.array([[*numbers, *[0] * (32 - len(numbers))]], np.float64)


def _ask(live, query, k=1, **more):
    return live.search(query, k, weights_digest=DIGEST, **more).ids[0]


def _state(live):
    return live.size, live.ids, _ask(live, _row(1), live.size)


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("op", "ids", "vectors", "attributes", "message"),
    [
        ("add", ["кино 3 映画\n"], _row(1), None, "is already in the index .ids, place 0.: update it instead"),
        ("add", ["new", "кино 3 映画\n"], np.ones((2, 32)), None, "is already in the index .ids, place 1."),
        ("update", ["new"], _row(1), None, "'new' is not in the index .ids, place 0.: add it first"),
        ("add", ["a", "b", "a"], np.ones((3, 32)), None, "'a' stands twice in one call .ids, place 2."),
        ("add", ["a", ""], np.ones((2, 32)), None, "candidate id '' is empty .ids, place 1."),
        ("add", ["a", 7], np.ones((2, 32)), None, "candidate id 7 is no text .ids, place 1."),
        ("add", "ab", np.ones((2, 32)), None, "ids are one text, 'ab'"),
        ("add", ["\0forgotten 7"], _row(1), None, "is not free"),
        ("add", ["a"], np.ones((1, 31)), None, r"shape .1, 31., there are 1 ids, and the index has width 32"),
        ("add", ["a"], np.ones(32), None, r"shape .32,., there are 1 ids"),
        ("add", ["a", "b"], _row(1), None, r"shape .1, 32., there are 2 ids"),
        ("add", ["a"], [["x"] * 32], None, "vectors are not numbers"),
        ("add", ["a"], [[1.0], [2.0, 3.0]], None, "vectors are not numbers"),
        ("add", ["a", "b"], np.concatenate([_row(1), _row(NAN)]), None, "hold NaN or infinity .vectors, rows 1."),
        ("update", ["кино 3 映画\n"], _row(1e300), None, "hold NaN or infinity"),
        ("add", ["a"], _row(LONG), None, "so long that a score would overflow"),
        ("add", ["a"], _row(1), {"genres": ["noir"]}, "no attribute 'genres' .attributes.: .*genre"),
        ("add", ["a"], _row(1), {"genre": ["noir", "drama"]}, "'genre' has 2 entries for 1 ids"),
        ("add", ["a"], _row(1), {"genre": "n"}, "'genre' has 1 entries for 1 ids"),
        ("add", ["a"], _row(1), {"genre": [["noir"]]}, "'genre' is not one text for each id"),
        ("add", ["a"], _row(1), {"tags": ["noir"]}, "'tags' is not a list of texts for each id"),
        ("add", ["a", "b"], np.ones((2, 32)), {"genre": ["noir", {"x": 1}]}, "'genre' is not one text for each id"),
    ],
)
def test_what_is_refused_changes_nothing(live, folder, op, ids, vectors, attributes, message):
    before = _state(live)
    with pytest.raises(UserError, match=message) as caught:
        getattr(live, op)(ids, vectors, attributes)
    assert "\n" not in str(caught.value)
    assert _state(live) == before
    assert not (folder / JOURNAL).exists(), "nothing was written"


def test_removing_what_is_not_there_is_refused_as_a_whole(live):
    before = _state(live)
    with pytest.raises(UserError, match=r"'new' is not in the index .ids, place 1.: leave it out"):
        live.remove([live.ids[0], "new"])
    assert _state(live) == before


def test_a_call_without_ids_does_nothing(live, folder):
    live.add([], np.empty((0, 32)))
    live.update([], np.empty((0, 32)))
    live.remove([])
    assert not (folder / JOURNAL).exists()


def test_questions_are_refused_as_by_every_index(live):
    with pytest.raises(UserError, match="k is 601, the catalogue holds 600"):
        live.search(_row(1), 601, weights_digest=DIGEST)
    with pytest.raises(UserError, match="built from other weights"):
        live.search(_row(1), 1, weights_digest="e" * 64)
    with pytest.raises(UserError, match="no attribute 'genres'"):
        live.search(_row(1), 1, weights_digest=DIGEST, filters=[{"genres": ["noir"]}])
    with pytest.raises(UserError, match="2 lists of excluded candidates for 1 queries"):
        live.search(_row(1), 1, weights_digest=DIGEST, excluded_ids=[[], []])
    live.add(["new"], _row(1))
    assert len(_ask(live, _row(1), 601)) == 601
    assert _ask(live, _row(1), 2, excluded_ids=[[*live.ids[:-1], "not here"]]) == ["new", ""]
    assert live.search(np.empty((0, 32), np.float32), 5, weights_digest=DIGEST).ids == []


def test_numbers_that_the_store_cannot_hold_are_refused_before_they_are_written(tmp_path):
    ExactIndex.build(vectors_of(clustered(600, 1)[0]), config.Index(store="float16")).save(tmp_path / "index")
    live = LiveIndex.open(tmp_path / "index", ExactIndex)
    with pytest.raises(UserError, match="too large for float16"):
        live.add(["a"], _row(70_000))
    assert "a" not in live and not (tmp_path / "index" / JOURNAL).exists()


# ------------------------------------------------------------ what is found


def test_an_index_may_become_empty_and_be_filled_again(live, folder):
    live.remove(live.ids)
    assert (live.size, live.ids) == (0, ())
    with pytest.raises(UserError, match="k is 1, the catalogue holds 0"):
        _ask(live, _row(1))
    with pytest.raises(UserError, match="no candidate is left"):
        live.compact()
    live.add(["a", "b"], np.concatenate([_row(1), _row(2)]))
    assert _ask(live, _row(1), 2) == ["b", "a"]
    live.close()
    again = LiveIndex.open(folder, ExactIndex)
    assert again.rebalance() == "compacted", "too many rows were forgotten"
    assert again.index.ids == again.ids == ("a", "b")


def test_equal_scores_are_in_order_of_age(live):
    old = live.ids[:3]
    live.update(old, np.concatenate([_row(50)] * 3))
    live.add(["a", "b"], np.concatenate([_row(50)] * 2))
    live.update([old[0]], _row(50))
    wanted = [old[1], old[2], "a", "b", old[0]]
    for move in (lambda: None, live.rebalance, live.compact):
        move()
        assert _ask(live, _row(1), 5) == wanted


def test_attributes_are_kept_replaced_or_missing(live):
    first, second = live.ids[:2]
    live.update([first], _row(50))
    live.update([second], _row(60), {"genre": [1994]})
    live.add(["none", "some"], np.concatenate([_row(70), _row(80)]))
    live.update(["some"], _row(80), {"tags": [["a", "z"]]})

    def best(wanted):
        return [id_ for id_ in _ask(live, _row(1), 3, filters=[wanted]) if id_ in (first, second, "none", "some")]

    for move in (lambda: None, live.rebalance, live.compact):
        move()
        assert best({"genre": ["drama"]}) == [first]
        assert best({"genre": ["1994"]}) == [second]
        assert best({"genre": ["1994"], "tags": ["c"]}) == [second], "what an update does not give is kept"
        assert best({"tags": ["z"]}) == ["some"]
        assert best({"tags": ["a"]}) == ["some", first]
        assert best({"tags": ["c"]}) == [second]
        assert best({"genre": ["drama", "noir"]}) == [first], "what an addition does not give is missing"
        assert best({}) == ["some", "none", second]


def test_put_adds_what_is_not_there_and_updates_what_is(live, folder):
    first, second = live.ids[:2]
    live.add(["a"], _row(10), {"genre": ["western"]})
    live.remove([second])
    live.put([first, "a", "b", second], np.concatenate([_row(50), _row(60), _row(70), _row(80)]))
    for index in (live, LiveIndex.open(folder, ExactIndex)):
        assert index.size == 602
        assert _ask(index, _row(1), 4) == [second, "b", "a", first]
        assert _ask(index, _row(1), filters=[{"genre": ["western"]}]) == ["a"]
        assert _ask(index, _row(1), filters=[{"genre": ["drama"]}]) == [first]
        assert _ask(index, _row(1), filters=[{"genre": ["noir"]}]) != [second], "what was removed comes back without"
    with pytest.raises(UserError, match="stands twice"):
        live.put(["c", "c"], np.ones((2, 32)))


def test_several_vectors_a_query(live):
    live.add(["a", "b"], np.concatenate([_row(50), _row(0, 50)]))
    found = live.search(np.stack([_row(1), _row(0, 2)], axis=1), 2, weights_digest=DIGEST)
    assert found.ids == [["b", "a"]]
    np.testing.assert_array_equal(found.scores, [[100, 50]])


def test_what_was_measured_is_said_to_be_of_before(live):
    before = {"before_updates": {"recall@10": 0.99}}
    for move, wanted in (
        (live.compact, before),
        (live.rebalance, before | {"recall_built": 1.0}),
        (live.compact, before),
    ):
        live.remove([live.ids[0]])
        move()
        assert live.index.measured == wanted


# ------------------------------------------------------------ several at once


def test_a_search_sees_a_call_whole_or_not_at_all(live):
    """Two candidates change together; a reader must never find one changed and the other not."""
    live.add(["a", "b"], np.concatenate([_row(50)] * 2))
    over, seen, torn = threading.Event(), set(), []

    def watch():
        while not over.is_set():
            found = live.search(_row(1), 2, weights_digest=DIGEST)
            seen.add(float(found.scores[0, 0]))
            if found.ids != [["a", "b"]] or found.scores[0, 0] != found.scores[0, 1]:
                torn.append(found)
            time.sleep(0.001)

    readers = [threading.Thread(target=watch) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(51, 72):
            live.update(["a", "b"], np.concatenate([_row(number)] * 2))
            if number % 7 == 0:
                (live.rebalance if number % 2 else live.compact)()
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert not torn
    assert len(seen) > 5, "the readers died, or never saw a change"


def test_updates_during_a_move_are_kept(live, folder, monkeypatch):
    rebuilt, first = LiveIndex._rebuilt, live.ids[0]

    def slow(self, state):
        live.add(["meanwhile"], _row(90))
        live.update(["before"], _row(95))
        live.remove([first])
        return rebuilt(self, state)

    live.add(["before"], _row(80))
    monkeypatch.setattr(LiveIndex, "_rebuilt", slow)
    live.compact()
    for index in (live, LiveIndex.open(folder, ExactIndex)):
        assert _ask(index, _row(1), 2) == ["before", "meanwhile"]
        assert first not in index and index.size == 601
        assert index.num_pending == 4, "those of meanwhile stand in the new journal"


def test_two_processes_do_not_update_one_index(live, folder):
    other = LiveIndex.open(folder, ExactIndex)
    live.add(["a"], _row(1))
    with pytest.raises(UserError, match="another process"):
        other.add(["b"], _row(1))
    with pytest.raises(UserError, match="another process"):
        other.compact()
    live.close()
    with pytest.raises(UserError, match="another process has updated this index meanwhile"):
        other.add(["b"], _row(1))
    LiveIndex.open(folder, ExactIndex).add(["b"], _row(1))


@pytest.mark.parametrize("begun", [False, True])
def test_an_index_that_was_replaced_from_outside_takes_no_updates(live, folder, begun):
    if begun:
        live.add(["a"], _row(1))
    ExactIndex.build(vectors_of(clustered(100, 1)[0]), config.Index()).save(folder)
    for change in (lambda: live.add(["b"], _row(1)), live.compact):
        with pytest.raises(UserError, match="another process has"):
            change()
    assert "b" not in live
    assert LiveIndex.open(folder, ExactIndex).size == 100


# ------------------------------------------------------------ on the disk


def test_a_full_disk_refuses_an_update_and_a_move_and_all_stays_as_it_was(live, folder, monkeypatch):
    live.add(["a"], _row(50))
    before = _state(live)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for change in (lambda: live.add(["b"], _row(60)), live.compact, live.rebalance):
            with pytest.raises(UserError, match="No space left"):
                change()
            assert _state(live) == before
    assert _state(LiveIndex.open(folder, ExactIndex)) == before
    assert [path.name for path in folder.parent.iterdir()] == ["index"]
    live.add(["b"], _row(60))
    live.compact()
    assert _state(LiveIndex.open(folder, ExactIndex)) == _state(live)


def test_the_journal_of_an_older_index_is_refused(live, folder, tmp_path):
    live.add(["a"], _row(50))
    (folder / JOURNAL).rename(tmp_path / "kept")
    live.close()
    again = LiveIndex.open(folder, ExactIndex)
    again.remove([again.ids[0]])
    again.compact()
    (folder / JOURNAL).unlink()
    (tmp_path / "kept").rename(folder / JOURNAL)
    with pytest.raises(UserError, match="the journal belongs to another index"):
        LiveIndex.open(folder, ExactIndex)


def test_a_thousand_updates_are_replayed_at_once(live, folder, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for number in range(300):
        live.add([f"new {number}"], _row(number))
        if number % 3 == 0:
            live.update([f"new {number}"], _row(number, 1))
    live.remove([f"new {number}" for number in range(0, 300, 2)])
    assert _state(LiveIndex.open(folder, ExactIndex)) == _state(live)


def test_an_index_without_updates_is_opened_without_writing(live, folder):
    assert live.num_pending == 0
    assert live.rebalance() == "nothing"
    assert not (folder / JOURNAL).exists()

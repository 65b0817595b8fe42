import errno
import os
import random
import sys

import numpy as np
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.indexes.journal import HEADER, MARKER, Journal, Update
from retrieval_contract.killing import NUM_KILLS, killed

DIGEST, OTHER = "ab" * 32, "cd" * 32


def _update(number, *, num_ids=2):
    generator = np.random.default_rng(number)
    return Update(
        op=("add", "update")[number % 2],
        ids=tuple(f"кино {number}-{place}\n\ud800" for place in range(num_ids)),
        values=generator.standard_normal((num_ids, 3)).astype(np.float32),
        attributes={"genre": [["drama", "noir"], None], "language": ["fr", None]} if number % 3 == 0 else None,
    )


def _same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert (one.op, one.ids, one.attributes) == (other.op, other.ids, other.attributes)
        assert one.values.dtype == np.float32
        np.testing.assert_array_equal(one.values, other.values)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "updates.journal"


@pytest.fixture
def ends(path):
    """Where each of three records ends, the header's end in front."""
    journal = Journal.begin(path, DIGEST)
    ends = [journal.end]
    for number in range(3):
        journal.append(_update(number))
        ends.append(journal.end)
    journal.close()
    return ends


def _read(path):
    journal, updates = Journal.open(path, DIGEST)
    journal.close()
    return updates


def test_what_was_appended_is_read_in_order(path, ends):
    _same(_read(path), [_update(number) for number in range(3)])
    assert path.stat().st_size == ends[-1]


def test_a_removal_has_no_vectors(path):
    journal = Journal.begin(path, DIGEST)
    journal.append(Update(op="remove", ids=("a", "b"), values=np.empty((0, 3), np.float32)))
    (found,) = _read(path)
    assert (found.op, found.ids, found.values.shape) == ("remove", ("a", "b"), (0, 3))


def test_since_reads_what_came_later(path, ends):
    journal, _ = Journal.open(path, DIGEST)
    _same(journal.since(ends[1]), [_update(1), _update(2)])
    assert journal.since(ends[3]) == []


def test_append_returns_when_the_record_is_on_the_disk(path, monkeypatch):
    journal, synced = Journal.begin(path, DIGEST), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    journal.append(_update(0))
    assert synced == [journal.end] == [path.stat().st_size]


def test_cut_anywhere_the_whole_records_before_remain(path, ends):
    content = path.read_bytes()
    for cut in [*range(HEADER.size, len(content), 3), len(content)]:
        path.write_bytes(content[:cut])
        num_whole = sum(end <= cut for end in ends[1:])
        _same(_read(path), [_update(number) for number in range(num_whole)])


@pytest.mark.parametrize("torn", [b"", b"\x00" * 500, MARKER, MARKER * 30, b"garbage" * 40])
def test_the_next_append_cuts_a_torn_record_off(path, ends, torn):
    content = path.read_bytes()
    path.write_bytes(content[: ends[2] + 9] + torn)
    journal, updates = Journal.open(path, DIGEST)
    assert len(updates) == 2
    journal.append(_update(5))
    _same(_read(path), [_update(0), _update(1), _update(5)])


def test_a_flipped_bit_is_refused_with_its_place_or_takes_the_last_record(path, ends):
    content = path.read_bytes()
    for at in range(0, ends[-1], 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        if at >= ends[2]:
            _same(_read(path), [_update(0), _update(1)])
            continue
        with pytest.raises(UserError) as caught:
            _read(path)
        if at < HEADER.size:
            assert "no journal" in str(caught.value) or "header of the journal is damaged" in str(caught.value)
        else:
            start = max(end for end in ends if end <= at)
            assert f"damaged in the middle [{path}, bytes {start:,} to " in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, HEADER.size - 1])
def test_half_a_header_is_refused(path, ends, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match="this is no journal"):
        _read(path)


def test_the_journal_of_another_index_is_refused(path, ends):
    with pytest.raises(UserError, match=r"belongs to another index .*journal of abababababab, index cdcdcdcdcdcd"):
        Journal.open(path, OTHER)


def test_records_of_another_journal_are_not_whole_records_here(path, ends, tmp_path):
    record = path.read_bytes()[ends[0] : ends[1]]
    journal = Journal.begin(tmp_path / "second", DIGEST)
    (tmp_path / "second").write_bytes((tmp_path / "second").read_bytes() + record)
    assert Journal.open(tmp_path / "second", DIGEST)[1] == []
    assert journal.since(journal.end) == []


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_no_trace_and_a_later_append_succeeds(path, monkeypatch, failing):
    journal = Journal.begin(path, DIGEST)
    journal.append(_update(0))
    write = os.write

    def full(descriptor, *content):
        if failing == "write":
            write(descriptor, content[0][:7])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, failing, full)
        with pytest.raises(UserError, match=r"cannot be written .No space left"):
            journal.append(_update(1))
    _same(_read(path), [_update(0)])
    assert path.stat().st_size == journal.end
    journal.append(_update(2))
    _same(_read(path), [_update(0), _update(2)])


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_writers_are_kept_apart(path, ends):
    first, _ = Journal.open(path, DIGEST)
    second, _ = Journal.open(path, DIGEST)
    first.append(_update(3))
    with pytest.raises(UserError, match="another process updates this index"):
        second.append(_update(4))
    first.close()
    with pytest.raises(UserError, match="another process has updated this index meanwhile"):
        second.append(_update(4))
    assert len(_read(path)) == 4


def test_a_journal_that_was_replaced_is_not_written(path, ends):
    journal, _ = Journal.open(path, DIGEST)
    journal.append(_update(3))
    path.unlink()
    with pytest.raises(UserError, match="another process has updated this index meanwhile"):
        journal.append(_update(4))
    Journal.begin(path, DIGEST).close()
    with pytest.raises(UserError, match="another process has updated this index meanwhile"):
        journal.append(_update(4))
    assert _read(path) == []


def test_a_journal_that_is_there_is_not_begun_again(path, ends):
    with pytest.raises(UserError, match="another process has updated this index meanwhile"):
        Journal.begin(path, DIGEST)
    assert len(_read(path)) == 3
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_opened_is_refused(path):
    with pytest.raises(UserError, match=r"cannot read the journal .No such file"):
        Journal.open(path, DIGEST)


def _append_forever(path, say):
    journal, updates = Journal.open(path, DIGEST)
    say(len(updates))
    for number in range(len(updates), 1_000_000):
        journal.append(_update(number, num_ids=500))
        say(number + 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_at_random_moments_every_acknowledged_update_is_there(path):
    Journal.begin(path, DIGEST).close()
    moments = random.Random(3)
    for _ in range(NUM_KILLS):
        said = killed(_append_forever, [path], moments.uniform(0, 0.05))
        updates = _read(path)
        assert said[-1] <= len(updates) <= said[-1] + 1
        _same(updates, [_update(number, num_ids=500) for number in range(len(updates))])


def test_a_record_that_stands_within_a_vector_is_no_record(path):
    """Bytes that look like a record, in a record that is torn, must not make it look damaged in the middle."""
    journal = Journal.begin(path, DIGEST)
    inner = MARKER + bytes(12)
    values = np.frombuffer(inner + bytes(-len(inner) % 12), np.float32).reshape(-1, 3)
    journal.append(Update(op="add", ids=("a", "b")[: len(values)], values=values))
    path.write_bytes(path.read_bytes()[:-1])
    assert _read(path) == []

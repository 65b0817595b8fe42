"""`kill -9` while an index is built and saved, updated, and compacted: what stands there is always whole.

TWO_TOWER_KILLS=100 kills at so many random moments in each test, and at every step of a move.
"""

import random
import sys
import threading

import pytest

from retrieval_contract import config
from retrieval_contract.indexes import live_killing
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.live_killing import (
    assert_is_after,
    first_vectors,
    move_once,
    save_again_and_again,
    update_again_and_again,
    update_once,
)
from retrieval_contract.killing import NUM_KILLS, killed, killed_at_step

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
SETTINGS = config.Index()
STRIDE = 1 if NUM_KILLS >= 100 else 4


@pytest.fixture
def folder(tmp_path):
    ExactIndex.build(first_vectors(0), SETTINGS).save(tmp_path / "index")
    return tmp_path / "index"


def _alone(folder):
    return [path.name for path in folder.parent.iterdir()] == ["index"]


def _number_of(index):
    number = int(index.ids[0].split("/")[0])
    assert index.ids == first_vectors(number).ids
    assert (index.vectors(range(index.size)) == first_vectors(number).values).all()
    return number


def test_killed_while_it_is_built_and_saved(folder):
    moments, number, over, seen = random.Random(1), 0, threading.Event(), set()

    def watch():
        while not over.is_set():
            seen.add(_number_of(ExactIndex.load(folder)))

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for _ in range(NUM_KILLS):
            said = killed(save_again_and_again, [folder, ExactIndex, SETTINGS, number + 1], moments.uniform(0, 0.1))
            number = _number_of(ExactIndex.load(folder))
            assert number in (said[-1], said[-1] + 1)
            assert reader.is_alive(), "somebody who loads it meanwhile finds it whole as well"
    finally:
        over.set()
        reader.join()
    assert len(seen) > 1
    ExactIndex.build(first_vectors(0), SETTINGS).save(folder)
    assert _alone(folder)


@pytest.mark.parametrize("moves", ["", "rebalance", "compact"])
def test_killed_while_it_is_updated_and_moved(folder, moves):
    moments, num_steps = random.Random(2), 0
    for _ in range(NUM_KILLS if not moves else max(1, NUM_KILLS // 2)):
        said = killed(update_again_and_again, [folder, ExactIndex, num_steps, moves], moments.uniform(0, 0.15))
        num_steps = assert_is_after(folder, ExactIndex, said[-1])
    assert num_steps > 0
    LiveIndex.open(folder, ExactIndex).compact()
    assert _alone(folder)


@pytest.mark.parametrize("moves", ["rebalance", "compact"])
def test_killed_at_each_step_of_a_move(folder, moves):
    num_steps, at = 0, 0
    while (said := killed_at_step(move_once, [folder, ExactIndex, num_steps, moves], at)) is not None:
        num_steps = assert_is_after(folder, ExactIndex, said[-1])
        assert num_steps == said[-1], "the step before the move was acknowledged, and none came after it"
        at += STRIDE
    assert at > 25, "a move takes more steps than that"
    LiveIndex.open(folder, ExactIndex).compact()
    assert _alone(folder)


def test_killed_at_each_step_of_the_first_update_and_of_the_second(folder):
    for begun in (0, 1):
        num_steps, at = begun, 0
        while (said := killed_at_step(update_once, [folder, ExactIndex, num_steps], at)) is not None:
            num_steps = assert_is_after(folder, ExactIndex, said[-1])
            at += 1
        assert at > 1 - begun


def test_the_truth_notices_a_lost_update(folder):
    live = LiveIndex.open(folder, ExactIndex)
    for step in (0, 1, 3):
        live_killing._take(live, step)
    with pytest.raises(AssertionError, match="are not those after"):
        assert_is_after(folder, ExactIndex, 4)

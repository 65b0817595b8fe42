"""Test support: what a process does to an index until it is killed, and what must be there afterwards.

The steps are numbered, and what the n-th does follows from n: so the truth after any number of steps is known.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Vectors
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.planted import DIGEST, clustered
from retrieval_contract.indexes.protocol import Index

NUM_CANDIDATES = 600
Say = Callable[[int], None]


def first_vectors(number: int) -> Vectors:
    """The catalogue of the number-th build: ids and vectors are all of that number."""
    values_ND = clustered(NUM_CANDIDATES, 1)[0] + np.float32(number)
    ids = tuple(f"{number}/{row}" for row in range(NUM_CANDIDATES))
    return Vectors(ids=ids, values=values_ND, weights_digest=DIGEST)


def truth(num_steps: int) -> dict[str, Float32Array]:
    """Vectors by id, oldest first, after so many steps from build 0."""
    vectors = first_vectors(0)
    held = dict(zip(vectors.ids, vectors.values, strict=True))
    for step in range(num_steps):
        op, id_, vector = _step(step)
        held.pop(id_, None)
        if op != "remove":
            held[id_] = vector
    return held


def assert_is_after(folder: Path, kind: type[Index], num_acknowledged: int) -> int:
    """The index in the folder, opened anew, is that after all acknowledged steps, or one more; how many it was."""
    held = _held(LiveIndex.open(folder, kind))
    for num_steps in (num_acknowledged, num_acknowledged + 1):
        true = truth(num_steps)
        if list(true) == list(held) and all((true[id_] == held[id_]).all() for id_ in true):
            return num_steps
    raise AssertionError(f"{len(held)} candidates are not those after {num_acknowledged} steps, or one more")


def _held(live: LiveIndex) -> dict[str, Float32Array]:
    """Vectors by id, as searches show them: the score of the d-th unit vector is the d-th number."""
    found = live.search(np.eye(live.dim, dtype=np.float32), live.size, weights_digest=DIGEST)
    values = {id_: np.full(live.dim, np.nan, np.float32) for id_ in live.ids}
    for place, ids in enumerate(found.ids):
        for id_, score in zip(ids, found.scores[place], strict=True):
            values[id_][place] = score
    return values


def save_again_and_again(folder: Path, kind: type[Index], settings: config.Index, number: int, say: Say) -> None:
    """Build an index and save it over the last one."""
    while True:
        kind.build(first_vectors(number), settings).save(folder)
        say(number)
        number += 1


def update_again_and_again(folder: Path, kind: type[Index], num_steps: int, moves: str, say: Say) -> None:
    """Update the index, one call a step; between the steps, where moves are named, `rebalance` or `compact` it."""
    live = LiveIndex.open(folder, kind)
    say(num_steps)
    while True:
        _take(live, num_steps)
        num_steps += 1
        say(num_steps)
        if moves and num_steps % 3 == 0:
            getattr(live, moves)()


def move_once(folder: Path, kind: type[Index], num_steps: int, moves: str, say: Say) -> None:
    """One step, which is acknowledged before the killing begins; then one move."""
    live = LiveIndex.open(folder, kind)
    _take(live, num_steps)
    say(num_steps + 1)
    getattr(live, moves)()


def update_once(folder: Path, kind: type[Index], num_steps: int, say: Say) -> None:
    """One step, into a journal that is there or not."""
    live = LiveIndex.open(folder, kind)
    say(num_steps)
    _take(live, num_steps)


def _take(live: LiveIndex, step: int) -> None:
    op, id_, vector = _step(step)
    if op == "remove":
        live.remove([id_])
    else:
        getattr(live, op)([id_], vector[None])


def _step(step: int) -> tuple[str, str, Float32Array]:
    """In turn: a new one comes, is updated, an old one is updated, one goes or comes back, every other new one goes."""
    vector = np.random.default_rng(step).standard_normal(32).astype(np.float32)
    turn, kind = divmod(step, 5)
    half = NUM_CANDIDATES // 2
    new, kept, going = f"new {turn}", f"0/{turn % half}", f"0/{half + turn % half}"
    return (
        ("add", new, vector),
        ("update", new, vector),
        ("update", kept, vector),
        ("add" if turn // half % 2 else "remove", going, vector),
        ("remove" if turn % 2 else "update", new, vector),
    )[kind]

"""Run a function over blocks in a few threads, each block's matrix products on one core.

NumPy releases the interpreter's lock inside its loops. A BLAS that spreads every small product over all cores, and
waits for the slowest in a busy loop, was measured at a tenth of the speed of one core on a machine that does something
else too.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numpy as np
import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which has to be loaded before it can be found)
import threadpoolctl

from retrieval_contract.arrays import Int64Array

Block = TypeVar("Block")

MAX_THREADS = 8
"""More only compete for memory bandwidth."""


def num_threads() -> int:
    """Threads that `in_threads` uses: the cores that this process may run on, a few at most."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MAX_THREADS)


def in_threads(function: Callable[[Block], None], blocks: Sequence[Block]) -> None:
    """Call a function on every block; blocks write their results to places of their own.

    Args:
        function: must not depend on the order of the calls.
        blocks: what to call it on.

    Raises:
        Exception: the first block's that failed; no later block is begun.
    """
    with one_core_blas(), ThreadPoolExecutor(num_threads()) as pool:
        try:
            for _ in pool.map(function, blocks):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def evenly(places: Int64Array, most: int) -> list[Int64Array]:
    """Cut some places into blocks of nearly one size, `most` at most, as many for each thread: none waits long."""
    rounds = -(-len(places) // (most * num_threads()))
    return np.array_split(places, min(len(places), rounds * num_threads())) if rounds else []


def one_core_blas() -> contextlib.AbstractContextManager[object]:
    """Keep BLAS and LAPACK to one core inside a `with`."""
    return _blas().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas() -> threadpoolctl.ThreadpoolController:
    """Find NumPy's BLAS once; looking through all loaded libraries takes milliseconds."""
    return threadpoolctl.ThreadpoolController()

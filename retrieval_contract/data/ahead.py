"""Things made ahead of their turn in threads, handed out in order."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")
WAITING = 2
"""Things ready or in the making, for each thread."""


def made_ahead(make: Callable[[int], Made], numbers: range, *, num_threads: int) -> Iterator[Made]:
    """Make a thing for each number, several at a time.

    The results are those of making one after the other, provided that making one changes nothing that another reads.
    What `make` raises is raised in that thing's turn. Where the iterator is left early, what is being made is finished
    and dropped.

    Args:
        make: called from other threads.
        numbers: what to make, in order.
        num_threads: threads; 0 makes each thing when it is asked for, in the thread that asks.
    """
    if not num_threads:
        yield from map(make, numbers)
        return
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="ahead") as threads:
        try:
            for number in numbers:
                waiting.append(threads.submit(make, number))
                if len(waiting) >= WAITING * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

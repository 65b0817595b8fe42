"""Requests that come at the same time are answered together, by one thread, each waiting no longer than is stated.

The thread takes the first question that waits, then others until a batch is full or the first has waited long enough.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import final

from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.pipeline import answer_all
from retrieval_contract.serving.question import Answer, Question
from retrieval_contract.serving.refusal import Refusal

Observer = Callable[[Sequence[Question], Sequence[Answer | Exception], Sequence[float]], None]
"""Told of every batch: its questions, their answers, and the seconds that each waited."""


class _Waiting:
    """A question in the queue."""

    __slots__ = ("future", "question", "since")

    def __init__(self, question: Question) -> None:
        self.question, self.since = question, time.perf_counter()
        self.future: Future[Answer] = Future()


@final
class Batcher:
    """The queue and its thread; `submit` may be called from any thread."""

    def __init__(
        self,
        limits: Limits,
        *,
        answer: Callable[[Sequence[Question]], list[Answer | Exception]] = answer_all,
        observe: Observer = lambda questions, answers, waited: None,
    ) -> None:
        """Start the thread.

        Args:
            limits: of batches and of the queue.
            answer: answers a batch.
            observe: is told of each batch, in the thread.
        """
        self._limits, self._answer, self._observe = limits, answer, observe
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._rows = self._queued_rows = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """True while questions are being answered."""
        return self._thread.is_alive()

    @property
    def waiting_rows(self) -> int:
        """Queries that wait or are being computed."""
        return self._rows

    def submit(self, question: Question) -> "Future[Answer]":
        """Put a question into the queue.

        Returns:
            Its answer to be; cancelling it takes the question out, unless it is being computed.

        Raises:
            Refusal: 503, so much waits already, or the server is stopping.
        """
        waiting = _Waiting(question)
        with self._changed:
            if self._closed:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping")
            if self._rows and self._rows + question.num_rows > self._limits.waiting_rows:
                what = f"overloaded: {self._rows:,} queries wait already"
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, what, headers={"Retry-After": "1"})
            self._rows += question.num_rows
            self._queued_rows += question.num_rows
            self._queue.append(waiting)
            # Waking the thread for each of many would cost more than the batch saves.
            if len(self._queue) == 1 or self._is_full():
                self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Take no more questions, answer those that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            # A future that was cancelled is nobody's any more; one that runs cannot be cancelled.
            live = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
            began = time.perf_counter()
            answers = self._answer([waiting.question for waiting in live]) if live else []
            with self._changed:
                self._rows -= sum(waiting.question.num_rows for waiting in batch)
            for waiting, answer in zip(live, answers, strict=True):
                if isinstance(answer, Exception):
                    waiting.future.set_exception(answer)
                else:
                    waiting.future.set_result(answer)
            self._observe([w.question for w in live], answers, [began - w.since for w in live])
            # What is held between batches would keep an old version alive.
            del batch, live, answers

    def _next(self) -> list[_Waiting]:
        """The next batch; empty when the queue is, and closed."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            if not self._queue:
                return []
            until = self._queue[0].since + self._limits.wait_ms / 1e3
            while not self._closed and not self._is_full():
                left = until - time.perf_counter()
                if left <= 0 or not self._changed.wait(left):
                    break
            batch = [self._popped()]
            rows = batch[0].question.num_rows
            while self._queue and rows + self._queue[0].question.num_rows <= self._limits.batch_rows:
                batch.append(self._popped())
                rows += batch[-1].question.num_rows
            return batch

    def _popped(self) -> _Waiting:
        waiting = self._queue.popleft()
        self._queued_rows -= waiting.question.num_rows
        return waiting

    def _is_full(self) -> bool:
        return self._queued_rows >= self._limits.batch_rows

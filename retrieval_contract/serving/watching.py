"""The version that answers, and the watcher that swaps it for the newest one in the run's folder.

A new version is loaded and warmed up beside the one that answers, then put in its place by one assignment: a request
reads the place once, and holds what it found until it is answered. The old version goes when nobody holds it any more.
Removing the newest folder brings back the one before. What cannot be loaded is refused in one line of the log, once,
and the server lives on what it has.
"""

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from retrieval_contract.errors import UserError
from retrieval_contract.files import versions
from retrieval_contract.serving import logs
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.pipeline import answer_all
from retrieval_contract.serving.published import fingerprint
from retrieval_contract.serving.question import Question

WARM_BATCHES = (1, 2, 16)
"""Sizes of the batches that a version answers before it is asked by anybody else."""


@final
class Serving:
    """The place of the version that answers."""

    def __init__(self, version: Version | None = None) -> None:
        """Begin with a version, or with none."""
        self._version = version

    @property
    def version(self) -> Version | None:
        """What answers now: read it once for a request."""
        return self._version

    def swap(self, version: Version) -> None:
        """Put another in its place."""
        self._version = version


@final
class Watcher:
    """Looks into a folder of versions again and again, and swaps."""

    def __init__(
        self,
        serving: Serving,
        folder: Path,
        load: Callable[[Path], Version],
        *,
        poll_seconds: float,
        swapped: Callable[[Version, Version | None], None] = lambda version, old: None,
    ) -> None:
        """Nothing happens before `poll` or `start`.

        Args:
            serving: whose version to swap.
            folder: of versions.
            load: reads one.
            poll_seconds: time between looks.
            swapped: is told of each new version, and of the one before.
        """
        self._serving, self._folder, self._load = serving, folder, load
        self._poll_seconds, self._swapped = poll_seconds, swapped
        self._current: tuple[int, bytes | None] | None = None
        self._refused: set[tuple[int, bytes | None]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)

    def poll(self) -> bool:
        """Look once; True where another version answers now."""
        for number in reversed(versions(self._folder)):
            mark = number, fingerprint(self._folder / str(number))
            if mark == self._current:
                return False
            if mark not in self._refused and self._take(mark):
                return True
        return False

    def start(self) -> None:
        """Look from now on, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a version that is being loaded is waited for."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception as error:  # a disk that is away for a moment must not end the watch
                logs.fault("watch_failed", error)

    def _take(self, mark: tuple[int, bytes | None]) -> bool:
        number = mark[0]
        try:
            version = self._load(self._folder / str(number))
            warm_up(version)
        except UserError as error:
            self._refuse(mark, str(error))
            return False
        except Exception as error:  # whatever a damaged or foreign file brings about in a library
            logs.fault("version_failed", error, version=number)
            self._refuse(mark, f"{type(error).__name__} while it was loaded")
            return False
        old = self._serving.version
        self._serving.swap(version)
        self._current = mark
        logs.say("version_serves", version=number, candidates=version.model.searcher.size)
        self._swapped(version, old)
        del version, old
        # Frameworks hold their graphs in circles: what nobody asks any more goes now, not when there are many.
        gc.collect()
        return True

    def _refuse(self, mark: tuple[int, bytes | None], why: str) -> None:
        self._refused.add(mark)
        now = None if self._current is None else self._current[0]
        logs.warn("version_refused", version=mark[0], why=why, serving=now)


def warm_up(version: Version) -> None:
    """Ask a version what a server is asked: by id, by features, in batches.

    Raises:
        UserError: or whatever else it cannot answer with.
    """
    model = version.model
    k = min(10, model.searcher.size)
    for num_rows in WARM_BATCHES:
        by_features = Question(
            version=version,
            operation="retrieve",
            num_rows=num_rows,
            columns={name: [None] * num_rows for name in model.query_inputs},
            k=k,
        )
        candidates = Question(
            version=version,
            operation="embed_candidate",
            num_rows=num_rows,
            columns={name: [None] * num_rows for name in model.candidate_inputs},
        )
        asked = [by_features, candidates]
        if model.num_queries:
            rows = [row % model.num_queries for row in range(num_rows)]
            asked.append(Question(version=version, operation="retrieve", num_rows=num_rows, query_rows=rows, k=k))
        for answer in answer_all(asked):
            if isinstance(answer, Exception):
                raise answer

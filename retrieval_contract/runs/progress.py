"""Progress of long work: a bar with a rate and an ETA on a terminal, plain lines otherwise."""

import shutil
import sys
import time
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts units of work and shows them; use as a context manager."""

    def __init__(
        self, what: str, *, total: int, done: int = 0, unit: str = "step", stream: TextIO | None = None
    ) -> None:
        """Begin.

        Args:
            what: the work, in a few words.
            total: units in all.
            done: units finished before (a resumed run).
            unit: the unit's name.
            stream: where to show; stderr by default.
        """
        self._what, self._total, self._done, self._unit = what, total, done, unit
        self._stream = stream or sys.stderr
        self._first, self._began = done, time.monotonic()
        self._said = self._began
        self._bar: tqdm | None = None
        if self._stream.isatty():
            # Asked for here: tqdm shows nothing on a terminal that says it has 0 lines, as those of containers may.
            columns, lines = shutil.get_terminal_size()
            self._bar = tqdm(
                total=total, initial=done, desc=what, unit=unit, file=self._stream, ncols=columns, nrows=lines
            )

    def advance(self, units: int, note: str = "") -> None:
        """Count finished units; `note` is shown behind them."""
        self._done += units
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(units)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._say(note)

    def note(self, text: str) -> None:
        """Show at once what is being done between two units."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=True)
        else:
            self._say(text)

    def close(self, note: str = "") -> None:
        """Say the last word."""
        if self._bar is not None:
            self._bar.close()
        else:
            self._say(note)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _say(self, note: str) -> None:
        self._said = time.monotonic()
        rate = (self._done - self._first) / max(self._said - self._began, 1e-9)
        eta = (self._total - self._done) / rate if rate > 0 else 0.0
        line = f"{self._what}: {self._done:,} of {self._total:,} {self._unit}s, {rate:,.1f} a second, ETA {eta:,.0f} s"
        print(line + (f", {note}" if note else ""), file=self._stream, flush=True)

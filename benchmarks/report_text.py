"""Pieces of markdown that sections of the report share."""

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]
WIDTH = 120
"""Letters in a line of a paragraph."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def paragraph(text: str) -> str:
    """Text in lines of a readable width; no word is broken."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def joined(parts: Sequence[str], last: str = "and") -> str:
    """Parts as a sentence lists them: 'a, b and c'."""
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def machines(lines: Sequence[Line]) -> str:
    """Processors and cores that lines were measured on, and how busy these were.

    The load average counts who wanted a core: a load beyond the cores says that others had the machine too.
    """
    named = "; ".join(sorted({f"{line['cpu']}, {line['cores']} core{'s' * (line['cores'] > 1)}" for line in lines}))
    loads = [line["load_average"][0] for line in lines if line["load_average"]]
    return f"{named}; load average {statistics.median(loads):.1f} at the median" if loads else named


def bounded(entry: Mapping[str, float | None], digits: int = 3) -> str:
    """A value with its interval, where it has one: '0.173 [0.166, 0.180]'."""
    value, low, high = entry["value"], entry.get("low"), entry.get("high")
    assert value is not None
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

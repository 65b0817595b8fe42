"""What the server says: one JSON object a line, on stderr, and nothing of what anybody asked.

No id of a query or a candidate, no feature, no address, no token: a line has the time, what happened, and numbers.
"""

import datetime
import logging
import sys
import traceback
from typing import Any

import orjson

LOGGER = logging.getLogger("retrieval_contract.serving")
FIELDS = "fields"


class _JsonLines(logging.Formatter):
    """Time, level, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {"time": when.isoformat(timespec="milliseconds"), "level": record.levelname.lower()}
        line |= {"event": record.getMessage(), **getattr(record, FIELDS, {})}
        return orjson.dumps(line, default=str).decode()


def log_to_stderr() -> None:
    """Send the server's lines to stderr, and no one else's twice."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def say(event: str, **fields: Any) -> None:
    """Something happened as it should."""
    LOGGER.info(event, extra={FIELDS: fields})


def warn(event: str, **fields: Any) -> None:
    """Something is not as it should be, and the server goes on."""
    LOGGER.warning(event, extra={FIELDS: fields})


def fault(event: str, error: BaseException, **fields: Any) -> None:
    """Our own fault: where it happened, without the error's message, which may repeat what was asked."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    LOGGER.error(event, extra={FIELDS: {**fields, "error": type(error).__name__, "at": places[-6:]}})

"""HTTP/1.1 as uvicorn speaks it with httptools, but with a bound on headers, which it has none of.

Pieces of an endless header would be joined again and again, at a cost that grows with the square of their number.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_BYTES = 65_536
"""Bytes of request line and headers; a connection that sends more gets 400 and is closed."""


class BoundedHeaders(HttpToolsProtocol):
    """Counts what comes before the headers of a request are complete."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._header_bytes = 0
        self._in_body = False

    def data_received(self, data: bytes) -> None:
        """Count, then parse."""
        if not self._in_body:
            self._header_bytes += len(data)
            # A piece that ends the headers may hold a part of the body, so the piece itself does not count.
            if self._header_bytes - len(data) > HEADER_BYTES:
                self.send_400_response("Headers are too large.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._header_bytes, self._in_body = 0, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next headers begin."""
        self._in_body = False
        super().on_message_complete()

"""What one request may ask for, and how much may wait: everything that bounds the server's memory and time."""

from dataclasses import dataclass

from retrieval_contract.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds; a request beyond one is refused by name, before anything is computed for it."""

    body_bytes: int = 1_000_000
    """Bytes of a body; a larger one is refused by its Content-Length, or as soon as so many have come (413)."""
    depth: int = 16
    """Lists and objects within each other in a body; the deepest message that means something has 6."""
    k: int = 1_000
    """Results for each query, and never more than the catalogue holds."""
    rows: int = 256
    """Queries in one request."""
    exclusions: int = 1_000
    """Excluded ids of one query."""
    filter_values: int = 100
    """Accepted values of one attribute."""
    changes: int = 1_000
    """Candidates in one update or removal."""
    seconds: float = 5.0
    """Time from a request's first byte to its answer; one that takes longer gets 504 (408 while its body comes)."""
    waiting_rows: int = 1_024
    """Queries that wait or are being computed; one more gets 503."""
    batch_rows: int = 64
    """Queries that are encoded and searched together, unless one request alone has more."""
    wait_ms: float = 1.0
    """How long the first request of a batch waits for others."""

    def __post_init__(self) -> None:
        for name in ("body_bytes", "depth", "k", "rows", "changes", "seconds", "waiting_rows", "batch_rows"):
            if getattr(self, name) <= 0:
                raise UserError(f"limit {name} is {getattr(self, name)}", todo="give a number above 0")
        for name in ("exclusions", "filter_values", "wait_ms"):
            if getattr(self, name) < 0:
                raise UserError(f"limit {name} is {getattr(self, name)}", todo="give a number of 0 or more")

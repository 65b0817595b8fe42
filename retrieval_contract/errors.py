"""The one error a user can cause, and the one that a run can reach by itself.

Every message says what is wrong, where (file, column, first rows, how many), and what to do about it, on one line.
Verbs turn a `UserError` into that line on stderr and exit code 2, a `RunError` into exit code 1; anything else is our
own fault and keeps its traceback.
"""

from collections.abc import Iterable


class UserError(ValueError):
    """The input, the configuration or the command line is wrong, and the user can mend it (exit code 2)."""

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        """Compose the line `what (where): todo`.

        Args:
            what: the fault, with the value received.
            where: file, column, first rows and how many; empty where there is no such place.
            todo: what would be right.
        """
        self.what, self.where, self.todo = what, where, todo
        line = what + (f" [{where}]" if where else "") + (f": {todo}" if todo else "")
        super().__init__(" ".join(line.split()))


class RunError(RuntimeError):
    """A run met something it cannot go on from, though the user did nothing wrong (exit code 1)."""


def first_rows(rows: Iterable[int], total: int, *, shown: int = 5) -> str:
    """Say which rows are meant: `rows 3, 17, 20 and 12 more`, counted from 0 as the file has them."""
    head = [str(row) for row, _ in zip(rows, range(shown), strict=False)]
    more = total - len(head)
    return f"rows {', '.join(head)}" + (f" and {more:,} more" if more > 0 else "")

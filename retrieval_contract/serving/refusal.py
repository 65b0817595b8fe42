"""A request that cannot be answered, with its HTTP status: the error form of TF Serving's REST interface."""

from collections.abc import Mapping
from http import HTTPStatus

from retrieval_contract.errors import UserError


class Refusal(Exception):  # noqa: N818  (a refusal is no fault of ours)
    """Answered as `{"error": message}`."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        """Compose it.

        Args:
            status: of HTTP, 400 or above.
            message: names the field, says what was received and what would be right.
            headers: to send beside it.
        """
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def bad(what: str, *, field: str, todo: str = "") -> Refusal:
    """A fault in a body: 400, naming the field."""
    return Refusal(HTTPStatus.BAD_REQUEST, f"{field}: {what}" + (f"; {todo}" if todo else ""))


def of_user_error(error: UserError) -> Refusal:
    """A user's fault that was found beyond the messages: 400, in its own words."""
    return Refusal(HTTPStatus.BAD_REQUEST, str(error))

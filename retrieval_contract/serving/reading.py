"""The body of a request, read no further than the limits allow, and parsed."""

import asyncio
from collections.abc import AsyncIterable
from http import HTTPStatus
from typing import Any

import orjson

from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.refusal import Refusal

# What is left of a body that is not read would be taken for the next request.
_CLOSE = {"Connection": "close"}


async def read_body(chunks: AsyncIterable[bytes], content_length: str | None, limits: Limits) -> bytes:
    """Read a body.

    Args:
        chunks: as they come.
        content_length: the header; None without one.
        limits: of the server.

    Raises:
        Refusal: 413 by the header or as soon as too much has come, 408 if it comes too slowly.
    """
    if content_length is not None and (not content_length.isdecimal() or int(content_length) > limits.body_bytes):
        raise _too_large(limits)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in chunks:
                size += len(chunk)
                if size > limits.body_bytes:
                    raise _too_large(limits)
                parts.append(chunk)
    except TimeoutError:
        what = f"body: not here after {limits.seconds:g} s"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, what, headers=_CLOSE) from None
    return b"".join(parts)


def parsed(body: bytes, limits: Limits) -> Any:
    """Parse JSON, strictly: no NaN, no comments, UTF-8.

    Raises:
        Refusal: 400, with the place of the fault.
    """
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refusal(HTTPStatus.BAD_REQUEST, f"JSON Parse Error: {error.msg} at {where}") from None
    # So few brackets cannot be too deep; counting them costs nothing, walking does.
    if body.count(b"[") + body.count(b"{") > limits.depth and _is_deeper(tree, limits.depth):
        what = f"body: lists and objects within each other deeper than {limits.depth}"
        raise Refusal(HTTPStatus.BAD_REQUEST, what)
    return tree


def _is_deeper(tree: Any, depth: int) -> bool:
    """True where containers lie within each other deeper than `depth`; without recursion, which deep JSON would end."""
    level = [tree]
    for _ in range(depth + 1):
        containers = [item for item in level if isinstance(item, list | dict)]
        if not containers:
            return False
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
    return True


def _too_large(limits: Limits) -> Refusal:
    what = f"body: more than {limits.body_bytes:,} bytes"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what, headers=_CLOSE)

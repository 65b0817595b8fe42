"""An application on a port, until SIGTERM or Ctrl-C: no new connections then, what is under way is finished."""

import math
import signal
import socket

import uvicorn
from fastapi import FastAPI

from retrieval_contract.errors import UserError
from retrieval_contract.serving.header_limit import BoundedHeaders
from retrieval_contract.serving.limits import Limits

BACKLOG = 2_048
"""Connections that may wait to be accepted."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Take a port, before anything that takes long is begun.

    Args:
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        UserError: the port is taken or not ours to take, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        # Without this, two servers could bind one port, and only the second to listen would be told.
        taken.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        taken.close()
        reason = getattr(error, "strerror", None) or str(error)
        todo = "stop what listens there, or give another --port (0 takes a free one)"
        raise UserError(f"cannot listen: {reason}", where=f"{host}:{port}", todo=todo) from None
    return taken


def run_until_stopped(app: FastAPI, listening: socket.socket, limits: Limits) -> None:
    """Serve on a socket; returns when the process was told to stop and all is answered.

    Args:
        app: the application.
        listening: from `bound_socket`.
        limits: of the server; requests under way get as long as any.
    """
    # uvicorn raises the signal again when it is done, which would end the process as if it had been killed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server_of(app, limits).run(sockets=[listening])


def server_of(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """A server that logs nothing of its own, and says nothing of itself."""
    config = uvicorn.Config(
        app,
        http=BoundedHeaders,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(2 * limits.seconds) + 1,
    )
    return uvicorn.Server(config)

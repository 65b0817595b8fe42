"""A server in a thread of this process, on a free port: for tests and measurements."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from retrieval_contract.serving.http_server import make_app
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.running import bound_socket, server_of
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Serving, Watcher


@contextlib.contextmanager
def served(
    folder: Path, load: Callable[[Path], Version], limits: Limits, *, poll_seconds: float, token: str | None = None
) -> Iterator[str]:
    """Serve the versions of a folder as the model `films`.

    Yields:
        The model's address, such as `http://127.0.0.1:40123/v1/models/films`.
    """
    service = Service("films", Serving(), limits)
    watcher = Watcher(service.serving, folder, load, poll_seconds=poll_seconds, swapped=service.swapped)
    assert watcher.poll(), "a version to begin with"
    app = make_app(service, watcher=watcher, token=token)
    with bound_socket("127.0.0.1", 0) as listening:
        server = server_of(app, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server ended while it began"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/films"
        finally:
            server.should_exit = True
            thread.join()

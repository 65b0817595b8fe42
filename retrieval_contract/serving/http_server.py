"""The addresses over HTTP: limits, the bearer token, TF Serving's error form, log lines and counters.

FastAPI gives the application, its OpenAPI page and its life cycle. The addresses are plain Starlette routes: bodies are
checked by the rooms of the messages, whose refusals name the field, and a route costs microseconds.
"""

import contextlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from retrieval_contract.serving import logs, metrics
from retrieval_contract.serving.openapi import openapi_of
from retrieval_contract.serving.reading import parsed, read_body
from retrieval_contract.serving.refusal import Refusal
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.watching import Watcher

Handler = Callable[[Request], Awaitable[Any]]
MODEL = "/v1/models/{name}"
VERSION = MODEL + "/versions/{version}"
_JSON_TYPE = "application/json"
GONE = 499
"""Status in logs and counters of a request whose sender went away."""


def make_app(
    service: Service,
    *,
    watcher: Watcher | None = None,
    token: str | None = None,
    stop_beside: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Make the application.

    Args:
        service: what answers; closed when the application ends.
        watcher: swaps its versions while the application runs.
        token: what `:update` and `:remove` ask for; None answers both with 403.
        stop_beside: stops what else asks the service, before it is closed.
    """

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        if watcher is not None:
            watcher.start()
        yield
        if watcher is not None:
            watcher.stop()
        stop_beside()
        service.close()

    app = FastAPI(title=f"{service.name}: retrieval", lifespan=life, redoc_url=None)
    app.openapi = lambda: openapi_of(service, changes=token is not None)  # type: ignore[method-assign]
    endpoints = _Endpoints(service, token)
    for path, method, handler in endpoints.table():
        app.add_route(path, _endpoint(service, path, handler), methods=[method])

    async def no_such_address(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)

        async def refuse(_: Request) -> Any:
            what = "Malformed request" if error.status_code == HTTPStatus.NOT_FOUND else error.detail
            raise Refusal(error.status_code, f"{what}: {request.method} of this address", headers=error.headers)

        return await _endpoint(service, "other", refuse)(request)

    app.add_exception_handler(HTTPException, no_such_address)
    return app


class _Endpoints:
    """One method an address."""

    def __init__(self, service: Service, token: str | None) -> None:
        self._service, self._token = service, token

    def table(self) -> Sequence[tuple[str, str, Handler]]:
        """Address, HTTP method, handler."""
        of_models = [
            (path + suffix, method, handler)
            for path in (MODEL, VERSION)
            for suffix, method, handler in (
                ("", "GET", self.status),
                ("/metadata", "GET", self.metadata),
                (":predict", "POST", self.predict),
            )
        ]
        ours = [(f"{MODEL}:{name}", "POST", getattr(self, name)) for name in ("recommend", "update", "remove")]
        pages = [(f"/{name}", "GET", getattr(self, name)) for name in ("healthz", "readyz", "metrics")]
        return [*of_models, *ours, *pages]

    async def status(self, request: Request) -> Any:
        return self._service.status(*_which(request))

    async def metadata(self, request: Request) -> Any:
        return self._service.metadata(*_which(request))

    async def predict(self, request: Request) -> Any:
        version = self._service.version(*_which(request))
        return await self._service.predict(version, await self._body(request))

    async def recommend(self, request: Request) -> Any:
        version = self._service.version(*_which(request))
        return await self._service.recommend(version, await self._body(request))

    async def update(self, request: Request) -> Any:
        self._authorise(request)
        version = self._service.version(*_which(request))
        return await self._service.update(version, await self._body(request))

    async def remove(self, request: Request) -> Any:
        self._authorise(request)
        version = self._service.version(*_which(request))
        return await self._service.remove(version, await self._body(request))

    async def healthz(self, request: Request) -> Any:
        if not self._service.batcher.is_alive:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the thread that answers has ended")
        return {"status": "alive"}

    async def readyz(self, request: Request) -> Any:
        version = self._service.serving.version
        if version is None or not self._service.batcher.is_alive:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no version answers")
        return {"status": "ready", "model": self._service.name, "model_version": str(version.number)}

    async def metrics(self, request: Request) -> Any:
        return Response(self._service.metrics.page(), media_type=metrics.CONTENT_TYPE)

    async def _body(self, request: Request) -> Any:
        limits = self._service.limits
        return parsed(await read_body(request.stream(), request.headers.get("content-length"), limits), limits)

    def _authorise(self, request: Request) -> None:
        """Ask for the token, before anything of the body is read."""
        closing = {"Connection": "close"}
        if self._token is None:
            what = "changes are off: start the server with --token_file=FILE to take updates of candidates"
            raise Refusal(HTTPStatus.FORBIDDEN, what, headers=closing)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            what = "header Authorization: not `Bearer` and the token of --token_file"
            raise Refusal(HTTPStatus.UNAUTHORIZED, what, headers={"WWW-Authenticate": "Bearer", **closing})


def _endpoint(service: Service, route: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """A Starlette endpoint: every outcome becomes a response, a count and a log line."""

    async def endpoint(request: Request) -> Response:
        began = time.perf_counter()
        request_id = secrets.token_hex(8)
        try:
            answer = await handler(request)
            response = answer if isinstance(answer, Response) else _json(answer)
        except Refusal as refusal:
            response = _json({"error": refusal.message}, refusal.status)
            response.headers.update(refusal.headers)
        except ClientDisconnect:
            response = Response(status_code=GONE)
        except Exception as error:  # ours: told in the log, and the server lives
            logs.fault("request_failed", error, request_id=request_id, route=route)
            what = f"internal error; the server's log has it under request {request_id}"
            response = _json({"error": what}, HTTPStatus.INTERNAL_SERVER_ERROR)
        response.headers["X-Request-ID"] = request_id
        seconds = time.perf_counter() - began
        service.metrics.requested(route, response.status_code, seconds)
        logs.say(
            "request", request_id=request_id, route=route, status=int(response.status_code), ms=round(1e3 * seconds, 3)
        )
        return response

    return endpoint


def _json(tree: Any, status: int = HTTPStatus.OK) -> Response:
    body = orjson.dumps(tree, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status_code=status, media_type=_JSON_TYPE)


def _which(request: Request) -> tuple[str, str | None]:
    """Name and number of the address."""
    return request.path_params["name"], request.path_params.get("version")

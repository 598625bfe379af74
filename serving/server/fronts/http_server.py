"""HTTP by uvicorn: requests are received whole in its event loop, and answered by threads.

What it says of itself is what TensorFlow Serving's own server (libevent's) says: no Server header, HTML for what
never reaches a handler.
"""

import asyncio
import contextlib
import dataclasses
import functools
import http
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import h11
import uvicorn
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_ERROR_PAGE = "<HTML><HEAD>\n<TITLE>{0} {1}</TITLE>\n</HEAD><BODY>\n<H1>{1}</H1>\n</BODY></HTML>\n"
_DEFAULT_CONTENT_TYPE = "text/html; charset=ISO-8859-1"
_TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"error": "there are as many connections already as there may be (--max_connections)"}'
)
_MAX_HEAD_BYTES = 65536
_LINGER_S = 5.0
"""A refused client that sends nothing for so long is cut off; what it sends is read, or it would not see why."""

_REFUSED_LINGER_S = 1.0
"""Likewise, of a connection that is one too many."""

# uvicorn tells of its starts and ends, which are not those of a program that embeds a server.
if logging.getLogger("uvicorn.error").level == logging.NOTSET:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
# What strangers send to this server is no news, even where such a program has uvicorn tell of its own.
_untold = logging.getLogger(f"{__name__}.untold")
_untold.setLevel(logging.CRITICAL)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may ask of the server."""

    body_bytes: int = 256 * 1024 * 1024
    connections: int = 1000  # at one time
    waiting: int = 512  # requests that arrive, or wait to be answered, beyond those that are
    receive_s: float = 60  # that a request's head, and then its body, may take to arrive
    idle_s: float = 300  # that a connection may stay open between requests, and an answer unread


@dataclasses.dataclass(frozen=True)
class Request:
    """A request, received whole."""

    method: str  # as it was sent
    target: str  # as it stands in the request line
    headers: Mapping[str, str]  # by lower-case name; of several the first, as libevent has it
    body: bytes


Handler = Callable[[Request], Response]


def error_page(status: int) -> Response:
    """Returns the answer to a request that no handler sees; the connection ends with it."""
    page = _ERROR_PAGE.format(status, http.HTTPStatus(status).phrase)
    return Response(page, status, {"Content-Type": "text/html", "Connection": "close"})


def _refusal(status: int, why: str) -> HTTPException:
    """Returns what refuses a request for a reason that its caller cannot know: in the API's form, and words."""
    return HTTPException(
        status, json.dumps({"error": why}), {"Content-Type": "application/json", "Connection": "close"}
    )


class HttpServer:
    """Serves HTTP on one socket, from a thread of its own."""

    def __init__(self, handler: Handler, *, threads: int, limits: Limits) -> None:
        """Prepares a server that answers so many requests at a time, each by the handler, in a thread."""
        self._handler = handler
        self._limits = limits
        self._workers = futures.ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._places = threads + limits.waiting  # that are free, for requests; changed by the event loop alone
        config = uvicorn.Config(
            self._answer,
            http=functools.partial(_Protocol, limits),  # type: ignore[arg-type]  # called as the class is
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            workers=1,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type]  # a fraction is as good
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def start(self, listening: socket.socket) -> None:
        """Serves a socket that is bound and listening, and closes it in the end."""
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="http", daemon=True)
        self._thread.start()

    def stop(self, drain_timeout_s: float) -> None:
        """Takes no new requests, waits for those under way, at most so many seconds, and closes everything."""
        self._server.config.timeout_graceful_shutdown = drain_timeout_s  # type: ignore[assignment]
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request: the ASGI application."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        lingers = False
        self._places -= 1
        try:
            if self._places < 0:
                raise _refusal(
                    http.HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{self._limits.waiting} requests wait already, which is all that may (--max_waiting_requests)",
                )
            async with asyncio.timeout(self._limits.receive_s):
                body = await self._receive(scope["method"], headers, receive)
            request = Request(scope["method"], scope["raw_path"].decode("latin-1"), headers, body)
            response = await asyncio.get_running_loop().run_in_executor(self._workers, self._handle, request)
        except ConnectionError:
            return
        except TimeoutError:
            response = error_page(http.HTTPStatus.REQUEST_TIMEOUT)
        except HTTPException as refusal:
            page = error_page(refusal.status_code)
            response = (
                page if refusal.headers is None else Response(refusal.detail, refusal.status_code, refusal.headers)
            )
            lingers = True
        except asyncio.CancelledError:
            # The time for draining is over.
            response = error_page(http.HTTPStatus.SERVICE_UNAVAILABLE)
        finally:
            self._places += 1
        response.headers.setdefault("Content-Type", _DEFAULT_CONTENT_TYPE)
        if self._server.should_exit:
            response.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": lingers})
        if lingers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.receive_s):
                    goes_on = True
                    while goes_on:
                        async with asyncio.timeout(_LINGER_S):
                            goes_on = (await receive()).get("more_body", False)
            await send({"type": "http.response.body"})

    async def _receive(self, method: str, headers: Mapping[str, str], receive: Receive) -> bytes:
        """Returns a request's body; HTTPException where it is refused, ConnectionError where the client has gone."""
        if method not in METHODS:
            raise HTTPException(http.HTTPStatus.NOT_IMPLEMENTED)
        left = self._limits.body_bytes
        # h11 has found it to be a number.
        if float(headers.get("content-length", 0)) > left:
            raise self._too_large()
        parts = []
        goes_on = True
        while goes_on:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            parts.append(message["body"])
            goes_on = message["more_body"]
            left -= len(message["body"])
            if left < 0:
                raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> HTTPException:
        why = f"the request's body is larger than {self._limits.body_bytes} bytes (--max_request_bytes)"
        return _refusal(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)

    def _handle(self, request: Request) -> Response:
        try:
            return self._handler(request)
        except Exception:
            logger.exception("Answering %s %s", request.method, request.target)
            return error_page(http.HTTPStatus.INTERNAL_SERVER_ERROR)


class _Protocol(H11Protocol):
    """One connection. Limits what uvicorn does not: how long a head may take, and an answer stay unread."""

    conn: "_Connection"

    def __init__(self, limits: Limits, **settings: Any) -> None:
        super().__init__(**settings)
        self.access_log = False
        self.logger = _untold
        self.conn = _Connection(h11.SERVER, _MAX_HEAD_BYTES)
        self._limits = limits
        self._is_in_head = self._is_refused = False
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._is_refused = True
            self.connections.discard(self)
            transport.write(_TOO_MANY_CONNECTIONS)
            transport.write_eof()
            self._watch("refusal", _REFUSED_LINGER_S)
            return
        self._watch("head", self._limits.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        for what in list(self._timers):
            self._watch(what, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        was_in_head, self._is_in_head = self._is_in_head, self.cycle is None or self.cycle.response_complete
        if not self._is_in_head:
            self._watch("head", None)
        elif not was_in_head:
            self._watch("head", self._limits.receive_s)

    def handle_events(self) -> None:
        super().handle_events()
        if self.scope is not None:
            self.scope["raw_path"] = self.conn.target

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch("answer", self._limits.idle_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch("answer", None)

    def _watch(self, what: str, seconds: float | None) -> None:
        """Cuts the connection after so many seconds, unless it is called again."""
        if what in self._timers:
            self._timers.pop(what).cancel()
        if seconds is not None:
            self._timers[what] = self.loop.call_later(seconds, self.transport.abort)


class _Connection(h11.Connection):
    """Keeps the target of the last request as it was sent: ASGI does not tell `/path?` from `/path`."""

    target = b""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.target = event.target
        return event

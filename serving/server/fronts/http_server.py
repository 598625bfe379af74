"""An HTTP/1 server for few, large requests: httptools parses, threads answer.

Requests of one connection are answered one after the other, in order. What it says of itself is what
TensorFlow Serving's own server (libevent's) says: no Server header, HTML for what never reaches a handler.
"""

import asyncio
import collections
import contextlib
import dataclasses
import email.utils
import http
import logging
import re
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent import futures

import httptools

logger = logging.getLogger(__name__)

METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
DEFAULT_CONTENT_TYPE = "text/html; charset=ISO-8859-1"
_ERROR_PAGE = "<HTML><HEAD>\n<TITLE>{0} {1}</TITLE>\n</HEAD><BODY>\n<H1>{1}</H1>\n</BODY></HTML>\n"
_REQUEST_LINE = re.compile(rb"\S+ \S+ HTTP/1\.[01]\r?\n")
_MAX_HEAD_BYTES = 65536
_LINGER_S = 5.0
"""So long at most, what a refused client goes on sending is read: else it would be cut off before it sees why."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may ask of the server.

    Attributes:
        body_bytes: the largest body.
        receive_s: seconds that a request may take to arrive.
        idle_s: seconds that a connection may stay open between requests.
    """

    body_bytes: int = 256 * 1024 * 1024
    receive_s: float = 60
    idle_s: float = 300


@dataclasses.dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        method: in capitals.
        target: as it stands in the request line.
        headers: values by lower-case name; of several the first, as libevent has it.
        body: all of it.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True)
class Response:
    """An answer.

    Attributes:
        status: the code.
        headers: without Date, Content-Length and Connection.
        body: all of it.
        closes: whether the connection ends with it.
    """

    status: int
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    closes: bool = False


def error_page(status: int) -> Response:
    """Returns the answer to a request that no handler sees."""
    page = _ERROR_PAGE.format(status, _phrase(status))
    return Response(status, {"Content-Type": "text/html"}, page.encode(), closes=True)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Unknown"


Handler = Callable[[Request], Response]


@dataclasses.dataclass
class _Incoming:
    """A request while it is being received."""

    target: bytes = b""
    method: str = ""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytearray = dataclasses.field(default_factory=bytearray)
    version: str = "1.1"
    keeps_alive: bool = True
    head_bytes: int = 0
    unfinished_bytes: int = 0

    def head_without_upgrade(self) -> bytes:
        """Returns the request's head without the wish for another protocol."""
        lines = [f"{self.method} {self.target.decode('latin-1')} HTTP/{self.version}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name != "upgrade"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _RefusedError(Exception):
    """The rest of the connection's input is of no interest."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Connection(asyncio.Protocol):
    """One connection: parses requests, hands them on one at a time, writes the answers."""

    def __init__(self, server: "HttpServer") -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = _Incoming()
        self._waiting: collections.deque[tuple[_Incoming, int | None]] = collections.deque()
        self._is_in_head = False
        self._is_busy = False
        self._is_stalled = False
        self._is_finished = False
        self._has_ended = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        connected = transport.get_extra_info("socket")
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            # asyncio sets this only where the listening socket was made with the protocol named.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server._connections.add(self)
        self._watch(self._server.limits.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_finished = True
        self._server._connections.discard(self)
        self._waiting.clear()
        self._watch(None)

    def data_received(self, data: bytes) -> None:
        if self._is_finished:
            return
        begun, was_in_head, body_bytes = self._incoming, self._is_in_head, len(self._incoming.body)
        try:
            self._parse(data)
            if self._incoming is begun and self._is_in_head == was_in_head and len(begun.body) == body_bytes:
                # All of the data is head, or stands around chunks; the parser keeps what is not a whole line yet.
                begun.unfinished_bytes += len(data)
                self._check_head(begun.unfinished_bytes)
            else:
                begun.unfinished_bytes = 0
        except _RefusedError as refusal:
            self._refuse(refusal.status)
        except httptools.HttpParserInvalidMethodError:
            # A request line with an unknown word in it, or none at all.
            is_request = _REQUEST_LINE.search(data)
            self._refuse(http.HTTPStatus.NOT_IMPLEMENTED if is_request else http.HTTPStatus.BAD_REQUEST)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause.status if isinstance(cause, _RefusedError) else http.HTTPStatus.BAD_REQUEST)
        except httptools.HttpParserError:
            self._refuse(http.HTTPStatus.BAD_REQUEST)

    def pause_writing(self) -> None:
        # A client that does not read its answers gets no more, and is not read either.
        self._is_stalled = True
        if self._transport is not None:
            self._transport.pause_reading()
        self._watch(self._server.limits.idle_s)

    def resume_writing(self) -> None:
        self._is_stalled = False
        self._watch(None)
        self._go_on()

    def eof_received(self) -> bool:
        # Half a connection is enough to answer what has arrived.
        self._has_ended = True
        return self._is_busy or bool(self._waiting)

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._incoming = _Incoming()
        self._is_in_head = True
        self._watch(self._server.limits.receive_s)

    def on_url(self, url: bytes) -> None:
        self._incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Those that are given twice count too, and those after a chunked body.
        self._incoming.head_bytes += len(name) + len(value) + len(": \r\n")
        self._check_head(self._incoming.head_bytes)
        self._incoming.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        incoming = self._incoming
        incoming.method = self._parser.get_method().decode("latin-1")
        incoming.version = self._parser.get_http_version()
        incoming.keeps_alive = self._parser.should_keep_alive()
        if incoming.version not in ("1.0", "1.1"):
            raise _RefusedError(http.HTTPStatus.BAD_REQUEST)
        if incoming.method not in METHODS:
            raise _RefusedError(http.HTTPStatus.NOT_IMPLEMENTED)
        self._check_head(incoming.head_bytes + len(incoming.target))
        if self._parser.should_upgrade():
            return
        length = incoming.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._server.limits.body_bytes:
            raise _RefusedError(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        expects = incoming.version != "1.0" and incoming.headers.get("expect", "").lower() == "100-continue"
        if expects and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._incoming.body += body
        if len(self._incoming.body) > self._server.limits.body_bytes:
            raise _RefusedError(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        self._watch(None)
        self._waiting.append((self._incoming, None))
        self._incoming = _Incoming()
        self._answer_next()
        if self._waiting and self._transport is not None:
            # One that waits is enough: what else is sent stays with the client.
            self._transport.pause_reading()

    # -- the rest

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                return self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Nothing else is spoken here, and one may say so by silence (RFC 9110, 7.8). The parser stops at such
                # a head, body or not; so it gets that again without the wish. In a loop, as many may come at once.
                self._parser = httptools.HttpRequestParser(self)
                data = self._incoming.head_without_upgrade() + data[upgrade.args[0] :]

    @staticmethod
    def _check_head(size: int) -> None:
        if size > _MAX_HEAD_BYTES:
            raise _RefusedError(http.HTTPStatus.BAD_REQUEST)

    def _refuse(self, status: int) -> None:
        """Answers what cannot be understood, after all that came before it."""
        self._is_finished = True
        self._watch(None)
        if self._transport is not None:
            self._transport.pause_reading()
        self._waiting.append((self._incoming, status))
        self._answer_next()

    def _answer_next(self) -> None:
        if self._is_busy or self._is_stalled or not self._waiting or self._transport is None:
            return
        incoming, refused = self._waiting.popleft()
        if refused is not None:
            self._write(incoming, error_page(refused), lingers=True)
            return
        self._is_busy = True
        request = Request(
            incoming.method,
            incoming.target.decode("latin-1"),
            incoming.headers,
            bytes(incoming.body),
        )
        answered = self._server._loop.run_in_executor(self._server._workers, self._server._handle, request)
        answered.add_done_callback(lambda future: self._answered(incoming, future.result()))

    def _answered(self, incoming: _Incoming, response: Response) -> None:
        self._is_busy = False
        self._write(incoming, response)
        self._go_on()

    def _go_on(self) -> None:
        """Answers what waits; else reads on."""
        if self._transport is None or self._transport.is_closing() or self._is_busy or self._is_stalled:
            return
        if self._waiting:
            self._answer_next()
            return
        if not self._is_finished:
            self._transport.resume_reading()
        if self._has_ended:
            self._transport.close()
        elif not self._incoming.headers:
            self._watch(self._server.limits.idle_s)

    def _write(self, incoming: _Incoming, response: Response, *, lingers: bool = False) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        closes = response.closes or not incoming.keeps_alive or self._server._is_draining
        old = incoming.version == "1.0"
        lines = [f"HTTP/{'1.0' if old else '1.1'} {response.status} {_phrase(response.status)}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        has_body = incoming.method != "HEAD"
        if has_body and "Content-Type" not in response.headers:
            lines.append(f"Content-Type: {DEFAULT_CONTENT_TYPE}")
        if not old:
            lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        if has_body and (not old or not closes):
            lines.append(f"Content-Length: {len(response.body)}")
        if closes:
            lines.append("Connection: close")
        elif old:
            lines.append("Connection: keep-alive")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._transport.writelines([head, response.body] if has_body else [head])
        if closes:
            self._is_finished = True
            self._waiting.clear()
            if lingers and not self._has_ended and not self._server._is_draining:
                self._transport.write_eof()
                self._transport.resume_reading()
                self._watch(_LINGER_S)
            else:
                self._transport.close()

    def _watch(self, seconds: float | None) -> None:
        """Closes the connection after so many seconds, unless it is called again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._server._loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close_if_idle(self) -> None:
        """Ends the connection, or lets the answer under way be its last."""
        if not self._is_busy and not self._waiting and self._transport is not None:
            self._transport.close()


class HttpServer:
    """Serves HTTP on one socket, from a thread of its own."""

    def __init__(self, handler: Handler, *, threads: int, limits: Limits) -> None:
        """Prepares a server.

        Args:
            handler: answers a request; called in a worker thread.
            threads: requests answered at a time.
            limits: what clients may ask for.
        """
        self.limits = limits
        self._handler = handler
        self._workers = futures.ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._listener: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._is_draining = False

    def start(self, listening: socket.socket) -> None:
        """Serves a socket that is bound and listening."""
        self._thread.start()
        self._call(self._listen(listening))

    def drain(self, timeout_s: float) -> None:
        """Takes no new requests, and waits until those under way are answered, or the time is over."""
        self._call(self._stop_listening())
        deadline = self._loop.time() + timeout_s
        while self._connections and self._loop.time() < deadline:
            threading.Event().wait(0.02)

    def stop(self) -> None:
        """Closes everything at once."""
        if not self._thread.is_alive():
            self._loop.close()
            return
        self._call(self._stop_listening())
        self._call(self._abort())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _handle(self, request: Request) -> Response:
        try:
            return self._handler(request)
        except Exception:
            logger.exception("Answering %s %s", request.method, request.target)
            return error_page(http.HTTPStatus.INTERNAL_SERVER_ERROR)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, coroutine) -> None:  # type: ignore[no-untyped-def]
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, listening: socket.socket) -> None:
        self._listener = await self._loop.create_server(lambda: _Connection(self), sock=listening)

    async def _stop_listening(self) -> None:
        self._is_draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close_if_idle()

    async def _abort(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection._expire()
        await asyncio.sleep(0)

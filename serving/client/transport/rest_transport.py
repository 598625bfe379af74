"""Calls over REST.

Both transports here are one implementation for asyncio: only there can a call be ended at its deadline
whatever it is doing. HTTP clients for threads bound each read and write alone, so that an answer that drips
in never times out. The transport for threads runs it on a loop of its own thread.
"""

import asyncio
import gzip
import os
import re
import socket
import ssl
import threading
import weakref
from typing import Any

import anyio
import httpx

from .. import errors
from . import rest_codec
from .addresses import Address
from .calls import Call, Reply
from .options import ConnectionOptions
from .proxies import proxy_of
from .refusals import certificate_error
from .security import Metadata, Tls

_KEEP_IDLE_S = 60.0
# The status by which an HTTP proxy answers CONNECT, but for those that pass, or what httpcore says of a SOCKS proxy's.
_REFUSES_TO_CONNECT = r"(4(?!08|29)\d\d)\b|Invalid username/password"
_MOST_UNPACKED = 100 << 20
"""TensorFlow Serving unpacks no more bytes of a compressed request."""


class AsyncRestTransport:
    """An HTTP connection pool for asyncio."""

    def __init__(self, address: Address, options: ConnectionOptions):
        self._address = address
        self._options = options
        self._proxy = proxy_of(address)
        self._http = httpx.AsyncClient(
            base_url=str(address),
            # Making a context takes longer than a call; http:// has no use for one, and is never redirected.
            verify=_context_of(options.tls) if address.is_secure else False,
            # The deadline of the call as a whole is the only clock.
            timeout=None,
            # httpx fails on what it cannot read of the environment, and calls servers on this machine by proxies too.
            trust_env=False,
            proxy=None if self._proxy is None else self._proxy.for_httpx(),
            limits=httpx.Limits(
                max_connections=options.max_connections,
                max_keepalive_connections=options.max_connections,
                keepalive_expiry=_KEEP_IDLE_S,
            ),
            # Servers do not compress answers; who does so unasked could make 1 GB of 1 MB.
            headers={"user-agent": "maskport", "accept-encoding": "identity"},
        )
        self._running: dict[asyncio.Task[Any], anyio.CancelScope] = {}
        self._closed = False

    async def send(self, call: Call, timeout_s: float, pairs: Metadata) -> Reply:
        """Sends a call once, and waits for its answer."""
        if self._closed:
            raise errors.CallCancelledError("the connection is closed")
        scope = anyio.CancelScope(deadline=asyncio.get_running_loop().time() + timeout_s)
        request = rest_codec.encode(call)
        # httpx gives a connection back also when a call is given up, but only if it is given up in anyio's way: where
        # asyncio's cancels that itself, the connection's place is lost. So it runs in a task that nobody else cancels.
        task = asyncio.create_task(self._exchange(scope, self._build(request, pairs)))
        self._running[task] = scope
        task.add_done_callback(self._running.pop)
        try:
            answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            scope.cancel()
            await asyncio.wait([task])
            raise
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
            raise self._with_proxy(_error_of(error)) from error
        if answer is None:
            if self._closed:
                raise errors.CallCancelledError("the connection is closed")
            raise errors.DeadlineExceededError("no answer in time")
        response, body = answer
        if response.status_code != 200:
            refused = rest_codec.error_of_answer(response.status_code, body, response.headers)
            raise refused if "json" in response.headers.get("content-type", "") else self._with_proxy(refused)
        return Reply(rest_codec.decode(call, body), len(request.body), len(body))

    def _with_proxy(self, error: errors.MaskServingError) -> errors.MaskServingError:
        """Returns an error that may be a proxy's, with its name."""
        if self._proxy is not None:
            error.problem += f" (called through {self._proxy})"
        return error

    async def _exchange(self, scope: anyio.CancelScope, request: httpx.Request) -> tuple[httpx.Response, bytes] | None:
        with scope:
            response = await self._http.send(request, stream=True)
            try:
                encoding = response.headers.get("content-encoding", "identity")
                if encoding != "identity":
                    raise errors.InvalidResponseError(f"the answer is compressed ({encoding}), which was not asked for")
                most = self._options.max_answer_bytes
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > most:
                        raise errors.MessageTooLargeError(
                            f"the answer is larger than {most} bytes",
                            hint="ask for fewer or smaller images, or raise max_answer_bytes",
                        )
                return response, bytes(body)
            finally:
                await response.aclose()
        return None

    async def close(self) -> None:
        """Cancels what is on its way, and closes the connections."""
        self._closed = True
        running = dict(self._running)
        for scope in running.values():
            scope.cancel()
        if running:
            await asyncio.wait(running)
        await self._http.aclose()

    def _build(self, request: rest_codec.RestRequest, pairs: Metadata) -> httpx.Request:
        headers = list(pairs)
        body = request.body
        if body:
            headers.append(("content-type", "application/json"))
            if self._options.compression == "gzip" and len(body) <= _MOST_UNPACKED:
                body = gzip.compress(body, compresslevel=1)
                headers.append(("content-encoding", "gzip"))
        # The path is joined by hand: it is percent-encoded already, and may follow a prefix.
        url = f"{self._address}{request.path}"
        return self._http.build_request(request.method, url, content=body or None, headers=headers)


class RestTransport:
    """An HTTP connection pool for threads."""

    def __init__(self, address: Address, options: ConnectionOptions):
        self._transport = AsyncRestTransport(address, options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name=f"maskport {address}", daemon=True)
        self._thread.start()
        # Held while a call is handed to the loop, so that none comes after its end.
        self._handing = threading.Lock()
        # A client that is dropped without having been closed leaves no thread and no connection.
        self._ending = weakref.finalize(self, _end, self._loop, self._thread, self._transport)
        self._ending.atexit = False

    def send(self, call: Call, timeout_s: float, pairs: Metadata) -> Reply:
        """Sends a call once, and waits for its answer."""
        coroutine = self._transport.send(call, timeout_s, pairs)
        with self._handing:
            if not self._ending.alive:
                coroutine.close()
                raise errors.CallCancelledError("the connection is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a thread that was interrupted leaves nothing running
            raise

    def close(self) -> None:
        """Cancels what is on its way, and closes the connections."""
        if self._thread.is_alive():  # in a forked child it never is
            with self._handing:
                self._ending()
            self._thread.join()


def _context_of(tls: Tls) -> ssl.SSLContext:
    """Returns the certificates, and the name that the server's must bear."""
    context = tls.context()
    if tls.server_name is not None:
        wrap = context.wrap_bio

        def wrap_by_name(
            incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool, server_hostname: str
        ) -> ssl.SSLObject:
            return wrap(incoming, outgoing, server_side, tls.server_name)

        # httpx takes a name for a direct connection only, and gives it to an encrypted proxy too.
        context.wrap_bio = wrap_by_name  # type: ignore[method-assign, assignment]
    return context


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, transport: AsyncRestTransport) -> None:
    """Closes a transport for threads, and ends its loop once all that was handed to it has ended."""

    async def end() -> None:
        try:
            await transport.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others)
        finally:
            loop.call_soon(loop.stop)  # after the callbacks of those that have just ended

    # After a fork, a child has the loop but not its thread; the connections are the parent's.
    if thread.is_alive():
        asyncio.run_coroutine_threadsafe(end(), loop)


def _error_of(error: Exception) -> errors.MaskServingError:
    """Returns the error of a request that brought no answer."""
    words = _words_of(error)
    if isinstance(error, httpx.ProxyError) and (match := re.match(_REFUSES_TO_CONNECT, words)):
        return errors.AccessDeniedError(
            f"the proxy refuses to connect: {words}",
            hint="check its user and password in the variable, or list the server's host in no_proxy",
            http_status=int(match[1]) if match[1] else None,
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        if (refused := certificate_error(words)) is not None:
            return refused
        unavailable = errors.ServerUnavailableError(f"cannot connect: {words}")
        if "WRONG_VERSION_NUMBER" in words:
            unavailable.hint = "that port is not encrypted: use http:// for REST, or grpc:// for gRPC"
        unavailable.sent = False
        return unavailable
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return errors.InvalidRequestError(words)
    if isinstance(error, httpx.LocalProtocolError):
        return errors.InvalidRequestError(f"the request breaks HTTP: {words}")
    if isinstance(error, httpx.RemoteProtocolError) and "illegal" in words:
        return errors.InvalidResponseError(
            f"what answers there does not speak HTTP: {words}", hint="use grpc:// for a gRPC port"
        )
    return errors.ServerUnavailableError(f"the connection broke off: {words}")


def _words_of(error: BaseException) -> str:
    """Returns what an error says; where the operating system said something to begin with, that."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror) and cause.strerror:
            return cause.strerror  # its numbers are not the operating system's
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
            return os.strerror(cause.errno)
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__

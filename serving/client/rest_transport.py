"""Calls over REST.

Both transports here are one implementation for asyncio: only there can a call be ended at its deadline
whatever it is doing. HTTP clients for threads bound each read and write alone, so that an answer that drips
in never times out. The transport for threads runs it on a loop of its own thread.
"""

import asyncio
import gzip
import os
import socket
import ssl
import threading
from collections.abc import Coroutine
from typing import Any

import httpx

from . import rest_codec
from .addresses import Address
from .calls import Call, Reply
from .errors import (
    CallCancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    InvalidResponseError,
    MaskServingError,
    ServerUnavailableError,
    certificate_error,
)
from .transports import ConnectionOptions, Pairs

_KEEP_IDLE_S = 60.0
_MAX_ANSWER_BYTES = (1 << 31) - 1


class AsyncRestTransport:
    """An HTTP connection pool for asyncio."""

    def __init__(self, address: Address, options: ConnectionOptions):
        self._address = address
        self._options = options
        self._http = httpx.AsyncClient(
            base_url=str(address),
            # Making a context takes longer than a call; http:// has no use for one, and is never redirected.
            verify=options.tls.context() if address.is_secure else False,
            # The deadline of the call as a whole is the only clock.
            timeout=None,
            limits=httpx.Limits(
                max_connections=options.max_connections,
                max_keepalive_connections=options.max_connections,
                keepalive_expiry=_KEEP_IDLE_S,
            ),
            # Servers do not compress answers; who does so unasked could make 1 GB of 1 MB.
            headers={"user-agent": "maskport", "accept-encoding": "identity"},
        )
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def send(self, call: Call, timeout_s: float, pairs: Pairs) -> Reply:
        """Sends a call once, and waits for its answer."""
        if self._closed:
            raise CallCancelledError("the connection is closed")
        deadline = asyncio.get_running_loop().time() + timeout_s
        request = rest_codec.encode(call)
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
        try:
            async with asyncio.timeout_at(deadline):
                response, body = await self._exchange(self._build(request, pairs))
        except TimeoutError as error:
            raise DeadlineExceededError("no answer in time") from error
        except asyncio.CancelledError as error:
            if not self._closed:
                raise
            if task is not None:
                task.uncancel()
            raise CallCancelledError("the connection is closed") from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
            raise _error_of(error) from error
        finally:
            if task is not None:
                self._running.discard(task)
        if response.status_code != 200:
            raise rest_codec.error_of_answer(response.status_code, body, response.headers)
        return Reply(rest_codec.decode(call, body), len(request.body), len(body))

    async def _exchange(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        response = await self._http.send(request, stream=True)
        try:
            encoding = response.headers.get("content-encoding", "identity")
            if encoding != "identity":
                raise InvalidResponseError(f"the answer is compressed ({encoding}), which was not asked for")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise InvalidResponseError(f"the answer is larger than {_MAX_ANSWER_BYTES} bytes")
            return response, bytes(body)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Cancels what is on its way, and closes the connections."""
        self._closed = True
        for task in list(self._running):
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(0)  # the cancelled ones leave the pool first
        await self._http.aclose()

    def _build(self, request: rest_codec.RestRequest, pairs: Pairs) -> httpx.Request:
        headers = list(pairs)
        body = request.body
        if body:
            headers.append(("content-type", "application/json"))
            if self._options.compression == "gzip":
                body = gzip.compress(body, compresslevel=1)
                headers.append(("content-encoding", "gzip"))
        extensions: dict[str, Any] = {}
        if self._options.tls.server_name is not None:
            extensions["sni_hostname"] = self._options.tls.server_name
        # The path is joined by hand: it is percent-encoded already, and may follow a prefix.
        url = f"{self._address}{request.path}"
        return self._http.build_request(
            request.method, url, content=body or None, headers=headers, extensions=extensions
        )


class RestTransport:
    """An HTTP connection pool for threads."""

    def __init__(self, address: Address, options: ConnectionOptions):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"maskport {address}", daemon=True)
        self._thread.start()
        self._transport = AsyncRestTransport(address, options)
        self._closing = threading.Lock()

    def send(self, call: Call, timeout_s: float, pairs: Pairs) -> Reply:
        """Sends a call once, and waits for its answer."""
        reply: Reply = self._run(self._transport.send(call, timeout_s, pairs))
        return reply

    def close(self) -> None:
        """Cancels what is on its way, and closes the connections."""
        with self._closing:
            # After a fork, a child has the loop but not its thread; the connections are the parent's.
            if self._loop.is_closed() or not self._thread.is_alive():
                return
            self._run(self._transport.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:  # the loop is closed
            coroutine.close()
            raise CallCancelledError("the connection is closed") from error
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a thread that was interrupted leaves nothing running
            raise


def _error_of(error: Exception) -> MaskServingError:
    """Returns the error of a request that brought no answer."""
    words = _words_of(error)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        if (refused := certificate_error(words)) is not None:
            return refused
        unavailable = ServerUnavailableError(f"cannot connect: {words}")
        unavailable.sent = False
        return unavailable
    if isinstance(error, httpx.DecodingError | httpx.TooManyRedirects):
        return InvalidResponseError(words)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return InvalidRequestError(words)
    if isinstance(error, httpx.LocalProtocolError):
        return InvalidRequestError(f"the request breaks HTTP: {words}")
    if isinstance(error, httpx.RemoteProtocolError) and "illegal" in words:
        return InvalidResponseError(
            f"what answers there does not speak HTTP: {words}", hint="use grpc:// for a gRPC port"
        )
    return ServerUnavailableError(f"the connection broke off: {words}")


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

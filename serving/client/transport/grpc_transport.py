"""Calls over gRPC."""

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any

import grpc

from ...status_codes import StatusCode
from .. import errors
from . import grpc_codec
from .addresses import Address
from .calls import Call, Reply
from .options import ConnectionOptions
from .refusals import certificate_error, error_of_code, holds_any
from .security import Metadata

# How gRPC says that a call never left: no connection could be made. Only then has no server seen it.
_NOT_GRPC = ("http1.x server", "Expected SETTINGS frame", "Failed parsing HTTP/2")
_NEVER_SENT = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "name resolution",
    "DNS resolution failed",
    "errors resolving",
    "No results from DNS queries",
)


class _Channel:
    """What both transports do with a channel of their library: gRPC's own, or its `aio`."""

    _library: Any = grpc

    def __init__(self, address: Address, options: ConnectionOptions):
        arguments = _channel_arguments(address, options)
        if address.is_secure:
            credentials = grpc.ssl_channel_credentials(*options.tls.read())
            self._channel = self._library.secure_channel(address.grpc_target, credentials, options=arguments)
        else:
            self._channel = self._library.insecure_channel(address.grpc_target, options=arguments)
        self._compression = grpc.Compression.Gzip if options.compression == "gzip" else grpc.Compression.NoCompression
        self._methods: dict[str, Any] = {}

    def _prepare(self, call: Call, timeout_s: float, pairs: Metadata) -> tuple[Callable[[], Any], int]:
        """Returns what sends a call, and the size of the request."""
        deadline = time.monotonic() + timeout_s
        path, request = grpc_codec.encode(call)
        method = self._methods.get(path)
        if method is None:
            # Without serialisers: bytes in, bytes out. The codec knows the messages, and errors in them.
            method = self._methods[path] = self._channel.unary_unary(path)
        left_s = max(deadline - time.monotonic(), 0.001)  # gRPC takes 0 for none
        # What such keys name is bytes to gRPC.
        sent = [(key, value.encode() if key.endswith("-bin") else value) for key, value in pairs]
        send = functools.partial(method, request, timeout=left_s, metadata=sent, compression=self._compression)
        return send, len(request)


class GrpcTransport(_Channel):
    """A gRPC channel for threads."""

    def send(self, call: Call, timeout_s: float, pairs: Metadata) -> Reply:
        """Sends a call once, and waits for its answer."""
        send, request_bytes = self._prepare(call, timeout_s, pairs)
        try:
            response = send()
        except grpc.RpcError as error:
            raise _error_of(error) from error
        except ValueError as error:  # the channel is closed
            raise errors.CallCancelledError("the connection is closed") from error
        return Reply(grpc_codec.decode(call, response), request_bytes, len(response))

    def close(self) -> None:
        """Cancels what is on its way, and closes the channel."""
        self._channel.close()


class AsyncGrpcTransport(_Channel):
    """A gRPC channel for asyncio."""

    _library = grpc.aio

    async def send(self, call: Call, timeout_s: float, pairs: Metadata) -> Reply:
        """Sends a call once, and waits for its answer."""
        send, request_bytes = self._prepare(call, timeout_s, pairs)
        try:
            response = await send()
        except grpc.RpcError as error:
            raise _error_of(error) from error
        except grpc.aio.UsageError as error:  # the channel is closed
            raise errors.CallCancelledError("the connection is closed") from error
        except asyncio.CancelledError as error:
            # Closing the channel cancels its calls as if their own task had been cancelled.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise errors.CallCancelledError("the connection is closed") from error
        return Reply(grpc_codec.decode(call, response), request_bytes, len(response))

    async def close(self) -> None:
        """Cancels what is on its way, and closes the channel."""
        await self._channel.close(grace=None)


def _channel_arguments(address: Address, options: ConnectionOptions) -> list[tuple[str, Any]]:
    arguments: list[tuple[str, Any]] = [
        # gRPC's own limit of 4 MB breaks on the first real image.
        ("grpc.max_send_message_length", grpc_codec.MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", options.max_answer_bytes),
        # Every address that a name stands for gets its share of the calls.
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.keepalive_time_ms", round(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(options.keepalive_timeout_s * 1000)),
        # Newer releases wait for the answer by this clock, which is a minute unless it is set, and ask nothing while
        # an earlier question is open, such as their own about the connection's speed.
        ("grpc.http2.ping_timeout_ms", round(options.keepalive_timeout_s * 1000)),
        # A server that comes back is found within a second, rather than within two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Connections are this client's own: closing it closes them.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if address.stays_on_this_machine:
        # Proxies of the environment are not for servers on this machine, nor for their secrets.
        arguments.append(("grpc.enable_http_proxy", 0))
    if options.tls.server_name is not None:
        arguments.append(("grpc.ssl_target_name_override", options.tls.server_name))
    return arguments


def _error_of(error: Any) -> errors.MaskServingError:
    """Returns the error of a call that gRPC reports as failed."""
    code = StatusCode(error.code().value[0])
    details = error.details() or ""
    if code == StatusCode.CANCELLED:
        return errors.CallCancelledError(details or "the call was cancelled", server_message=details)
    if code == StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceededError("no answer in time", server_message=details)
    if code == StatusCode.UNAVAILABLE and holds_any(details, _NOT_GRPC):
        return errors.InvalidResponseError(
            f"what answers there does not speak gRPC: {details}", hint="use http:// for a REST port"
        )
    if code == StatusCode.UNAVAILABLE:
        if (refused := certificate_error(details)) is not None:
            return refused
        unavailable = errors.ServerUnavailableError(details or "the server is gone", server_message=details)
        unavailable.sent = not holds_any(details, _NEVER_SENT)
        return unavailable
    if code == StatusCode.UNKNOWN and "Stream removed" in details:
        # How some releases report a connection that broke off in the middle of an answer.
        return errors.ServerUnavailableError(details, server_message=details)
    return error_of_code(code, details)

"""Calls over gRPC."""

import asyncio
import time
from typing import Any

import grpc

from ...status_codes import StatusCode
from ..errors import (
    CallCancelledError,
    DeadlineExceededError,
    InvalidResponseError,
    MaskServingError,
    ServerUnavailableError,
    certificate_error,
    error_of_code,
)
from . import grpc_codec
from .addresses import Address
from .calls import Call, Reply
from .transports import ConnectionOptions, Pairs

# How gRPC says that a call never left: no connection could be made. Only then has no server seen it.
_NOT_GRPC = ("http1.x server", "Expected SETTINGS frame", "Failed parsing HTTP/2")
_NEVER_SENT = ("failed to connect to all addresses", "connections to all backends failing", "name resolution")


class GrpcTransport:
    """A gRPC channel for threads."""

    def __init__(self, address: Address, options: ConnectionOptions):
        arguments = _channel_arguments(address, options)
        if address.is_secure:
            self._channel = grpc.secure_channel(address.grpc_target, _credentials(options), options=arguments)
        else:
            self._channel = grpc.insecure_channel(address.grpc_target, options=arguments)
        self._compression = _compression(options)
        self._methods: dict[str, Any] = {}

    def send(self, call: Call, timeout_s: float, pairs: Pairs) -> Reply:
        """Sends a call once, and waits for its answer."""
        deadline = time.monotonic() + timeout_s
        path, request = grpc_codec.encode(call)
        method = self._methods.get(path)
        if method is None:
            # Without serialisers: bytes in, bytes out. The codec knows the messages, and errors in them.
            method = self._methods[path] = self._channel.unary_unary(path)
        try:
            response = method(request, timeout=_left_s(deadline), metadata=pairs, compression=self._compression)
        except grpc.RpcError as error:
            raise _error_of(error) from error
        except ValueError as error:  # the channel is closed
            raise CallCancelledError("the connection is closed") from error
        return Reply(grpc_codec.decode(call, response), len(request), len(response))

    def close(self) -> None:
        """Cancels what is on its way, and closes the channel."""
        self._channel.close()


class AsyncGrpcTransport:
    """A gRPC channel for asyncio."""

    def __init__(self, address: Address, options: ConnectionOptions):
        arguments = _channel_arguments(address, options)
        if address.is_secure:
            self._channel = grpc.aio.secure_channel(address.grpc_target, _credentials(options), options=arguments)
        else:
            self._channel = grpc.aio.insecure_channel(address.grpc_target, options=arguments)
        self._compression = _compression(options)
        self._methods: dict[str, Any] = {}

    async def send(self, call: Call, timeout_s: float, pairs: Pairs) -> Reply:
        """Sends a call once, and waits for its answer."""
        deadline = time.monotonic() + timeout_s
        path, request = grpc_codec.encode(call)
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        try:
            response = await method(request, timeout=_left_s(deadline), metadata=pairs, compression=self._compression)
        except grpc.RpcError as error:
            raise _error_of(error) from error
        except grpc.aio.UsageError as error:  # the channel is closed
            raise CallCancelledError("the connection is closed") from error
        except asyncio.CancelledError as error:
            # Closing the channel cancels its calls as if their own task had been cancelled.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise CallCancelledError("the connection is closed") from error
        return Reply(grpc_codec.decode(call, response), len(request), len(response))

    async def close(self) -> None:
        """Cancels what is on its way, and closes the channel."""
        await self._channel.close(grace=None)


def _left_s(deadline: float) -> float:
    """Returns the seconds until a time; a little at least, as gRPC takes 0 for none."""
    return max(deadline - time.monotonic(), 0.001)


def _channel_arguments(address: Address, options: ConnectionOptions) -> list[tuple[str, Any]]:
    arguments: list[tuple[str, Any]] = [
        # gRPC's own limit of 4 MB breaks on the first real image.
        ("grpc.max_send_message_length", grpc_codec.MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", grpc_codec.MAX_MESSAGE_BYTES),
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


def _credentials(options: ConnectionOptions) -> grpc.ChannelCredentials:
    authorities, key, certificate = options.tls.read()
    return grpc.ssl_channel_credentials(authorities, key, certificate)


def _compression(options: ConnectionOptions) -> grpc.Compression:
    return grpc.Compression.Gzip if options.compression == "gzip" else grpc.Compression.NoCompression


def _error_of(error: Any) -> MaskServingError:
    """Returns the error of a call that gRPC reports as failed."""
    code = StatusCode(error.code().value[0])
    details = error.details() or ""
    if code == StatusCode.CANCELLED:
        return CallCancelledError(details or "the call was cancelled", server_message=details)
    if code == StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError("no answer in time", server_message=details)
    if code == StatusCode.UNAVAILABLE and any(words in details for words in _NOT_GRPC):
        return InvalidResponseError(
            f"what answers there does not speak gRPC: {details}", hint="use http:// for a REST port"
        )
    if code == StatusCode.UNAVAILABLE:
        if (refused := certificate_error(details)) is not None:
            return refused
        unavailable = ServerUnavailableError(details or "the server is gone", server_message=details)
        unavailable.sent = not any(words in details for words in _NEVER_SENT)
        return unavailable
    if code == StatusCode.UNKNOWN and "Stream removed" in details:
        # How some releases report a connection that broke off in the middle of an answer.
        return ServerUnavailableError(details, server_message=details)
    return error_of_code(code, details)

"""What carries a call to one address and its answer back: one seam, whatever the protocol.

The libraries of a protocol are loaded with its first connection.
"""

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

from .addresses import Address
from .security import Tls

if TYPE_CHECKING:
    from .grpc_transport import AsyncGrpcTransport, GrpcTransport
    from .rest_transport import AsyncRestTransport, RestTransport

# Alike in what they do: `send` sends a call once, and `close` ends what is on its way with `CallCancelledError`.
Transport: TypeAlias = "RestTransport | GrpcTransport"
AsyncTransport: TypeAlias = "AsyncRestTransport | AsyncGrpcTransport"


DEFAULT_MAX_ANSWER_BYTES = 1 << 29
"""A float probability of 100 million pixels is less; a server that is not what it should be could send for ever."""


@dataclasses.dataclass(frozen=True)
class ConnectionOptions:
    """How connections are made and kept."""

    tls: Tls = dataclasses.field(default_factory=Tls)
    compression: str | None = None  # "gzip": of requests
    # After so many seconds without a word during a call, gRPC asks whether the server is there. Servers take offence at
    # three questions without a word of their own, so keep it above a third of the longest call.
    keepalive_s: float = 30.0
    keepalive_timeout_s: float = 20.0  # slow networks send the answer after all that is already on its way
    max_connections: int = 100  # to an address at one time, for REST
    max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES


def connect(address: Address, options: ConnectionOptions) -> Transport:
    """Returns a transport for threads; nothing is sent yet."""
    if address.is_rest:
        from .rest_transport import RestTransport

        return RestTransport(address, options)
    from .grpc_transport import GrpcTransport

    return GrpcTransport(address, options)


def connect_async(address: Address, options: ConnectionOptions) -> AsyncTransport:
    """Returns a transport for asyncio; nothing is sent yet."""
    if address.is_rest:
        from .rest_transport import AsyncRestTransport

        return AsyncRestTransport(address, options)
    from .grpc_transport import AsyncGrpcTransport

    return AsyncGrpcTransport(address, options)

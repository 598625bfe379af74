"""What carries a call to one address and its answer back: one seam, whatever the protocol.

The libraries of a protocol are loaded with its first connection.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from .addresses import Address
from .calls import Call, Reply
from .security import Tls

Pairs = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class ConnectionOptions:
    """How connections are made and kept.

    Attributes:
        tls: certificates, for the schemes that encrypt.
        compression: `gzip` compresses requests; None sends them as they are.
        keepalive_s: after so many seconds without a word during a call, gRPC asks whether the server is
            there. Servers take offence at three questions without a word of their own, so keep it above a
            third of the longest call.
        keepalive_timeout_s: how long it waits for that answer, which slow networks send after all that is
            already on its way.
        max_connections: to an address at one time, for REST.
    """

    tls: Tls = dataclasses.field(default_factory=Tls)
    compression: str | None = None
    keepalive_s: float = 30.0
    keepalive_timeout_s: float = 20.0
    max_connections: int = 100


class Transport(Protocol):
    """A connection to one address, for threads."""

    def send(self, call: Call, timeout_s: float, pairs: Pairs) -> Reply:
        """Sends a call once, and waits for its answer, at most for a time.

        Args:
            call: what to send.
            timeout_s: seconds after which it fails.
            pairs: metadata or headers.

        Raises:
            MaskServingError: there was no answer, or it tells of an error.
        """

    def close(self) -> None:
        """Ends what is on its way with `CallCancelledError`, and gives up the connection."""


class AsyncTransport(Protocol):
    """The same for asyncio."""

    async def send(self, call: Call, timeout_s: float, pairs: Pairs) -> Reply:
        """Sends a call once, and waits for its answer."""

    async def close(self) -> None:
        """Ends what is on its way, and gives up the connection."""


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

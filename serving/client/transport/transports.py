"""What carries a call to one address and its answer back: one seam, whatever the protocol.

The libraries of a protocol are loaded with its first connection.
"""

from typing import TYPE_CHECKING, TypeAlias

from .addresses import Address
from .options import ConnectionOptions

if TYPE_CHECKING:
    from .grpc_transport import AsyncGrpcTransport, GrpcTransport
    from .rest_transport import AsyncRestTransport, RestTransport

# Alike in what they do: `send` sends a call once, and `close` ends what is on its way with `CallCancelledError`.
Transport: TypeAlias = "RestTransport | GrpcTransport"
AsyncTransport: TypeAlias = "AsyncRestTransport | AsyncGrpcTransport"


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

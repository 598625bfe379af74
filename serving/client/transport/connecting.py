"""Choosing the transport of an address; the libraries of the others are not loaded."""

from .addresses import Address
from .transports import AsyncTransport, ConnectionOptions, Transport


def connect(address: Address, options: ConnectionOptions) -> Transport:
    """Returns a transport for threads; nothing is sent yet.

    Raises:
        InvalidRequestError: a certificate cannot be read.
    """
    if address.is_rest:
        from .rest_transport import RestTransport

        return RestTransport(address, options)
    from .grpc_transport import GrpcTransport

    return GrpcTransport(address, options)


def connect_async(address: Address, options: ConnectionOptions) -> AsyncTransport:
    """Returns a transport for asyncio; nothing is sent yet.

    Raises:
        InvalidRequestError: a certificate cannot be read.
    """
    if address.is_rest:
        from .rest_transport import AsyncRestTransport

        return AsyncRestTransport(address, options)
    from .grpc_transport import AsyncGrpcTransport

    return AsyncGrpcTransport(address, options)

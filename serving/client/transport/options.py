"""How connections are made and kept, whatever the protocol."""

import dataclasses

from .security import Tls

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

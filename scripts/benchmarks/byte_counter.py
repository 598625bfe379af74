"""Counts what really goes over the wire: a relay between a client and a server."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from anyio.from_thread import start_blocking_portal


class ByteCounter:
    """Relays TCP connections on 127.0.0.1 to another port, and counts bytes both ways, all headers among them."""

    def __init__(self, target_port: int) -> None:
        self.count = 0
        self.port = 0
        self._target_port = target_port

    def bytes_of(self, call: Callable[[], object]) -> int:
        """Returns how many bytes a call moves."""
        before = self.count
        call()
        return self.count - before

    async def listen(self) -> asyncio.Server:
        """Begins to relay."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 18):
                self.count += len(data)
                target.write(data)
                await target.drain()
        target.close()


@contextlib.contextmanager
def count_bytes(port: int) -> Iterator[ByteCounter]:
    """Counts until the block ends, in a thread of its own."""
    counter = ByteCounter(port)
    with start_blocking_portal() as portal:
        server = portal.call(counter.listen)
        try:
            yield counter
        finally:
            portal.call(server.close)

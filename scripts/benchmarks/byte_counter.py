"""Counts what really goes over the wire: a relay between a client and a server."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


class ByteCounter:
    """Relays TCP connections on 127.0.0.1 to another port, and counts bytes both ways.

    Attributes:
        port: to connect to.
        count: bytes so far, of all connections; every header of the protocol is among them.
    """

    def __init__(self, target_port: int) -> None:
        self.count = 0
        self._target_port = target_port
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def bytes_of(self, call: Callable[[], object]) -> int:
        """Returns how many bytes a call moves."""
        before = self.count
        call()
        return self.count - before

    def close(self) -> None:
        """Ends all connections."""
        with self._lock:
            for one in (self._listener, *self._sockets):
                # Closing alone does not wake a thread that waits for the socket.
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            with self._lock:
                self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, target), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                with self._lock:
                    self.count += len(data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def count_bytes(port: int) -> Iterator[ByteCounter]:
    """Counts until the block ends."""
    counter = ByteCounter(port)
    try:
        yield counter
    finally:
        counter.close()

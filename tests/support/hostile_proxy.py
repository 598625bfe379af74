"""A TCP proxy that behaves badly on request, between a client and a server that are well."""

import contextlib
import os
import socket
import struct
import threading
import time


class HostileProxy:
    """Forwards connections to a port of this machine; `mode` says how badly, from the next bytes on.

    Modes: `pass`; `black_hole` takes requests and never answers; `stall` holds every answer back for `stall_s`;
    `drip` passes answers on byte by byte; `reset` cuts the connection in the middle of an answer, `reset_request` in
    the middle of a request; `half_close` ends its own side when a request comes; `garbage` answers with noise.
    `times` bounds how often a mode acts before it passes again.
    """

    def __init__(self, port: int):
        self.target = port
        self.mode = "pass"
        self.times: int | None = None
        self.stall_s = 5.0
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self.port = 0
        self.listen()

    def listen(self) -> None:
        """Accepts connections, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Cuts all connections, and lets none be made until `listen`."""
        if self._listener is not None:
            # A thread in accept() keeps a closed socket listening; shutting it down wakes the thread.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            _reset(connection)

    def close(self) -> None:
        self._closing.set()
        self.refuse()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def misbehave(self, mode: str, times: int | None = None) -> None:
        with self._lock:
            self.mode, self.times = mode, times

    def _acts(self, *modes: str) -> str | None:
        """The mode, if it is one of these and still to act."""
        with self._lock:
            if self.mode not in modes:
                return None
            mode = self.mode
            if self.times is not None:
                self.times -= 1
                if self.times <= 0:
                    self.mode, self.times = "pass", None
            return mode

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections |= {client, server}
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client, server) -> None:
        answers = threading.Thread(target=self._run, args=(self._answers, client, server), daemon=True)
        answers.start()
        self._run(self._requests, client, server)
        answers.join()
        with self._lock:
            self._connections -= {client, server}
        client.close()
        server.close()

    def _run(self, pump, client, server) -> None:
        with contextlib.suppress(OSError):
            pump(client, server)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _requests(self, client, server) -> None:
        while data := client.recv(1 << 16):
            # gRPC's housekeeping comes in small frames: only what carries a request is worth the trouble.
            mode = self._acts("reset_request", "half_close", "garbage") if len(data) > 60 else None
            if mode == "reset_request":
                server.sendall(data[: len(data) // 2])
                _reset(client)
                return
            if mode == "half_close":
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
                return
            if mode == "garbage":
                # To HTTP/2 a frame of an impossible length, to HTTP/1 a line that is none.
                client.sendall(b"\xff" * 9 + os.urandom(500) + b"\r\n\r\n")
                continue
            if self.mode == "black_hole":
                continue
            server.sendall(data)

    def _answers(self, client, server) -> None:
        while data := server.recv(1 << 16):
            mode = self._acts("reset") if len(data) > 60 else None
            if mode == "reset":
                client.sendall(data[: len(data) // 2])
                _reset(client)
                return
            if self.mode == "stall" and self._closing.wait(self.stall_s):
                return
            if self.mode == "drip":
                for byte in data:
                    client.sendall(bytes([byte]))
                    time.sleep(0.03)
                continue
            if self.mode != "black_hole":
                client.sendall(data)


def _reset(connection: socket.socket) -> None:
    """Ends a connection with RST rather than FIN."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        connection.close()

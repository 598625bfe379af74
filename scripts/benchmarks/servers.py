"""Servers to measure: each a process of its own, started and always stopped."""

import contextlib
import dataclasses
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from children import bound
from maskport.serving.client import MaskClient, MaskServingError

_READY_S = 180.0


class ServerError(Exception):
    """A server does not run."""


@dataclasses.dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes:
        grpc_port: on 127.0.0.1.
        rest_port: likewise.
        pid: of its process.
    """

    grpc_port: int
    rest_port: int
    pid: int

    @property
    def grpc(self) -> str:
        """The client's address for gRPC."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def rest(self) -> str:
        """The client's address for REST."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def memory_mb(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def serve(command: Sequence[str], base_paths: Mapping[str, Path], *flags: str) -> Iterator[Served]:
    """Serves models until the block ends.

    Args:
        command: starts a server that knows the flags of tensorflow_model_server.
        base_paths: by name of the model.
        *flags: further ones.

    Raises:
        ServerError: it does not start, or a model does not load.
    """
    models = "".join(
        f'  config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}\n'
        for name, path in base_paths.items()
    )
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile("w+") as log:
        config_file = Path(name, "models.config")
        config_file.write_text(f"model_config_list {{\n{models}}}\n")
        grpc_port, rest_port = free_port(), free_port()
        words = [
            *command, f"--port={grpc_port}", f"--rest_api_port={rest_port}", f"--model_config_file={config_file}",
            *flags,
        ]  # fmt: skip
        # In a session of its own, Ctrl-C does not reach it before it is stopped here.
        try:
            process = subprocess.Popen(bound(words), stdout=log, stderr=log, env=environment(), start_new_session=True)
        except OSError as error:
            raise ServerError(f"--server: {command[0]} cannot be started: {error.strerror}") from error
        served = Served(grpc_port, rest_port, process.pid)
        try:
            for model in base_paths:
                _wait(process, served, model, log)
            yield served
        finally:
            stop(process)


def environment() -> dict[str, str]:
    """Returns that of a process in which TensorFlow takes no GPU and says little."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


def _wait(process: subprocess.Popen[bytes], served: Served, model: str, log: object) -> None:
    until = time.monotonic() + _READY_S
    with MaskClient(served.grpc, model) as client:
        while True:
            if process.poll() is not None:
                raise ServerError(f"the server ended with {process.returncode}: {_last_line(log)}")
            try:
                return client.wait_until_ready(timeout=1)
            except MaskServingError as error:
                if time.monotonic() > until:
                    raise ServerError(f"model {model!r} is not ready after {_READY_S:g} s: {error}") from error


def _last_line(log: object) -> str:
    log.seek(0)  # type: ignore[attr-defined]
    lines = [line for line in log.read().splitlines() if line.strip()]  # type: ignore[attr-defined]
    return lines[-1] if lines else "without a word"


def stop(process: "subprocess.Popen[bytes] | subprocess.Popen[str]", patience_s: float = 30) -> None:
    """Ends a process: politely, and where that does not help otherwise."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""Starts a server in a set-up: in this process, as a command, or in Docker; or takes one that runs."""

import contextlib
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping

from absl import flags
from absl.testing import flagsaver
from maskport.serving.server import cli
from processes import running
from waiting import wait_until

from conformance.cases import Setup
from conformance.sending import Target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def filled(setup: Setup, folder: pathlib.Path, words: Mapping[str, str]) -> list[str]:
    """Writes a set-up's files into a folder, and returns its flags."""

    def fill(text: str) -> str:
        for word, value in words.items():
            text = text.replace(f"{{{word}}}", value)
        return text

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in setup.files.items():
        (folder / name).write_text(fill(text))
    return [fill(flag) for flag in setup.flags]


@contextlib.contextmanager
def in_process(setup: Setup, models: pathlib.Path, folder: pathlib.Path) -> Iterator[Target]:
    """Runs the embedded server in this process, from the flags of its command line."""
    grpc, rest = free_port(), free_port()
    words = {"MODELS": str(models), "FILES": str(folder), "GRPC": str(grpc), "REST": str(rest)}
    arguments = filled(setup, folder, words)
    with flagsaver.flagsaver():
        flags.FLAGS(["mask-serve", *arguments])
        server = cli.server_from_flags()
    try:
        server.start()
        yield Target(f"127.0.0.1:{grpc}", f"127.0.0.1:{rest}")
    finally:
        server.stop(0)


@contextlib.contextmanager
def as_command(command: str, setup: Setup, models: pathlib.Path, folder: pathlib.Path) -> Iterator[Target]:
    """Runs a command with the set-up's flags."""
    grpc, rest = free_port(), free_port()
    words = {"MODELS": str(models), "FILES": str(folder), "GRPC": str(grpc), "REST": str(rest)}
    with _running([*shlex.split(command), *filled(setup, folder, words)], folder, (grpc, rest)):
        yield Target(f"127.0.0.1:{grpc}", f"127.0.0.1:{rest}")


def has_docker() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def in_docker(image: str, setup: Setup, models: pathlib.Path, folder: pathlib.Path) -> Iterator[Target]:
    """Runs TensorFlow Serving's image with the set-up's flags."""
    grpc, rest = free_port(), free_port()
    words = {"MODELS": "/models", "FILES": "/files", "GRPC": "8500", "REST": "8501"}
    arguments = filled(setup, folder, words)
    name = f"maskport-conformance-{os.getpid()}"
    command = ["docker", "run", "--rm", f"--name={name}", "--entrypoint=tensorflow_model_server"]
    command += [f"--publish=127.0.0.1:{grpc}:8500", f"--publish=127.0.0.1:{rest}:8501"]
    command += [f"--volume={models}:/models:ro", f"--volume={folder}:/files:ro", image, *arguments]
    try:
        with _running(command, folder, (grpc, rest)):
            yield Target(f"127.0.0.1:{grpc}", f"127.0.0.1:{rest}")
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


@contextlib.contextmanager
def _running(command: list[str], folder: pathlib.Path, ports: tuple[int, ...]) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("w") as output, running(command, stdout=output, stderr=subprocess.STDOUT) as process:

        def serves() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{command} does not serve:\n{log.read_text()[-4000:]}")
            return all(_is_open(port) for port in ports)

        wait_until(serves, lambda: f"the start of {command}, which says\n{log.read_text()[-4000:]}\n,")
        yield


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

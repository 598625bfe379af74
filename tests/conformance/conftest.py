"""Which server the recorded requests go to, and the models it serves.

By default the embedded server runs in this process, in each set-up in turn. With

    MASKPORT_TEST_GRPC=HOST:PORT MASKPORT_TEST_REST=HOST:PORT MASKPORT_TEST_SETUP=NAME

a server that runs already gets the requests of one set-up (MASKPORT_TEST_MODELS says where its models are, for
set-ups that reload), and with

    MASKPORT_TEST_SERVER=COMMAND

that command is started with each set-up's flags.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import pytest
from conformance import models, servers
from conformance.cases import setups
from conformance.sending import Sender, Target

_IMAGE = os.environ.get("MASKPORT_TEST_IMAGE", "tensorflow/serving:2.20.0")


class Servers:
    """Starts a server when a test of another set-up comes; one runs at a time."""

    def __init__(self, models_folder: pathlib.Path, work_folder: pathlib.Path) -> None:
        self._models = models_folder
        self._folder = work_folder
        self._stack = contextlib.ExitStack()
        self._key: tuple[str, str] | None = None
        self._sender: Sender | None = None
        self._count = 0

    @property
    def is_embedded(self) -> bool:
        """Whether the server is certainly this project's own."""
        return not any(name in os.environ for name in ("MASKPORT_TEST_GRPC", "MASKPORT_TEST_SERVER"))

    def sender(self, setup: str, *, engine: str = "", fresh: bool = False) -> Sender:
        """Returns a connection to a server in a set-up, skipping the test where there is none."""
        key = (setup, engine)
        if fresh or self._key != key or self._sender is None:
            self.stop()
            target = self._stack.enter_context(self._started(setup, engine))
            self._sender = Sender(target)
            self._stack.callback(self._sender.close)
            self._key = key
        return self._sender

    def located(self, engine: str = "") -> str:
        """Returns where the models are for the server."""
        if engine:
            return "/models"
        return os.environ.get("MASKPORT_TEST_MODELS", str(self._models))

    def _started(self, setup: str, engine: str) -> contextlib.AbstractContextManager[Target]:
        self._count += 1
        folder = self._folder / f"{self._count}-{setup}"
        if engine:
            return servers.in_docker(_IMAGE, setups()[setup], self._models, folder)
        running = os.environ.get("MASKPORT_TEST_GRPC")
        if running is not None:
            if setup != os.environ.get("MASKPORT_TEST_SETUP"):
                pytest.skip("the running server has another set-up")
            return contextlib.nullcontext(Target(running, os.environ["MASKPORT_TEST_REST"]))
        command = os.environ.get("MASKPORT_TEST_SERVER")
        if command is not None:
            return servers.as_command(command, setups()[setup], self._models, folder)
        return servers.in_process(setups()[setup], self._models, folder)

    def stop(self) -> None:
        self._stack.close()
        self._key = self._sender = None


@pytest.fixture(scope="session")
def recorded_models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("recorded") / "models"
    models.make(folder)
    return folder


@pytest.fixture(scope="session")
def serving(recorded_models: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    running = Servers(recorded_models, tmp_path_factory.mktemp("setups"))
    yield running
    running.stop()

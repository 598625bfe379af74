"""Models and running servers that several of these tests need."""

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Iterator

import pytest
from conformance import models
from maskport.serving.server.models.loading import LoadSettings
from maskport.serving.server.models.repository import RepositorySettings
from maskport.serving.server.models.versions import ModelSettings
from maskport.serving.server.server import ANY_PORT, ModelServer, ServerSettings


@pytest.fixture(scope="session")
def made_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pathlib.Path]:
    """Gives the folder of a version of the recorded models (`failing/1`), made when it is first asked for."""
    folder = tmp_path_factory.mktemp("server_models")

    def made(name: str) -> pathlib.Path:
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            models.VERSIONS[name](path)
        return path

    return made


@pytest.fixture
def publish(made_models, tmp_path) -> Callable[[str, str], pathlib.Path]:
    """Copies a made version to a place of its own, as a publisher does: whole, by renaming."""

    def copy(name: str, to: str) -> pathlib.Path:
        target = tmp_path / "published" / to
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.parent / f".{target.name}.tmp"
        shutil.copytree(made_models(name), beside)
        beside.rename(target)
        return target

    return copy


@pytest.fixture
def serve() -> Iterator[Callable[..., ModelServer]]:
    """Starts servers on free ports, and stops them."""
    with contextlib.ExitStack() as stack:

        def start(*served: ModelSettings, load: LoadSettings | None = None, **settings: object) -> ModelServer:
            chosen = ServerSettings(
                **{
                    "grpc_port": ANY_PORT,
                    "rest_port": ANY_PORT,
                    "repository": RepositorySettings(poll_wait_s=0.05, max_load_retries=0),
                    "load": load or LoadSettings(),
                    "drain_timeout_s": 1,
                    **settings,
                }
            )
            server = ModelServer(served, chosen)
            stack.callback(server.stop)
            server.start()
            return server

        yield start

"""Puts the parts together: a server with its models, its two fronts, and its end."""

import contextlib
import dataclasses
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Self

from grpc import Server, ServerCredentials

from ..status_codes import StatusCode
from .errors import ConfigError, RequestError, StartError, invalid_argument
from .fronts import grpc_front, http_server
from .fronts.rest_front import RestFront, RestSettings
from .metrics import Metrics
from .models.config_watch import ConfigWatch
from .models.loading import LoadSettings, ModelLoader
from .models.repeating import Repeating
from .models.repository import ModelRepository, RepositorySettings
from .models.versions import ModelSettings, model_in
from .service import PredictionService

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
THREADS = 4 * (os.cpu_count() or 1)
ANY_PORT = -1
"""In place of a port: a free one."""


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """How a server runs.

    Attributes:
        host: the address to bind; loopback serves this machine only.
        grpc_port: 0 is off, `ANY_PORT` a free one.
        rest_port: likewise.
        grpc_socket_path: a Unix socket for gRPC, beside the port or in its place; empty for none.
        rest_threads: REST requests answered at a time.
        grpc: of the gRPC side.
        grpc_credentials: for TLS; None is plain text.
        rest: of the REST side; `checks_host` is set by the address.
        limits: what HTTP clients may ask for.
        load: how models are loaded.
        repository: how versions are looked for.
        config_file: a models configuration to follow; empty for none.
        config_poll_wait_s: seconds between two looks at it; 0 does not look again.
        drain_timeout_s: how long requests under way may take once the server is to end.
        allows_reload_outside_roots: whether a reload may name any base path.
    """

    host: str = LOOPBACK
    grpc_port: int = 8500
    rest_port: int = 0
    grpc_socket_path: str = ""
    rest_threads: int = THREADS
    grpc: grpc_front.GrpcSettings = dataclasses.field(default_factory=lambda: grpc_front.GrpcSettings(THREADS))
    grpc_credentials: ServerCredentials | None = None
    rest: RestSettings = dataclasses.field(default_factory=RestSettings)
    limits: http_server.Limits = dataclasses.field(default_factory=http_server.Limits)
    load: LoadSettings = dataclasses.field(default_factory=LoadSettings)
    repository: RepositorySettings = dataclasses.field(default_factory=RepositorySettings)
    config_file: str = ""
    config_poll_wait_s: float = 0
    drain_timeout_s: float = 10
    allows_reload_outside_roots: bool = False


class ModelServer:
    """A server of models. Starts once, and ends by `stop`."""

    def __init__(self, models: Sequence[ModelSettings], settings: ServerSettings) -> None:
        self._models = tuple(models)
        self._settings = settings
        self._roots = tuple(os.path.realpath(model.base_path) for model in models)
        self.metrics = Metrics()
        self._loader = ModelLoader(settings.load, self.metrics)
        self.repository = ModelRepository(self._loader, settings.repository)
        self._service = PredictionService(self.repository, self.metrics, self._check_reload)
        self._watching: Repeating | None = None
        self._http: http_server.HttpServer | None = None
        self._is_stopped = False
        self._grpc: Server | None = None
        self.grpc_port = 0  # where gRPC is served; 0 where it is not
        self.rest_port = 0

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Loads the models, then opens the ports; returns False, the ports closed, where `should_stop` is true before.

        Raises:
            StartError: a port cannot be had, or the first configuration makes no sense.
        """
        settings = self._settings
        for port in (settings.grpc_port, settings.rest_port):
            if port > 0:
                _bound_socket(settings.host, port).close()
        if settings.grpc_socket_path:
            _check_socket_path(settings.grpc_socket_path)
        watch = None
        if settings.config_file and settings.config_poll_wait_s > 0:
            # From here on, so that what changes while models load is not missed.
            watch = ConfigWatch(self.repository, settings.config_file)
        try:
            self.repository.start(self._models)
        except RequestError as error:
            raise ConfigError(error.message) from error
        if not self.repository.wait_until_settled(should_stop):
            return False
        self._warn_of_plain_text()
        self._start_grpc()
        self._start_rest()
        if watch is not None:
            self._watching = Repeating(watch.look, settings.config_poll_wait_s, "config-watch")
            self._watching.start()
        return True

    def _start_grpc(self) -> None:
        settings = self._settings
        server = grpc_front.create_server(self._service, settings.grpc, self.metrics)
        if settings.grpc_port:
            address = f"{_bracketed(settings.host)}:{max(settings.grpc_port, 0)}"
            self.grpc_port = self._add_address(server, address)
            logger.info("Running gRPC ModelServer at %s:%d ...", settings.host, self.grpc_port)
        if settings.grpc_socket_path:
            self._add_address(server, f"unix:{settings.grpc_socket_path}")
            logger.info("Running gRPC ModelServer at UNIX socket %s ...", settings.grpc_socket_path)
        server.start()
        self._grpc = server

    def _add_address(self, server: Server, address: str) -> int:
        credentials = self._settings.grpc_credentials
        try:
            if credentials is None:
                return int(server.add_insecure_port(address))
            return int(server.add_secure_port(address, credentials))
        except RuntimeError as error:
            # gRPC says no more than that it failed to bind, whatever the reason.
            ask = "; do the credentials hold a private key and its certificate, each a PEM text?"
            why = ask if credentials else ""
            raise StartError(f"cannot serve gRPC at {address}: {error}{why}") from error

    def _start_rest(self) -> None:
        settings = self._settings
        if not settings.rest_port:
            return
        listening = _bound_socket(settings.host, max(settings.rest_port, 0))
        listening.listen(128)
        self.rest_port = listening.getsockname()[1]
        rest = dataclasses.replace(settings.rest, checks_host=_is_loopback(settings.host))
        front = RestFront(self._service, rest, self.metrics)
        self._http = http_server.HttpServer(front, threads=settings.rest_threads, limits=settings.limits)
        self._http.start(listening)
        logger.info("Exporting HTTP/REST API at:%s:%d ...", settings.host, self.rest_port)
        if rest.has_playground:
            logger.info("Playground: http://%s:%d/", _bracketed(settings.host), self.rest_port)

    def _warn_of_plain_text(self) -> None:
        settings = self._settings
        ports = {"gRPC": settings.grpc_credentials is None and settings.grpc_port, "REST": settings.rest_port}
        plain = [name for name, is_open in ports.items() if is_open]
        if plain and not _is_loopback(settings.host):
            logger.warning(
                "nothing encrypts %s at %s, and whoever reaches it may ask anything: put a proxy before it, or serve "
                "gRPC alone, with --ssl_config_file",
                " and ".join(plain),
                settings.host,
            )

    def stop(self, drain_timeout_s: float | None = None) -> None:
        """Takes no new requests, waits for those under way (None: as the settings say), and gives everything back."""
        if self._is_stopped:
            return
        self._is_stopped = True
        timeout_s = self._settings.drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        self.repository.stop_loading()
        self._loader.cancel()
        ended = self._grpc.stop(timeout_s) if self._grpc is not None else None
        if self._http is not None:
            self._http.stop(timeout_s)
        if ended is not None:
            ended.wait(timeout_s + 1)
        if self._watching is not None:
            self._watching.stop()
        self.repository.stop()
        self._loader.stop()

    def _check_reload(self, models: Sequence[ModelSettings]) -> None:
        if self._settings.allows_reload_outside_roots:
            return
        parents = {os.path.dirname(root) for root in self._roots}
        for model in models:
            try:
                path = os.path.realpath(model.base_path)
            except ValueError as error:
                raise invalid_argument(f"Base path of model {model.name}: {error}") from error
            lies_under = any(path == root or path.startswith(root + os.sep) for root in self._roots)
            if not lies_under and os.path.dirname(path) not in parents:
                raise RequestError(
                    StatusCode.PERMISSION_DENIED,
                    f"Base path {model.base_path} of model {model.name} neither is one of those the server "
                    "was started with, nor lies under or beside one; --allow_reload_outside_roots permits it",
                )


def _is_loopback(host: str) -> bool:
    """Returns whether an address is for this machine alone: all of 127.0.0.0/8 is."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_socket_path(path: str) -> None:
    """Raises StartError where a Unix socket cannot be made; gRPC itself would take a living server's path away."""
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise StartError(f"cannot listen on {path}: its folder is missing")
    with socket.socket(socket.AF_UNIX) as trial, contextlib.suppress(OSError):
        trial.connect(path)
        raise StartError(f"cannot listen on {path}: another server does")


def _bound_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, as asyncio then sends small answers at once (TCP_NODELAY).
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return bound


class EmbeddedServer:
    """A server in this process, for tests, notebooks and demonstrations. A context manager.

        with EmbeddedServer("/models/coins") as server:
            client = MaskClient(server.grpc_address, model="coins")

    It binds loopback and free ports, serves gRPC and REST once the model is loaded, follows new versions, and
    stops at the end of the block whatever happens in it. Several may run at once.
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        model_name: str | None = None,
        *,
        settings: ServerSettings | None = None,
        playground: bool | None = None,
    ) -> None:
        """Prepares a server; it starts when the block is entered.

        Args:
            base_path: a directory of versions, or one version directory, which is then served alone.
            model_name: the base path's last part where it is None.
            settings: anything else; ports of 0 in it are taken for free ones.
            playground: whether browsers get a page at `rest_address`; None is as the settings say, which is yes.
        """
        self._model = model_in(os.path.abspath(os.fspath(base_path)), model_name)
        chosen = settings or ServerSettings(repository=RepositorySettings(max_load_retries=0), drain_timeout_s=2)
        self._settings = dataclasses.replace(
            chosen,
            grpc_port=chosen.grpc_port if settings and chosen.grpc_port else ANY_PORT,
            rest_port=chosen.rest_port or ANY_PORT,
        )
        if playground is not None:
            rest = dataclasses.replace(chosen.rest, has_playground=playground)
            self._settings = dataclasses.replace(self._settings, rest=rest)
        self._server: ModelServer | None = None

    @property
    def model_name(self) -> str:
        """The name that requests give."""
        return self._model.name

    @property
    def grpc_address(self) -> str:
        """Where gRPC is served: `grpc://127.0.0.1:PORT`."""
        return f"grpc://{_bracketed(self._settings.host)}:{self._running.grpc_port}"

    @property
    def rest_address(self) -> str:
        """Where REST is served: `http://127.0.0.1:PORT`."""
        return f"http://{_bracketed(self._settings.host)}:{self._running.rest_port}"

    @property
    def _running(self) -> ModelServer:
        if self._server is None:
            raise StartError("the server is not running; its addresses are known inside its with block")
        return self._server

    def __enter__(self) -> Self:
        """Loads the model and opens the ports.

        Raises:
            StartError: the base path is missing or empty, or no version of the model loads.
        """
        if self._server is not None:
            raise StartError("this server runs already")
        if not os.path.isdir(self._model.base_path):
            raise StartError(f"base path {self._model.base_path} is no directory")
        if not self._model.find_wanted():
            raise StartError(
                f"no version found under {self._model.base_path}; a version is a directory with a number for its name"
            )
        server = ModelServer([self._model], self._settings)
        try:
            server.start()
            statuses = server.repository.statuses(self._model.name)
            failed = [status for status in statuses if status.error is not None]
            if failed and len(failed) == len(statuses):
                raise StartError(
                    f"model {self._model.name} version {failed[0].version} did not load: {failed[0].error}"
                )
        except BaseException:
            server.stop(0)
            raise
        self._server = server
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the server."""
        if self._server is not None:
            self._server.stop()
            self._server = None

"""`mask-client playground`: the page before any server, through a proxy on this machine that is its own.

The page calls the proxy by the public REST API, and the proxy the server as every command does: by gRPC or REST, with
its certificates, tokens and time-outs, which the page never sees.
"""

import base64
import http
import json
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import numpy.typing as npt

from ... import contract
from ...playground import site
from ...status_codes import HTTP_STATUS, StatusCode
from ..client import MaskClient
from ..errors import InvalidRequestError, MaskServingError
from ..transport.calls import Target
from ..transport.signatures import ModelMetadata, VersionStatus

LOOPBACK = "127.0.0.1"
_MOST_BODY_BYTES = 256 * 1024 * 1024
_IDLE_S = 60.0
_MODEL = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]{1,19})|/labels/(?P<label>[^/:]+))?"
    r"(?P<what>/metadata|:predict)?"
)

Connect = Callable[[Target], MaskClient]
"""Makes the client of a model; nothing is sent yet."""


class PlaygroundServer(ThreadingHTTPServer):
    """Shows the page on this machine, and passes its calls on."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, served: site.Served, connect: Connect):
        """Binds a port of 127.0.0.1, 0 being a free one; OSError where it cannot be had."""
        self.served = served
        self._connect = connect
        self._clients: dict[Target, MaskClient] = {}
        self._lock = threading.Lock()
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            words = f"cannot listen on {LOOPBACK}:{port}: {error.strerror}; choose another --port, or 0 for a free one"
            raise OSError(words) from error

    def server_bind(self) -> None:
        """Binds the port, without asking the name service who 127.0.0.1 is, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_port = self.server_address[1]

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def client_of(self, target: Target) -> MaskClient:
        """Returns the client of a model, made at its first call."""
        with self._lock:
            if target not in self._clients:
                self._clients[target] = self._connect(target)
            return self._clients[target]

    def server_close(self) -> None:
        """Closes the port, and the connections to the server."""
        super().server_close()
        for client in self._clients.values():
            client.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of browsers that have gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a browser's."""

    server: PlaygroundServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    disable_nagle_algorithm = True  # heads and bodies are written one after the other

    def do_GET(self) -> None:
        path = self._checked_path()
        if path is None:
            return
        page = site.answer(
            path, {name.lower(): value for name, value in self.headers.items()}, lambda: self.server.served
        )
        if page is not None:
            self._send(page.status, page.headers, page.body)
        else:
            self._pass_on(path, {None: _status, "/metadata": _metadata})

    def do_POST(self) -> None:
        path = self._checked_path()
        if path is None:
            return
        length = self.headers.get("content-length", "")
        if not length.isdecimal():
            self._refuse(http.HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
        elif int(length) > _MOST_BODY_BYTES:
            self._refuse(
                http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request is larger than {_MOST_BODY_BYTES} bytes"
            )
        else:
            body = self.rfile.read(int(length))
            self._pass_on(path, {":predict": lambda client: _predict(client, body)})

    def _checked_path(self) -> str | None:
        """Returns the path of a request; None where it has been refused, as no page but this one may ask anything."""
        # A name that leads here belongs to another page, which a browser takes for this one's.
        port = self.server.server_port
        own = {f"{host}:{port}" for host in (LOOPBACK, "localhost")}
        host, origin = self.headers.get("host", ""), self.headers.get("origin")
        if host.lower() not in own:
            words = f"Host {host!r} is refused: this is a page of this machine alone, at {self.server.url}"
        elif origin is not None and origin.lower().removeprefix("http://") not in own:
            words = f"Origin {origin!r} is refused: pages of others may not ask this one"
        else:
            return urllib.parse.urlsplit(self.path).path
        self._refuse(http.HTTPStatus.FORBIDDEN, words)
        return None

    def _pass_on(self, path: str, ways: Mapping[str | None, Callable[[MaskClient], Any]]) -> None:
        """Answers by what the server says; of its paths only these few are known."""
        match = _MODEL.fullmatch(path)
        if match is None or match["what"] not in ways:
            self._refuse(http.HTTPStatus.NOT_FOUND, f"{self.command} {path} is not passed on")
            return
        name, label = (part and urllib.parse.unquote(part) for part in (match["model"], match["label"]))
        target = Target(name, int(match["version"]) if match["version"] else None, label)
        try:
            answer = ways[match["what"]](self.server.client_of(target))
        except MaskServingError as error:
            status = error.http_status or HTTP_STATUS[error.code or StatusCode.UNKNOWN]
            self._send_json(status, {"error": error.server_message or str(error)})
        else:
            self._send_json(http.HTTPStatus.OK, answer)

    def _refuse(self, status: http.HTTPStatus, words: str) -> None:
        self.close_connection = True  # what follows may be a body that was not read
        self._send_json(status, {"error": words})

    def _send_json(self, status: int, answer: Any) -> None:
        headers = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
        self._send(status, headers, json.dumps(answer).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing: what goes wrong is shown on the page."""


def _status(client: MaskClient) -> Any:
    def shown(one: VersionStatus) -> dict[str, Any]:
        status = {"error_code": one.error_code, "error_message": one.error_message}
        return {"version": str(one.version), "state": one.state.name, "status": status}

    return {"model_version_status": [shown(one) for one in client.status()]}


def _metadata(client: MaskClient) -> Any:
    metadata: ModelMetadata = client.metadata()

    def shown(specs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: {
                "dtype": spec.data_type,
                "tensor_shape": {
                    "dim": [{"size": str(size), "name": ""} for size in spec.shape or ()],
                    "unknown_rank": spec.shape is None,
                },
            }
            for name, spec in specs.items()
        }

    signatures = {
        name: {"inputs": shown(one.inputs), "outputs": shown(one.outputs), "method_name": one.method}
        for name, one in metadata.signatures.items()
    }
    return {
        "model_spec": {"name": metadata.model, "signature_name": "", "version": str(metadata.version or "")},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _predict(client: MaskClient, body: bytes) -> Any:
    try:
        asked = json.loads(body)
        signature = asked.get("signature_name") or contract.DEFAULT_SIGNATURE
        inputs = {name: _from_json(value) for name, value in asked["inputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRequestError(
            "the request is not understood", hint='it is {"signature_name": "…", "inputs": {"NAME": [VALUE]}}'
        ) from error
    outputs = {name: _to_json(name, array) for name, array in client.predict(signature, inputs).items()}
    return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}


def _from_json(value: Any) -> Any:
    """Returns an input as the client takes it: bytes are `{"b64": …}` or text."""
    if isinstance(value, list):
        return [_from_json(element) for element in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return value.encode() if isinstance(value, str) else value


def _to_json(name: str, array: npt.NDArray[Any]) -> Any:
    """Returns an output as TensorFlow Serving writes it: strings as `{"b64": …}` where its name ends in `_bytes`."""

    def written(value: Any) -> Any:
        if isinstance(value, list):
            return [written(element) for element in value]
        if not isinstance(value, bytes):
            return value
        return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode(errors="replace")

    return written(array.tolist())

"""The REST side: paths and bodies, answered by the shared core."""

import dataclasses
import http
import importlib.metadata
import re
import urllib.parse
import zlib
from collections.abc import Mapping

from starlette.responses import Response
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from ...playground import site
from ...status_codes import HTTP_STATUS, StatusCode
from ..calls import Call
from ..errors import RequestError, invalid_argument
from ..metrics import Metrics, Stopwatch
from ..service import SIGNATURE_DEF, PredictionService
from . import json_answers, json_requests
from .http_server import Request, error_page

_JSON = {"Content-Type": "application/json"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}

_TARGET = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://(?P<authority>[^/?#]*))?"
    r"(?P<path>(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)"
    r"(?P<rest>(?:\?(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?"
    r"(?:\#(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?)",
    re.IGNORECASE | re.ASCII,
)
_API = re.compile(r"/v1/.*", re.IGNORECASE)
_VERB = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r":(?P<verb>classify|regress|predict)",
    re.IGNORECASE,
)
_STATUS = re.compile(
    r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r"(?:/(?P<metadata>metadata))?",
    re.IGNORECASE,
)
_MAX_VERSION = 2**63 - 1
_MAX_DIGITS = len(str(_MAX_VERSION)) + 1
_MAX_INFLATED_BYTES = 100 * 1024 * 1024
_LOCAL_HOSTS = re.compile(r"(?:localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|\[::1\])(?::[0-9]*)?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RestSettings:
    """How the REST side behaves."""

    timeout_s: float | None = 30  # that a model may take; None is no limit
    has_cors: bool = False  # whether pages of other origins may read the answers
    checks_host: bool = False  # whether a Host header must name this machine
    metrics_path: str | None = None  # None is nowhere
    has_playground: bool = True  # whether browsers get a page at `/`


class RestFront:
    """Answers HTTP requests. The instance is the handler of an `HttpServer`."""

    def __init__(self, service: PredictionService, settings: RestSettings, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._settings = settings

    def __call__(self, request: Request) -> Response:
        """Answers one request."""
        host = request.headers.get("host") or "localhost"
        if self._settings.checks_host and not _LOCAL_HOSTS.fullmatch(host):
            refusal = RequestError(
                StatusCode.PERMISSION_DENIED,
                f"Host {host!r} is refused: this server is bound to loopback, and answers "
                "to localhost, 127.0.0.1 and [::1] only (--host=… serves others)",
            )
            return Response(json_answers.write_error(refusal), 403, {**_JSON, "Connection": "close"})
        target = _TARGET.fullmatch(request.target)
        if target is None:
            return error_page(http.HTTPStatus.BAD_REQUEST)
        path, rest = target["path"] or "/", target["rest"]
        if path == self._settings.metrics_path:
            text = {"Content-Type": "text/plain"}
            if rest:
                return Response(f"Unexpected path: {path}{rest}. Should be {path}", 400, text)
            return Response(self._metrics.page(), 200, text)
        if not _API.fullmatch(path + rest):
            return self._answer_page(request, path) or error_page(http.HTTPStatus.NOT_FOUND)
        return self._answer_api(request, path + rest)

    def _answer_page(self, request: Request, path: str) -> Response | None:
        if not self._settings.has_playground or request.method != "GET":
            return None
        found = site.answer(path, request.headers, self._describe)
        return None if found is None else Response(found.body, found.status, found.headers)

    def _describe(self) -> site.Served:
        return site.Served(f"mask-serve {importlib.metadata.version('maskport')}", self._service.names())

    def _answer_api(self, request: Request, path: str) -> Response:
        answering = Stopwatch()
        asked = _Asked()
        headers = _CORS if self._settings.has_cors else {}
        code, body = StatusCode.OK, b""
        try:
            if request.method == "OPTIONS":
                if not re.search("https?://", request.headers.get("origin", "")):
                    raise _SilentError(StatusCode.FAILED_PRECONDITION, "")
            else:
                headers = {**_JSON, **headers}
                body = self._answer_model(request, path, asked)
        except _SilentError as error:
            code = error.code
        except RequestError as error:
            code, body = error.code, json_answers.write_error(error)
        if code is StatusCode.OK:
            self._metrics.measure_request(asked.model, asked.verb, "REST", answering.seconds)
        self._metrics.count_request(asked.model, code)
        return Response(body, HTTP_STATUS[code], headers)

    def _answer_model(self, request: Request, path: str, asked: "_Asked") -> bytes:
        paths = {"POST": _VERB, "GET": _STATUS}.get(request.method)
        match = paths.fullmatch(path) if paths else None
        if match is None:
            raise _malformed(request, path)
        asked.model = _unescaped(match["name"] or "")
        spec = _model_spec(match)
        if request.method == "GET":
            if not spec.name:
                raise invalid_argument("Missing model name in request.")
            if match["metadata"] != "metadata":
                status = self._service.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
                return json_answers.write_status(status)
            wanted = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
            return json_answers.write_metadata(self._service.metadata(wanted))
        asked.verb = match["verb"]
        verbs = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        # The path is matched in any case, but a verb is in lower case.
        if asked.verb not in verbs:
            raise _malformed(request, path)
        return verbs[asked.verb](spec, _body(request))

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        parsed = json_requests.read_predict(body, lambda name: self._service.inputs_of(spec, name))
        spec.signature_name = parsed.signature_name
        _, outputs = self._service.predict(spec, parsed.inputs, (), self._call())
        return json_answers.write_outputs(outputs, parsed.layout)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        spec.signature_name, examples = json_requests.read_examples(body)
        request = classification_pb2.ClassificationRequest(model_spec=spec, input=examples)
        return json_answers.write_classifications(self._service.classify(request, self._call()).result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        spec.signature_name, examples = json_requests.read_examples(body)
        request = regression_pb2.RegressionRequest(model_spec=spec, input=examples)
        return json_answers.write_regressions(self._service.regress(request, self._call()).result)

    def _call(self) -> Call:
        return Call(self._settings.timeout_s)


@dataclasses.dataclass
class _Asked:
    """What a request turned out to be about, for the metrics."""

    model: str = ""
    verb: str = ""


class _SilentError(RequestError):
    """An error that TensorFlow Serving answers with an empty body."""


def _malformed(request: Request, path: str) -> RequestError:
    return invalid_argument(f"Malformed request: {request.method} {path}")


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    parts: Mapping[str, str | None] = match.groupdict()
    spec = model_pb2.ModelSpec(name=_unescaped(parts["name"] or ""))
    if parts["version"]:
        # Python refuses to read thousands of digits.
        version = int(parts["version"].lstrip("0")[:_MAX_DIGITS] or 0)
        if version > _MAX_VERSION:
            raise _SilentError(StatusCode.INVALID_ARGUMENT, "")
        spec.version.value = version
    if parts["label"]:
        spec.version_label = _unescaped(parts["label"])
    return spec


def _unescaped(text: str) -> str:
    return urllib.parse.unquote(text, errors="replace")


def _body(request: Request) -> bytes:
    if "gzip" not in request.headers.get("content-encoding", ""):
        return request.body
    inflater = zlib.decompressobj(wbits=31)
    try:
        body = inflater.decompress(request.body, _MAX_INFLATED_BYTES)
    except zlib.error:
        return b""
    # Cut short, too long, or followed by something: then it counts as empty.
    return body if inflater.eof and not inflater.unused_data else b""

"""The REST side: paths and bodies, answered by the shared core."""

import dataclasses
import http
import re
import urllib.parse
import zlib
from collections.abc import Mapping

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from . import json_answers, json_requests
from .errors import Code, RequestError, invalid_argument
from .http import Request, Response, error_page
from .service import SIGNATURE_DEF, PredictionService

_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
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
_MAX_INFLATED_BYTES = 100 * 1024 * 1024
_LOCAL_HOSTS = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]*)?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RestSettings:
    """How the REST side behaves.

    Attributes:
        timeout_s: seconds that a model may take; None is no limit.
        has_cors: whether pages of other origins may read the answers.
        checks_host: whether a Host header must name this machine.
    """

    timeout_s: float | None = 30
    has_cors: bool = False
    checks_host: bool = False


class RestFront:
    """Answers HTTP requests. The instance is the handler of an `HttpServer`."""

    def __init__(self, service: PredictionService, settings: RestSettings) -> None:
        self._service = service
        self._settings = settings

    def __call__(self, request: Request) -> Response:
        """Answers one request."""
        host = request.headers.get("host") or "localhost"
        if self._settings.checks_host and not _LOCAL_HOSTS.fullmatch(host):
            refusal = RequestError(
                Code.PERMISSION_DENIED,
                f"Host {host!r} is refused: this server is bound to loopback, and answers "
                "to localhost, 127.0.0.1 and [::1] only (--host=… serves others)",
            )
            return Response(403, _JSON, json_answers.write_error(refusal), closes=True)
        target = _TARGET.fullmatch(request.target)
        if target is None:
            return error_page(http.HTTPStatus.BAD_REQUEST)
        path = (target["path"] or "/") + target["rest"]
        if not _API.fullmatch(path):
            return error_page(http.HTTPStatus.NOT_FOUND)
        return self._answer_api(request, path)

    def _answer_api(self, request: Request, path: str) -> Response:
        extra = _CORS if self._settings.has_cors else {}
        if request.method == "OPTIONS":
            has_origin = re.search("https?://", request.headers.get("origin", ""))
            return Response(200 if has_origin else 400, extra)
        try:
            status, body = 200, self._answer_model(request, path)
        except _SilentError:
            status, body = 400, b""
        except RequestError as error:
            status, body = _HTTP_STATUS[error.code], json_answers.write_error(error)
        return Response(status, {**_JSON, **extra}, body)

    def _answer_model(self, request: Request, path: str) -> bytes:
        malformed = invalid_argument(f"Malformed request: {request.method} {path}")
        if request.method == "POST":
            match = _VERB.fullmatch(path)
            if match is None:
                raise malformed
            spec = _model_spec(match)
            body = _body(request)
            # The path is matched in any case, but a verb is in lower case.
            if match["verb"] == "predict":
                return self._predict(spec, body)
            if match["verb"] == "classify":
                return self._classify(spec, body)
            if match["verb"] == "regress":
                return self._regress(spec, body)
        elif request.method == "GET":
            match = _STATUS.fullmatch(path)
            if match is None:
                raise malformed
            spec = _model_spec(match)
            if not spec.name:
                raise invalid_argument("Missing model name in request.")
            return self._metadata(spec) if match["metadata"] == "metadata" else self._status(spec)
        raise malformed

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        parsed = json_requests.read_predict(body, lambda name: self._service.inputs_of(spec, name))
        spec.signature_name = parsed.signature_name
        answer = self._service.predict(spec, parsed.inputs, (), self._settings.timeout_s)
        return json_answers.write_outputs(answer.outputs, parsed.layout)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        parsed = json_requests.read_examples(body)
        spec.signature_name = parsed.signature_name
        request = classification_pb2.ClassificationRequest(model_spec=spec, input=parsed.examples)
        response = self._service.classify(request, self._settings.timeout_s)
        return json_answers.write_classifications(response.result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        parsed = json_requests.read_examples(body)
        spec.signature_name = parsed.signature_name
        request = regression_pb2.RegressionRequest(model_spec=spec, input=parsed.examples)
        response = self._service.regress(request, self._settings.timeout_s)
        return json_answers.write_regressions(response.result)

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return json_answers.write_status(self._service.status(request))

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[SIGNATURE_DEF]
        )
        return json_answers.write_metadata(self._service.metadata(request))


class _SilentError(Exception):
    """An error that TensorFlow Serving answers with an empty body."""


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    parts: Mapping[str, str | None] = match.groupdict()
    spec = model_pb2.ModelSpec(name=_unescaped(parts["name"] or ""))
    if parts["version"]:
        if int(parts["version"]) > _MAX_VERSION:
            raise _SilentError
        spec.version.value = int(parts["version"])
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

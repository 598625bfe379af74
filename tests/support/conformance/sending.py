"""Sends a recorded request, and puts the answer into the form of the recorded ones."""

import base64
import dataclasses
import gzip
import http.client
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from tensorflow_serving.apis import (  # noqa: F401  (their messages must be in the pool)
    get_model_metadata_pb2,
    model_service_pb2,
    prediction_service_pb2,
    session_service_pb2,
)
from waiting import PATIENCE_S

from conformance.cases import Case, Json

_COMPARED_HEADERS = ("content-type", "content-encoding", "allow", "location", "vary")


@dataclasses.dataclass(frozen=True)
class Target:
    """A running server: host and port of each side."""

    grpc: str
    rest: str


class Sender:
    """A connection to one server."""

    def __init__(self, target: Target) -> None:
        self._rest = target.rest
        self._channel = grpc.insecure_channel(
            target.grpc,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.enable_retries", 0),
            ],
        )

    def send(self, case: Case) -> dict[str, Json]:
        """Returns the answer: of REST `status`, `headers` and `body`, of gRPC `code` and `response` or `details`."""
        request = case.request
        return self._send_rest(request) if request["kind"] == "rest" else self._send_grpc(request)

    def close(self) -> None:
        self._channel.close()

    def _send_rest(self, request: dict[str, Json]) -> dict[str, Json]:
        body = base64.b64decode(request["body_b64"]) if "body_b64" in request else request.get("body")
        body = body.encode() if isinstance(body, str) else body
        host, _, port = self._rest.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=request.get("timeout_s", PATIENCE_S))
        try:
            # As it stands: nothing is added but Host and Content-Length.
            connection.putrequest(request["method"], request["path"], skip_accept_encoding=True)
            for name, value in request.get("headers", {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            return {"no_answer": type(error).__name__}
        finally:
            connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        if headers.get("content-encoding") == "gzip" and content:
            content = gzip.decompress(content)
        answer = {
            "status": response.status,
            "headers": {
                name: value
                for name, value in headers.items()
                if name in _COMPARED_HEADERS or name.startswith("access-control-")
            },
        }
        try:
            return {**answer, "body": content.decode()}
        except UnicodeDecodeError:
            return {**answer, "body_b64": base64.b64encode(content).decode()}

    def _send_grpc(self, request: dict[str, Json]) -> dict[str, Json]:
        types = _message_types(request["service"], request["method"])
        if "request_b64" in request:
            sent = base64.b64decode(request["request_b64"])
        else:
            sent = json_format.ParseDict(request["request"], types[0]()).SerializeToString()
        method = self._channel.unary_unary(f"/{request['service']}/{request['method']}")
        try:
            received = method(
                sent,
                timeout=request.get("timeout_s", PATIENCE_S),
                metadata=tuple(request.get("metadata", {}).items()),
            )
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details()}
        if types is None:
            return {"code": "OK", "response_b64": base64.b64encode(received).decode()}
        response = types[1].FromString(received)
        return {"code": "OK", "response": json_format.MessageToDict(response, preserving_proto_field_name=True)}


def _message_types(service: str, method: str) -> Any:
    """Returns the classes of a method's request and response; None for what TensorFlow Serving lacks."""
    if not service.startswith("tensorflow.serving."):
        return None
    try:
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    except KeyError:
        return None
    return message_factory.GetMessageClass(found.input_type), message_factory.GetMessageClass(found.output_type)

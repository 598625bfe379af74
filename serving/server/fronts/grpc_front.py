"""The gRPC side: the official services, answered by the shared core."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import descriptor, message, message_factory
from tensorflow_serving.apis import model_service_pb2, predict_pb2, prediction_service_pb2

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import RequestError
from ..inference.tensors import write_tensor
from ..metrics import Metrics, Stopwatch
from ..service import PredictionService, check_has_spec

_STATUS_CODES = {StatusCode(code.value[0]): code for code in grpc.StatusCode}
_NO_DEADLINE_S = 10 * 365 * 86400.0
"""A call without a deadline has one in the far future."""
_MAX_DETAILS = 1024
_NO_THREAD = "Server Threadpool Exhausted"
_REFUSING_THREADS = 2
"""So many threads more there are where requests are refused, which takes no time."""

Method = Callable[[Any, Call], Any]
"""Answers a request message; raises RequestError."""
_RELOAD = "HandleReloadConfigRequest"
_MEASURED_METHODS = ("Predict", "Classify", "Regress")
"""The methods whose requests TensorFlow Serving counts and times."""


@dataclasses.dataclass(frozen=True)
class GrpcSettings:
    """How the gRPC side behaves."""

    threads: int  # requests answered at a time; others wait for their turn
    # Whether these are refused at once instead, as TensorFlow Serving does. One of the threads then counts as the one
    # that listens, as in gRPC's C++ server: a request less is answered at a time, but one at least.
    refuses: bool = False
    answers_as_content: bool = False  # whether tensors are answered in `tensor_content`
    channel_arguments: Sequence[tuple[str, int | str]] = ()
    max_request_bytes: int = 256 * 1024 * 1024  # unpacked
    max_connections: int = 1000
    max_waiting: int = 512  # requests beyond those that are answered, where these wait
    timeout_s: float | None = 300  # that a request may take, but for a reload; None is no limit but the caller's
    has_health_service: bool = False  # it says that the server runs, and nothing of models, as in TensorFlow Serving


def create_server(service: PredictionService, settings: GrpcSettings, metrics: Metrics) -> grpc.Server:
    """Returns a gRPC server, without addresses yet."""
    options = {
        "grpc.max_receive_message_length": settings.max_request_bytes,
        "grpc.max_allowed_incoming_connections": settings.max_connections,
        "grpc.max_send_message_length": -1,
        # A second server on the same port is a mistake.
        "grpc.so_reuseport": 0,
        **dict(settings.channel_arguments),
    }
    methods = _methods(service, answers_as_content=settings.answers_as_content)
    # Where requests wait, they wait for a thread, and never find the slots taken.
    slots = max(settings.threads - 1, 1) if settings.refuses else settings.threads
    free = threading.Semaphore(slots)
    workers = futures.ThreadPoolExecutor(
        slots + _REFUSING_THREADS if settings.refuses else slots, thread_name_prefix="grpc"
    )
    most = None if settings.refuses else slots + settings.max_waiting
    server = grpc.server(workers, options=list(options.items()), maximum_concurrent_rpcs=most)
    for file in (prediction_service_pb2, model_service_pb2):
        for described in file.DESCRIPTOR.services_by_name.values():
            server.add_generic_rpc_handlers((_handlers(described, methods, metrics, free, settings.timeout_s),))
    if settings.has_health_service:
        # Only then: its release wants a protobuf as new as itself, and what pip installs beside Beam may be older.
        from .health import add_health_service

        add_health_service(server)
    server.add_generic_rpc_handlers((_UnknownMethods(),))
    return server


def _methods(service: PredictionService, *, answers_as_content: bool) -> dict[str, Method]:
    """Returns the methods of both services by name."""

    def predict(request: predict_pb2.PredictRequest, call: Call) -> predict_pb2.PredictResponse:
        check_has_spec(request)
        model_spec, outputs = service.predict(request.model_spec, request.inputs, request.output_filter, call)
        response = predict_pb2.PredictResponse(model_spec=model_spec)
        for name, array in outputs.items():
            write_tensor(array, response.outputs[name], as_content=answers_as_content)
        return response

    return {
        "Predict": predict,
        "Classify": service.classify,
        "Regress": service.regress,
        "MultiInference": service.multi_inference,
        "GetModelMetadata": lambda request, _: service.metadata(request),
        "GetModelStatus": lambda request, _: service.status(request),
        _RELOAD: service.reload,
    }


def _handlers(
    service: descriptor.ServiceDescriptor,
    methods: Mapping[str, Method],
    metrics: Metrics,
    free: threading.Semaphore,
    timeout_s: float | None,
) -> grpc.GenericRpcHandler:
    handlers = {}
    for method in service.methods:
        answer = methods[method.name]
        if method.name in _MEASURED_METHODS:
            answer = _measured(answer, method.name, metrics)
        request_type = message_factory.GetMessageClass(method.input_type)
        response_type = message_factory.GetMessageClass(method.output_type)
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            # Models may take long to load.
            _behaviour(answer, free, None if method.name == _RELOAD else timeout_s),
            request_deserializer=functools.partial(_read_message, request_type),
            response_serializer=response_type.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _read_message(message_type: Any, data: bytes) -> Any:
    """Returns a message; None where it cannot be read, which gRPC answers as an exception, but does not log."""
    try:
        return message_type.FromString(data)
    except message.DecodeError:
        return None


def _measured(method: Method, name: str, metrics: Metrics) -> Method:
    def answer(request: Any, call: Call) -> Any:
        answering = Stopwatch()
        model = request.model_spec.name
        try:
            response = method(request, call)
        except RequestError as error:
            metrics.count_request(model, error.code)
            raise
        metrics.measure_request(model, name, "GRPC", answering.seconds)
        metrics.count_request(model, StatusCode.OK)
        return response

    return answer


def _behaviour(
    method: Method, free: threading.Semaphore, timeout_s: float | None
) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Turns a method of the core into one of gRPC's, with its deadline, its cancelling and its errors."""
    longest_s = _NO_DEADLINE_S if timeout_s is None else timeout_s

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if not free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _NO_THREAD)
        try:
            asked_s = context.time_remaining()
            left_s = longest_s if asked_s is None else min(asked_s, longest_s)
            call = Call(left_s if left_s < _NO_DEADLINE_S else None)
            # Also called when the answer is out; there is nothing left to stop then.
            if not context.add_callback(call.cancel):
                call.cancel()
            return method(request, call)
        except RequestError as error:
            context.abort(_STATUS_CODES[error.code], _shortened(error.message))
        finally:
            free.release()

    return answer


def _shortened(text: str) -> str:
    """Cuts a text where TensorFlow Serving does: gRPC sends it among its headers."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= _MAX_DETAILS:
        return text
    return encoded[:_MAX_DETAILS].decode(errors="ignore") + "...TRUNCATED"


class _UnknownMethods(grpc.GenericRpcHandler):
    """Answers what no service has, in the words (none) of gRPC's C++ server."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    @staticmethod
    def _refuse(_: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

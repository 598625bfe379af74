"""Replays a model's recorded requests before it serves its first caller."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import RequestError, invalid_argument
from ..inference import examples, predictor
from ..inference.predictor import Model

logger = logging.getLogger(__name__)

_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_MAX_RECORDS = 1000
_AT_ONCE = 4
"""Requests that are replayed at one time: each holds what the model computes with."""
_METHODS = {"classify_log": predictor.CLASSIFY_METHOD, "regress_log": predictor.REGRESS_METHOD}


def warm_up(model: Model, path: str, iterations: int, new_call: Callable[[], AbstractContextManager[Call]]) -> int:
    """Replays the warm-up requests in a version's directory, each as a new call, and returns how many there were.

    First comes one request for each graph, several at one time: most of that is optimizing the graph, which one thread
    does. All others follow one by one, as they stand in the file.

    Raises:
        RequestError: the file is broken, the model refuses a request, or a call is cancelled.
    """
    file = os.path.join(path, _FILE)
    if not os.path.exists(file):
        logger.info("No warmup data file found at %s", file)
        return 0
    count = 0
    first: dict[tuple[object, ...], prediction_log_pb2.PredictionLog] = {}
    for record in _records(file):
        count += 1
        if count > _MAX_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {file}")
        first.setdefault(_graph_of(model, record), record)

    def replay(record: prediction_log_pb2.PredictionLog) -> None:
        for _ in range(iterations):
            with new_call() as call:
                call.check()
                _replay(model, record, call)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _AT_ONCE)) as pool:
        for _ in pool.map(replay, first.values()):
            pass
    for record in _records(file):
        if first.pop(_graph_of(model, record), None) is None:
            replay(record)
    return count


def _graph_of(model: Model, record: prediction_log_pb2.PredictionLog) -> tuple[object, ...]:
    """Returns what is the same of requests that run the same graph: two signatures may be names of one."""
    kind = record.WhichOneof("log_type")
    if kind != "predict_log":
        return (kind,)
    request = record.predict_log.request
    name = request.model_spec.signature_name or predictor.DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    graph = name if signature is None else signature.SerializeToString(deterministic=True)
    return graph, *sorted(request.output_filter)


def _records(file: str) -> Iterator[prediction_log_pb2.PredictionLog]:
    try:
        for serialized in tf.compat.v1.io.tf_record_iterator(file):
            try:
                yield prediction_log_pb2.PredictionLog.FromString(serialized)
            except message.DecodeError as error:
                raise invalid_argument(f"Failed to parse warmup record from {file}") from error
    except tf.errors.DataLossError as error:
        raise RequestError(
            StatusCode.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from error
    except tf.errors.OpError as error:
        raise RequestError(StatusCode(error.error_code), error.message) from error


def _replay(model: Model, record: prediction_log_pb2.PredictionLog, call: Call) -> None:
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        predict = record.predict_log.request
        predictor.predict(model, predict.model_spec.signature_name, predict.inputs, predict.output_filter, call)
    elif kind in _METHODS:
        request = getattr(record, kind).request
        examples.infer(model, _METHODS[kind], request.model_spec.signature_name, request.input, call)
    elif kind == "multi_inference_log":
        several = record.multi_inference_log.request
        examples.multi_inference(model, several.tasks, several.input, call)
    elif kind is not None:
        number = record.DESCRIPTOR.fields_by_name[kind].number
        raise RequestError(StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")

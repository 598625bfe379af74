"""Answers predict requests with one loaded model.

The rules and texts are TensorFlow Serving's. Both fronts come here, and so does the warm-up.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import RequestError, invalid_argument
from ..metrics import Stopwatch
from .saved_model import Runner
from .tensors import Array, TensorError, read_tensor

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

Inputs = Mapping[str, Array | tensor_pb2.TensorProto]
"""A request's tensors by name. Messages become arrays once the names are found right, as in TensorFlow Serving."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model, as requests see it."""

    runner: Runner
    signatures: Mapping[str, meta_graph_pb2.SignatureDef]
    checks_method_names: bool = False  # whether classify and regress want signatures made for them
    max_rows: int | None = None  # of a request: strings, or arrays of two axes and more


def predict(
    model: Model,
    signature_name: str,
    inputs: Inputs,
    output_filter: Sequence[str],
    call: Call,
) -> dict[str, Array]:
    """Runs one signature, and returns arrays by its names for the outputs.

    Args:
        model: has the signature.
        signature_name: empty for the default one.
        inputs: by the signature's names for them; what is left out takes the signature's default.
        output_filter: the outputs to return; all where it is empty.
        call: whom it is for.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    name = signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise RequestError(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    methods = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if model.checks_method_names and signature.method_name not in methods:
        raise RequestError(
            StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}. "
            f"Was: {signature.method_name}",
        )
    _check_number_of_inputs(signature, inputs)
    feeds = _feeds(signature, inputs)
    aliases = _checked_outputs(signature, output_filter)
    fetched = run(model, feeds, [signature.outputs[alias].name for alias in aliases], call)
    return dict(zip(aliases, fetched, strict=True))


def run(model: Model, feeds: Mapping[str, Array], fetches: Sequence[str], call: Call) -> list[Array]:
    """Runs a model's graph, and notes how long that took; see `Runner.run`."""
    # Numbers alone take no longer than their bytes; a string may be a picture, which takes its time however small.
    rows = max(
        (len(array) for array in feeds.values() if array.ndim > 2 or (array.ndim and array.dtype.hasobject)), default=0
    )
    if model.max_rows is not None and rows > model.max_rows:
        raise invalid_argument(
            f"{rows} rows are more than a request may have here: {model.max_rows} (--max_request_rows)"
        )
    running = Stopwatch()
    try:
        return model.runner.run(feeds, fetches, call)
    finally:
        call.run_s = running.seconds


def _check_number_of_inputs(signature: meta_graph_pb2.SignatureDef, inputs: Inputs) -> None:
    wanted = len(signature.inputs)
    if len(inputs) == wanted or (len(inputs) < wanted and signature.defaults):
        return
    sent, known = set(inputs), set(signature.inputs)
    raise invalid_argument(
        f"input size does not match signature: {len(sent)}!={wanted} len({_braced(sent)}) != "
        f"len({_braced(known)}). Sent extra: {_braced(sent - known)}. "
        f"Missing but required: {_braced(known - sent)}."
    )


def _feeds(signature: meta_graph_pb2.SignatureDef, inputs: Inputs) -> dict[str, Array]:
    feeds = {}
    for alias in sorted(signature.inputs):
        feed_name = signature.inputs[alias].name
        if alias in inputs:
            feeds[feed_name] = _array(alias, inputs[alias])
        elif alias in signature.defaults:
            feeds[feed_name] = _array(alias, signature.defaults[alias])
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {feed_name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {_braced(inputs)}, or default input "
                f"alias set: {','.join(sorted(signature.defaults))}"
            )
    used = set(inputs) & set(signature.inputs)
    if len(used) < len(inputs):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(used))}, "
            f"request input: {','.join(sorted(inputs))}"
        )
    return feeds


def _array(alias: str, value: Array | tensor_pb2.TensorProto) -> Array:
    if isinstance(value, np.ndarray):
        return value
    try:
        return read_tensor(value)
    except (TensorError, MemoryError):
        raise invalid_argument(f"tensor parsing error: {alias}") from None


def _checked_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    if not output_filter:
        return list(signature.outputs)
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_braced(signature.outputs)}."
            )
        if alias in chosen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"

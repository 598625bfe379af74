"""Calls as gRPC messages, and the messages that answer them."""

from typing import Any

import numpy.typing as npt
from google.protobuf.message import DecodeError, EncodeError, Message

from ...status_codes import StatusCode
from ...wire import messages, tensors
from ..errors import InvalidResponseError, MessageTooLargeError
from .calls import Call, MetadataCall, PredictCall, Prediction, StatusCall, Target
from .refusals import error_of_code
from .signatures import metadata_of_message, statuses_of_message

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Protobuf's own limit."""
_INPUTS = messages.PredictRequest.DESCRIPTOR.fields_by_name["inputs"].number
_KEY, _VALUE = 1, 2  # of an entry of a map
_TOO_LARGE = f"the request is larger than {MAX_MESSAGE_BYTES} bytes"


def encode(call: Call) -> tuple[str, bytes]:
    """Returns the path of a call's method and the message to send to it; `MessageTooLargeError` where none can be."""
    request: Message
    inputs: list[bytes | memoryview] = []
    if isinstance(call, PredictCall):
        spec = _spec(call.target, call.signature.name)
        request = messages.PredictRequest(model_spec=spec, output_filter=list(call.outputs))
        for name, array in call.inputs.items():
            inputs += _input(name, array, messages.DataType.Value(call.signature.inputs[name].data_type))
        if sum(map(len, inputs)) > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(_TOO_LARGE)
    elif isinstance(call, MetadataCall):
        request = messages.GetModelMetadataRequest(model_spec=_spec(call.target), metadata_field=["signature_def"])
    elif isinstance(call, StatusCall):
        request = messages.GetModelStatusRequest(model_spec=_spec(call.target))
    else:
        request = messages.ReloadConfigRequest(config=call.config)
    service = "PredictionService" if isinstance(call, PredictCall | MetadataCall) else "ModelService"
    try:
        return f"/tensorflow.serving.{service}/{call.name}", b"".join((request.SerializeToString(), *inputs))
    except (EncodeError, ValueError) as error:
        raise MessageTooLargeError(_TOO_LARGE) from error


def decode(call: Call, message: bytes) -> Any:
    """Returns what the message that answers a call says (`calls.Reply.value`), or raises the error that it tells of.

    Raises `InvalidResponseError` where it cannot be understood.
    """
    try:
        if isinstance(call, PredictCall):
            return _prediction(messages.PredictResponse.FromString(message))
        if isinstance(call, MetadataCall):
            response = messages.GetModelMetadataResponse.FromString(message)
            if "signature_def" not in response.metadata:
                raise InvalidResponseError("the answer holds no signatures")
            # The Any names the official type; its bytes are read as our message of the same fields.
            signatures = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
            return metadata_of_message(call.target.model, _version(response.model_spec), signatures)
        if isinstance(call, StatusCall):
            return statuses_of_message(messages.GetModelStatusResponse.FromString(message))
        status = messages.ReloadConfigResponse.FromString(message).status
        if status.error_code:
            raise error_of_code(StatusCode(status.error_code), status.error_message)
        return None
    except (DecodeError, tensors.TensorError, ValueError) as error:
        raise InvalidResponseError(f"the answer cannot be understood: {error}") from error


def _input(name: str, array: npt.NDArray[Any], data_type: int) -> list[bytes | memoryview]:
    """Returns, serialised and in pieces, one entry of a PredictRequest's inputs: its key and its TensorProto."""
    key, tensor = name.encode(), tensors.tensor_pieces(array, data_type)
    length = sum(map(len, tensor))
    head = b"".join((tensors.delimiter(_KEY, len(key)), key, tensors.delimiter(_VALUE, length)))
    return [tensors.delimiter(_INPUTS, len(head) + length), head, *tensor]


def _spec(target: Target, signature: str = "") -> messages.ModelSpec:
    spec = messages.ModelSpec(name=target.model, signature_name=signature)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label
    return spec


def _version(spec: messages.ModelSpec) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _prediction(response: messages.PredictResponse) -> Prediction:
    outputs = {}
    for name, tensor in response.outputs.items():
        try:
            outputs[name] = tensors.to_array(tensor)
        except tensors.TensorError as error:
            raise InvalidResponseError(f"output {name!r}: {error}") from error
    return Prediction(outputs, _version(response.model_spec))

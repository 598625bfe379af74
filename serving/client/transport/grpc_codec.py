"""Calls as gRPC messages, and the messages that answer them."""

from typing import Any

from google.protobuf.message import DecodeError, EncodeError, Message

from ...status_codes import StatusCode
from ...wire import methods, tensors
from ...wire.messages import (
    DataType,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    PredictRequest,
    PredictResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
    SignatureDefMap,
)
from ..errors import InvalidResponseError, MessageTooLargeError, error_of_code
from .calls import Call, MetadataCall, PredictCall, Prediction, ReloadCall, StatusCall, Target
from .signatures import ModelMetadata, ModelState, VersionStatus, metadata_of_message

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Protobuf's own limit."""


def encode(call: Call) -> tuple[str, bytes]:
    """Returns the path of a call's method and the message to send to it.

    Raises:
        MessageTooLargeError: no message can be that large.
    """
    if isinstance(call, PredictCall):
        return methods.PREDICT.path, _serialize(_predict_request(call))
    if isinstance(call, MetadataCall):
        request = GetModelMetadataRequest(model_spec=_spec(call.target), metadata_field=["signature_def"])
        return methods.GET_MODEL_METADATA.path, _serialize(request)
    if isinstance(call, StatusCall):
        return methods.GET_MODEL_STATUS.path, _serialize(GetModelStatusRequest(model_spec=_spec(call.target)))
    return methods.RELOAD_CONFIG.path, _serialize(ReloadConfigRequest(config=call.config))


def decode(call: Call, message: bytes) -> Any:
    """Returns what the message that answers a call says: see `calls.Reply.value`.

    Raises:
        InvalidResponseError: it cannot be understood.
        MaskServingError: it tells of an error.
    """
    try:
        if isinstance(call, PredictCall):
            return _prediction(PredictResponse.FromString(message))
        if isinstance(call, MetadataCall):
            return _metadata(call, GetModelMetadataResponse.FromString(message))
        if isinstance(call, StatusCall):
            return _statuses(GetModelStatusResponse.FromString(message))
        return _check_reload(call, ReloadConfigResponse.FromString(message))
    except (DecodeError, tensors.TensorError, ValueError) as error:
        raise InvalidResponseError(f"the answer cannot be understood: {error}") from error


def _serialize(message: Message) -> bytes:
    try:
        return message.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise MessageTooLargeError(f"the request is larger than {MAX_MESSAGE_BYTES} bytes") from error


def _spec(target: Target, signature: str = "") -> ModelSpec:
    spec = ModelSpec(name=target.model, signature_name=signature)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label
    return spec


def _predict_request(call: PredictCall) -> PredictRequest:
    request = PredictRequest(model_spec=_spec(call.target, call.signature.name), output_filter=list(call.outputs))
    if sum(array.nbytes for array in call.inputs.values()) > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(f"the request is larger than {MAX_MESSAGE_BYTES} bytes")
    for name, array in call.inputs.items():
        data_type = DataType.Value(call.signature.inputs[name].data_type)
        tensors.write_tensor(request.inputs[name], array, data_type)
    return request


def _prediction(response: PredictResponse) -> Prediction:
    spec = response.model_spec
    version = spec.version.value if spec.HasField("version") else None
    outputs = {}
    for name, tensor in response.outputs.items():
        try:
            outputs[name] = tensors.to_array(tensor)
        except tensors.TensorError as error:
            raise InvalidResponseError(f"output {name!r}: {error}") from error
    return Prediction(outputs, version)


def _metadata(call: MetadataCall, response: GetModelMetadataResponse) -> ModelMetadata:
    if "signature_def" not in response.metadata:
        raise InvalidResponseError("the answer holds no signatures")
    # The Any names the official type; its bytes are read as our message of the same fields.
    signatures = SignatureDefMap.FromString(response.metadata["signature_def"].value)
    spec = response.model_spec
    return metadata_of_message(call.target.model, spec.version.value if spec.HasField("version") else None, signatures)


def _statuses(response: GetModelStatusResponse) -> list[VersionStatus]:
    return [
        VersionStatus(
            status.version,
            ModelState(status.state),
            StatusCode(status.status.error_code).name,
            status.status.error_message,
        )
        for status in response.model_version_status
    ]


def _check_reload(call: ReloadCall, response: ReloadConfigResponse) -> None:
    if response.status.error_code:
        raise error_of_code(StatusCode(response.status.error_code), response.status.error_message)

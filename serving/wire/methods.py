"""The gRPC methods that a client calls. The paths are written out, as the official services have them."""

import dataclasses
from typing import Generic, TypeVar

from google.protobuf.message import Message

from . import messages

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


@dataclasses.dataclass(frozen=True)
class Method(Generic[_Request, _Response]):
    """A unary gRPC method.

    Attributes:
        path: as HTTP/2 carries it.
        request: class of the message that it takes.
        response: class of the message that it answers with.
    """

    path: str
    request: type[_Request]
    response: type[_Response]


_PREDICTION_SERVICE = "/tensorflow.serving.PredictionService"
_MODEL_SERVICE = "/tensorflow.serving.ModelService"

PREDICT = Method(f"{_PREDICTION_SERVICE}/Predict", messages.PredictRequest, messages.PredictResponse)
GET_MODEL_METADATA = Method(
    f"{_PREDICTION_SERVICE}/GetModelMetadata",
    messages.GetModelMetadataRequest,
    messages.GetModelMetadataResponse,
)
GET_MODEL_STATUS = Method(
    f"{_MODEL_SERVICE}/GetModelStatus", messages.GetModelStatusRequest, messages.GetModelStatusResponse
)
RELOAD_CONFIG = Method(
    f"{_MODEL_SERVICE}/HandleReloadConfigRequest", messages.ReloadConfigRequest, messages.ReloadConfigResponse
)

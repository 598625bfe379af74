"""The client of a served segmentation model. It never imports TensorFlow."""

from ..status_codes import StatusCode
from .async_client import AsyncMaskClient
from .calling.observers import ObservedCall, Observer
from .calling.retries import NO_RETRIES, RetryPolicy
from .client import MaskClient
from .errors import (
    AccessDeniedError,
    CallCancelledError,
    ClientClosedError,
    DeadlineExceededError,
    InvalidAddressError,
    InvalidImageError,
    InvalidRequestError,
    InvalidResponseError,
    MaskServingError,
    MessageTooLargeError,
    MixedSizesError,
    ModelFaultError,
    ModelNotFoundError,
    ModelStateError,
    OutputNotRequestedError,
    ServerBusyError,
    ServerFaultError,
    ServerOverloadedError,
    ServerUnavailableError,
    SignatureNotFoundError,
    UnsupportedCallError,
)
from .results.mask_result import MaskResult, SegmentItem
from .results.polygons import Polygon
from .results.rle import Rle, decode_rle, encode_rle
from .segmenting.large import LargeResult
from .transport.security import Tls
from .transport.signatures import ModelMetadata, ModelState, SignatureInfo, TensorSpec, VersionStatus

__all__ = [
    "NO_RETRIES",
    "AccessDeniedError",
    "AsyncMaskClient",
    "CallCancelledError",
    "ClientClosedError",
    "DeadlineExceededError",
    "InvalidAddressError",
    "InvalidImageError",
    "InvalidRequestError",
    "InvalidResponseError",
    "LargeResult",
    "MaskClient",
    "MaskResult",
    "MaskServingError",
    "MessageTooLargeError",
    "MixedSizesError",
    "ModelFaultError",
    "ModelMetadata",
    "ModelNotFoundError",
    "ModelState",
    "ModelStateError",
    "ObservedCall",
    "Observer",
    "OutputNotRequestedError",
    "Polygon",
    "RetryPolicy",
    "Rle",
    "SegmentItem",
    "ServerBusyError",
    "ServerFaultError",
    "ServerOverloadedError",
    "ServerUnavailableError",
    "SignatureInfo",
    "SignatureNotFoundError",
    "StatusCode",
    "TensorSpec",
    "Tls",
    "UnsupportedCallError",
    "VersionStatus",
    "decode_rle",
    "encode_rle",
]

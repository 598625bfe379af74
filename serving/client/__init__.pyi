from .async_client import (
    AsyncMaskClient as AsyncMaskClient,
)
from .calling.observers import (
    ObservedCall as ObservedCall,
    Observer as Observer,
)
from .calling.retries import (
    NO_RETRIES as NO_RETRIES,
    RetryPolicy as RetryPolicy,
)
from .client import (
    MaskClient as MaskClient,
)
from .errors import (
    AccessDeniedError as AccessDeniedError,
    CallCancelledError as CallCancelledError,
    ClientClosedError as ClientClosedError,
    DeadlineExceededError as DeadlineExceededError,
    InvalidAddressError as InvalidAddressError,
    InvalidImageError as InvalidImageError,
    InvalidRequestError as InvalidRequestError,
    InvalidResponseError as InvalidResponseError,
    MaskServingError as MaskServingError,
    MessageTooLargeError as MessageTooLargeError,
    MixedSizesError as MixedSizesError,
    MixedVersionsError as MixedVersionsError,
    ModelFaultError as ModelFaultError,
    ModelNotFoundError as ModelNotFoundError,
    ModelStateError as ModelStateError,
    OutputNotRequestedError as OutputNotRequestedError,
    ServerBusyError as ServerBusyError,
    ServerFaultError as ServerFaultError,
    ServerOverloadedError as ServerOverloadedError,
    ServerUnavailableError as ServerUnavailableError,
    SignatureNotFoundError as SignatureNotFoundError,
    StatusCode as StatusCode,
    UnsupportedCallError as UnsupportedCallError,
)
from .results.mask_result import (
    MaskResult as MaskResult,
    SegmentItem as SegmentItem,
)
from .results.polygons import (
    Polygon as Polygon,
)
from .results.rle import (
    Rle as Rle,
    decode_rle as decode_rle,
    encode_rle as encode_rle,
)
from .segmenting.large import (
    LargeResult as LargeResult,
)
from .transport.security import (
    Tls as Tls,
)
from .transport.signatures import (
    ModelMetadata as ModelMetadata,
    ModelState as ModelState,
    SignatureInfo as SignatureInfo,
    TensorSpec as TensorSpec,
    VersionStatus as VersionStatus,
)
